//! The documents that a config is made of.

use std::fmt;

use super::Problem;
use super::yaml::{self, Mapping, Node};

/// The kind by which Talos knows the document that has none.
pub(super) const MACHINE: &str = "v1alpha1";

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub id: Id,
    pub content: Mapping,
}

/// What tells documents apart; a text is empty where the document has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    version: String,
    kind: String,
    name: String,
}

impl Document {
    /// A document of Talos's own version.
    pub fn new(kind: &str, content: Mapping) -> Self {
        let head = Mapping::default().with("apiVersion", Node::text("v1alpha1"));
        let Mapping(mut entries) = head.with("kind", Node::text(kind));
        entries.extend(content.0);
        let id = Id { version: "v1alpha1".into(), kind: kind.into(), name: String::new() };
        Self { id, content: Mapping(entries) }
    }

    pub fn is(&self, kind: &str) -> bool {
        self.id.kind == kind
    }

    /// Whether this is the document with `machine` and `cluster`.
    pub fn is_machine(&self) -> bool {
        self.is(MACHINE)
    }

    pub fn kind(&self) -> &str {
        &self.id.kind
    }

    /// A place in this document, for messages.
    pub fn place(&self, path: &[String]) -> String {
        let mut place = if self.is_machine() { String::new() } else { self.to_string() };
        for step in path {
            // A key may be anything; what does not look like a field's name stays untold.
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_/.[]".contains(&b);
            let shown = step.len() <= 64 && step.bytes().all(plain);
            if !place.is_empty() && !step.starts_with('[') {
                place.push('.');
            }
            place.push_str(if shown { step } else { "?" });
        }
        if place.is_empty() { "the document".to_owned() } else { place }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Id { kind, name, .. } = &self.id;
        match (self.is_machine(), name.is_empty()) {
            (true, _) => f.write_str("the document with `machine`"),
            (false, true) => f.write_str(kind),
            (false, false) => write!(f, "{kind}({name})"),
        }
    }
}

/// Reads the documents of a config or a patch, without the empty ones.
pub(super) fn read(text: &str) -> Result<Vec<Document>, Problem> {
    let mut documents = Vec::new();
    for (index, node) in yaml::read(text)?.into_iter().enumerate() {
        match node {
            Node::Mapping(content) if content.0.is_empty() => {}
            Node::Mapping(content) => {
                let id = identify(&content).ok_or(Problem::NoKind(index + 1))?;
                documents.push(Document { id, content });
            }
            node if node.is_null() => {}
            Node::Sequence(_) => return Err(Problem::JsonPatch),
            Node::Scalar(_) => return Err(Problem::NoMapping(index + 1)),
        }
    }
    Ok(documents)
}

fn identify(content: &Mapping) -> Option<Id> {
    let (version, kind) = (content.text("apiVersion"), content.text("kind"));
    if version.is_empty() && kind.is_empty() {
        let fields = ["version", "machine", "cluster", "debug", "persist", "$patch"];
        let known = fields.iter().any(|field| content.get(field).is_some());
        return known.then(|| Id {
            version: String::new(),
            kind: MACHINE.to_owned(),
            name: String::new(),
        });
    }
    if version.is_empty() || kind.is_empty() {
        return None;
    }
    let name = content.text("name").to_owned();
    Some(Id { version: version.to_owned(), kind: kind.to_owned(), name })
}
