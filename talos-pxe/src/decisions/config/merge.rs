//! One document merged into another.

use super::Problem;
use super::document::Document;
use super::rules::{Rule, holds_texts, rule};
use super::yaml::{Mapping, Node, Scalar};

/// Merges a patch into a document.
pub(super) fn merge(document: &mut Document, patch: Mapping) -> Result<(), Problem> {
    let mut content = std::mem::take(&mut document.content);
    let merged = Merger { document, path: Vec::new() }.mappings(&mut content, patch);
    document.content = content;
    merged
}

/// Where the merge stands.
struct Merger<'a> {
    document: &'a Document,
    path: Vec<String>,
}

impl Merger<'_> {
    fn mappings(&mut self, left: &mut Mapping, right: Mapping) -> Result<(), Problem> {
        for (key, value) in right.0 {
            match left.get_mut(&key.text) {
                Some(old) => {
                    self.path.push(key.text);
                    self.nodes(old, value)?;
                    self.path.pop();
                }
                None => left.0.push((key, value)),
            }
        }
        Ok(())
    }

    fn nodes(&mut self, left: &mut Node, right: Node) -> Result<(), Problem> {
        if right.is_null() {
            return Ok(());
        }
        let rule = self.rule();
        if left.is_null() || rule == Rule::Replace {
            *left = right;
            return Ok(());
        }
        match (left, right) {
            (Node::Mapping(left), Node::Mapping(right)) => self.mappings(left, right),
            (Node::Sequence(left), Node::Sequence(right)) => self.sequences(left, right, rule),
            (Node::Scalar(left), Node::Scalar(right)) => {
                if !self.is_zero(&right) {
                    *left = right;
                }
                Ok(())
            }
            // An argument may be one text or a list of them.
            (left, right) if self.is_argument() => {
                *left = right;
                Ok(())
            }
            (left, right) => Err(Problem::Mismatch {
                place: self.document.place(&self.path),
                found: describe(&right),
                expected: describe(left),
            }),
        }
    }

    fn sequences(
        &mut self,
        left: &mut Vec<Node>,
        right: Vec<Node>,
        rule: Rule,
    ) -> Result<(), Problem> {
        let keys = if let Rule::ByKey(keys) = rule { keys } else { &[] };
        for item in right {
            match same_entry(left, &item, keys) {
                Some((index, old)) => {
                    self.path.push(format!("[{index}]"));
                    self.nodes(old, item)?;
                    self.path.pop();
                }
                None => left.push(item),
            }
        }
        Ok(())
    }

    fn rule(&self) -> Rule {
        rule(self.document.kind(), &self.fields())
    }

    /// The path with `[]` for every entry of a list.
    fn fields(&self) -> Vec<&str> {
        self.path.iter().map(|step| if step.starts_with('[') { "[]" } else { step }).collect()
    }

    fn is_argument(&self) -> bool {
        self.fields().iter().rev().nth(1) == Some(&"extraArgs")
    }

    /// Values that change nothing, since Talos cannot tell them from ones that are not there.
    fn is_zero(&self, scalar: &Scalar) -> bool {
        let fields = self.fields();
        let among_texts = fields.split_last().is_some_and(|(_, parents)| holds_texts(parents));
        let is_number = scalar.plain && !among_texts;
        scalar.text.is_empty() || (is_number && scalar.text.parse() == Ok(0.0))
    }
}

/// The entry of a list that a patch's entry is about.
fn same_entry<'a>(
    entries: &'a mut [Node],
    patch: &Node,
    keys: &[&str],
) -> Option<(usize, &'a mut Node)> {
    let Node::Mapping(patch) = patch else { return None };
    let key = keys.iter().find(|key| patch.get(key).is_some_and(|value| !value.is_null()))?;
    entries.iter_mut().enumerate().find(|(_, entry)| match entry {
        Node::Mapping(entry) => {
            entry.get(key).zip(patch.get(key)).is_some_and(|(a, b)| is_same(a, b))
        }
        _ => false,
    })
}

/// Whether two keys say the same, with or without quotes and in any order.
fn is_same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Mapping(a), Node::Mapping(b)) => {
            let contains = |(key, value): &(Scalar, Node)| {
                b.get(&key.text).is_some_and(|other| is_same(value, other))
            };
            a.0.len() == b.0.len() && a.0.iter().all(contains)
        }
        (Node::Scalar(a), Node::Scalar(b)) => a.text == b.text,
        (a, b) => a == b,
    }
}

fn describe(node: &Node) -> &'static str {
    match node {
        Node::Scalar(_) => "a value",
        Node::Sequence(_) => "a list",
        Node::Mapping(_) => "a mapping",
    }
}
