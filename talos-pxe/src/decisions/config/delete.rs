//! `$patch: delete`.

use super::Problem;
use super::document::Document;
use super::yaml::{Mapping, Node};

const PATCH: &str = "$patch";

/// Something that a patch deletes.
#[derive(Debug)]
pub(super) struct Deletion {
    /// The keys that lead to it; none for the whole document.
    path: Vec<String>,
    /// If it is an entry of the list there: a key of it with its value.
    entry: Option<(String, String)>,
}

/// Takes the deletions out of a document of a patch. What is left of it is to be merged.
pub(super) fn take(patch: &mut Document) -> Result<Vec<Deletion>, Problem> {
    let mut content = Node::Mapping(std::mem::take(&mut patch.content));
    let mut taker = Taker { document: patch, path: Vec::new(), deletions: Vec::new() };
    taker.node(&mut content)?;
    let deletions = taker.deletions;
    if let Node::Mapping(content) = content {
        patch.content = content;
    }
    match deletions.first() {
        Some(first) if first.is_whole() && patch.is_machine() => {
            Err(Problem::NotDeletable(patch.place(&[])))
        }
        _ => Ok(deletions),
    }
}

struct Taker<'a> {
    document: &'a Document,
    path: Vec<String>,
    deletions: Vec<Deletion>,
}

impl Taker<'_> {
    /// Says whether nothing is left of the node, because all of it was about deletions.
    fn node(&mut self, node: &mut Node) -> Result<bool, Problem> {
        match node {
            Node::Mapping(mapping) if mapping.get(PATCH).is_some() => {
                if mapping.text(PATCH) != "delete" {
                    return Err(Problem::UnknownPatch(self.place()));
                }
                let deletion = self.deletion(mapping)?;
                self.deletions.push(deletion);
                Ok(true)
            }
            Node::Mapping(Mapping(entries)) => {
                let before = entries.len();
                let mut kept = Vec::with_capacity(before);
                for (key, mut value) in std::mem::take(entries) {
                    self.path.push(key.text.clone());
                    if !self.node(&mut value)? {
                        kept.push((key, value));
                    }
                    self.path.pop();
                }
                *entries = kept;
                Ok(entries.is_empty() && before > 0)
            }
            Node::Sequence(items) => {
                let before = items.len();
                let mut kept = Vec::with_capacity(before);
                for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
                    self.path.push(format!("[{index}]"));
                    if !self.node(&mut item)? {
                        kept.push(item);
                    }
                    self.path.pop();
                }
                *items = kept;
                Ok(items.is_empty() && before > 0)
            }
            Node::Scalar(_) => Ok(false),
        }
    }

    /// The deletion that the mapping at the current path asks for.
    fn deletion(&self, mapping: &Mapping) -> Result<Deletion, Problem> {
        let in_list = |step: &String| step.starts_with('[');
        let (last, parents) = match self.path.split_last() {
            Some((last, parents)) => (Some(last), parents),
            None => (None, self.path.as_slice()),
        };
        if parents.iter().any(in_list) {
            return Err(Problem::NotDeletable(self.place()));
        }
        if !last.is_some_and(in_list) {
            return Ok(Deletion { path: self.path.clone(), entry: None });
        }
        let mut others = mapping.0.iter().filter(|(key, _)| key.text != PATCH);
        let entry = others.next().and_then(|(key, value)| Some((&key.text, value.as_text()?)));
        let (key, value) = entry.ok_or_else(|| Problem::WhichEntry(self.place()))?;
        Ok(Deletion { path: parents.to_vec(), entry: Some((key.clone(), value.to_owned())) })
    }

    fn place(&self) -> String {
        self.document.place(&self.path)
    }
}

impl Deletion {
    /// Whether it is the document that is to go.
    pub fn is_whole(&self) -> bool {
        self.path.is_empty()
    }

    /// Deletes it from a document, if it is not the whole.
    pub fn apply(&self, document: &mut Document) -> Result<(), Problem> {
        self.find_and_remove(&mut document.content).ok_or_else(|| self.nothing_there(document))
    }

    /// The error when there is nothing to delete.
    pub fn nothing_there(&self, document: &Document) -> Problem {
        let place = document.place(&self.path);
        Problem::NothingToDelete(if self.entry.is_some() { place + "[]" } else { place })
    }

    fn find_and_remove(&self, content: &mut Mapping) -> Option<()> {
        let (last, parents) = self.path.split_last()?;
        let mut mapping = content;
        for step in parents {
            let Node::Mapping(inner) = mapping.get_mut(step)? else { return None };
            mapping = inner;
        }
        let Some((key, value)) = &self.entry else { return mapping.remove(last).map(drop) };
        let Node::Sequence(items) = mapping.get_mut(last)? else { return None };
        let is_it = |item: &Node| {
            let Node::Mapping(item) = item else { return false };
            item.get(key).and_then(Node::as_text) == Some(value)
        };
        let index = items.iter().position(is_it)?;
        items.remove(index);
        Some(())
    }
}
