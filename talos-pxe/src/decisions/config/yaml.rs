//! YAML as a tree that keeps every scalar as it was written.
//!
//! Talos reads many fields as text whatever they look like: a label `1.10`, a permission `0644`, a
//! hostname `off`. A reader that turns them into numbers and booleans and writes those again would
//! change them, so here a scalar is its text and whether it stood there without quotes.

use std::collections::HashMap;
use std::fmt::Write;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

/// How deep a document may be nested.
const MAX_DEPTH: usize = 64;
/// How much a stream of documents may hold with all aliases written out, in bytes.
const MAX_WEIGHT: usize = 16 << 20;
/// The most keys of one mapping.
const MAX_KEYS: usize = 4096;
/// Longer keys cannot be written on one line (YAML 1.2.2, section 7.4.2), in bytes.
const MAX_KEY: usize = 512;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// A text, number, boolean or null, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub text: String,
    /// Without quotes: what it means depends on how it looks, and on who reads it.
    pub plain: bool,
}

/// Keys with their values, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping(pub Vec<(Scalar, Node)>);

/// Why text cannot be read. It never quotes the text, which may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} column {column}: {reason}")]
pub struct Malformed {
    line: usize,
    column: usize,
    reason: &'static str,
}

impl Node {
    /// Text that stays text.
    pub fn text(text: &str) -> Self {
        Self::Scalar(Scalar { text: text.to_owned(), plain: false })
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(scalar) if scalar.plain
            && ["", "~", "null", "Null", "NULL"].contains(&scalar.text.as_str()))
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// What this holds and costs, in bytes.
    fn weight(&self) -> usize {
        let inside = match self {
            Self::Scalar(scalar) => scalar.text.len(),
            Self::Sequence(items) => items.iter().map(Self::weight).sum(),
            Self::Mapping(Mapping(entries)) => {
                entries.iter().map(|(key, value)| key.text.len() + value.weight()).sum()
            }
        };
        inside + 32
    }
}

impl Mapping {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// The text of a scalar; empty when there is none.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).filter(|node| !node.is_null()).and_then(Node::as_text).unwrap_or_default()
    }

    pub fn set(&mut self, key: &str, value: Node) {
        match self.get_mut(key) {
            Some(old) => *old = value,
            None => self.0.push((Scalar { text: key.to_owned(), plain: true }, value)),
        }
    }

    /// With one more entry.
    pub fn with(mut self, key: &str, value: Node) -> Self {
        self.set(key, value);
        self
    }

    /// Takes an entry out; `None` when there is none.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|(name, _)| name.text == key)?;
        Some(self.0.remove(index).1)
    }
}

/// Reads a stream of documents.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Malformed> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        reader.take(event).map_err(|reason| malformed(span, reason))?;
    }
    Ok(reader.documents)
}

fn not_yaml(error: &ScanError) -> Malformed {
    let at = error.marker();
    Malformed { line: at.line(), column: at.col() + 1, reason: "not valid YAML" }
}

fn malformed(span: Span, reason: &'static str) -> Malformed {
    Malformed { line: span.start.line(), column: span.start.col() + 1, reason }
}

/// Builds the tree from the parser's events.
#[derive(Default)]
struct Reader {
    documents: Vec<Node>,
    /// Collections that are not yet complete, the outermost first, each with its anchor.
    open: Vec<(Open, usize)>,
    /// Nodes that aliases may name.
    anchors: HashMap<usize, Node>,
    weight: usize,
}

enum Open {
    Sequence(Vec<Node>),
    /// With the key whose value comes next.
    Mapping(Mapping, Option<Scalar>),
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    plain: style == ScalarStyle::Plain && tag.is_none(),
                    text: text.into_owned(),
                };
                check_tag(tag.as_deref(), "str")?;
                let node = Node::Scalar(scalar);
                self.charge(node.weight())?;
                self.complete(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.start(Open::Sequence(Vec::new()), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.start(Open::Mapping(Mapping::default(), None), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::Sequence(items), anchor)) => {
                    self.complete(Node::Sequence(items), anchor)
                }
                Some((Open::Mapping(mapping, _), anchor)) => {
                    self.complete(Node::Mapping(mapping), anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let weight = self.anchors.get(&anchor).map(Node::weight);
                self.charge(weight.ok_or("an alias of what it stands in")?)?;
                let node = self.anchors.get(&anchor).cloned();
                node.map_or(Ok(()), |node| self.complete(node, 0))
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, open: Open, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() == MAX_DEPTH {
            return Err("nested too deeply");
        }
        self.charge(32)?;
        self.open.push((open, anchor));
        Ok(())
    }

    fn charge(&mut self, weight: usize) -> Result<(), &'static str> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_WEIGHT {
            Err("too large, with all aliases written out")
        } else {
            Ok(())
        }
    }

    /// Puts a complete node where it belongs. Anchors count from 1; 0 is none.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), &'static str> {
        if anchor != 0 {
            self.charge(node.weight())?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some((Open::Sequence(items), _)) => items.push(node),
            Some((Open::Mapping(mapping, key), _)) => match (key.take(), node) {
                (Some(key), node) => mapping.0.push((key, node)),
                (None, Node::Scalar(name)) => *key = Some(checked_key(mapping, name)?),
                (None, _) => return Err("a key that is no text"),
            },
        }
        Ok(())
    }
}

/// Only the tags that say what the node is anyway.
fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), &'static str> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err("tags such as !!binary are not supported")
        }
        _ => Ok(()),
    }
}

fn checked_key(mapping: &Mapping, key: Scalar) -> Result<Scalar, &'static str> {
    if key.plain && key.text == "<<" {
        Err("merge keys (<<) are not supported: write the entries out")
    } else if key.text.len() > MAX_KEY {
        Err("too long a key")
    } else if mapping.0.len() == MAX_KEYS {
        Err("too many keys")
    } else if mapping.get(&key.text).is_some() {
        Err("a key that stands there twice")
    } else {
        Ok(key)
    }
}

/// Writes documents, each scalar as it was read.
pub(super) fn write<'a>(documents: impl IntoIterator<Item = &'a Mapping>) -> String {
    let mut out = String::new();
    for (index, document) in documents.into_iter().enumerate() {
        if index > 0 {
            out.push_str("---\n");
        }
        if document.0.is_empty() {
            out.push_str("{}\n");
        }
        write_mapping(&mut out, document, 0);
    }
    out
}

fn write_mapping(out: &mut String, Mapping(entries): &Mapping, indent: usize) {
    for (index, (key, value)) in entries.iter().enumerate() {
        // The first entry of a mapping in a list stands behind the list's hyphen.
        if index > 0 || !out.ends_with("- ") {
            pad(out, indent);
        }
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
        let starts_bare = key.text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if key.plain && starts_bare && key.text.bytes().all(bare) {
            out.push_str(&key.text);
        } else {
            write_quoted(out, &key.text);
        }
        out.push(':');
        match value {
            Node::Mapping(mapping) if !mapping.0.is_empty() => {
                out.push('\n');
                write_mapping(out, mapping, indent + 4);
            }
            Node::Sequence(items) if !items.is_empty() => {
                out.push('\n');
                write_sequence(out, items, indent + 4);
            }
            _ => {
                out.push(' ');
                write_flat(out, value);
            }
        }
    }
}

fn write_sequence(out: &mut String, items: &[Node], indent: usize) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !out.ends_with("- ") {
            pad(out, indent);
        }
        out.push_str("- ");
        match item {
            Node::Mapping(mapping) if !mapping.0.is_empty() => {
                write_mapping(out, mapping, indent + 2);
            }
            Node::Sequence(items) if !items.is_empty() => write_sequence(out, items, indent + 2),
            _ => write_flat(out, item),
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Writes a scalar or an empty collection, and ends the line.
fn write_flat(out: &mut String, node: &Node) {
    match node {
        Node::Mapping(_) => out.push_str("{}"),
        Node::Sequence(_) => out.push_str("[]"),
        node if node.is_null() => out.push_str("null"),
        Node::Scalar(scalar) => {
            // What was folded from several lines is text in any case.
            let one_line = !scalar.text.contains(char::is_control)
                && !scalar.text.contains(": ")
                && !scalar.text.contains(" #")
                && !scalar.text.ends_with(':');
            if scalar.plain && one_line {
                out.push_str(&scalar.text);
            } else {
                write_quoted(out, &scalar.text);
            }
        }
    }
    out.push('\n');
}

/// Writes text in double quotes, on one line (YAML 1.2.2, section 5.7).
fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{feff}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
