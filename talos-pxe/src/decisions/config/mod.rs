//! Machine configs made of a base and patches, as Talos's own strategic merge makes them.
//!
//! The rules are those of Talos 1.13 (`pkg/machinery/config/merge/merge.go`,
//! `configpatcher/strategic.go`, `configloader/internal/decoder/{delete,selector}.go` and the
//! types below `pkg/machinery/config/types`):
//!
//! - Documents with the same `apiVersion`, `kind` and `name` are merged; a document that the base
//!   lacks is appended. The document without a kind, with `machine` and `cluster`, is one of them.
//! - Mappings are merged key by key. Lists are appended to, but replaced or merged by a key where
//!   Talos does so: see [`rules`]. Values are replaced, but a null, an empty text or a zero changes
//!   nothing, except among texts such as `sysctls`. `false` does.
//! - `$patch: delete` in a mapping deletes it from the config: a document, a field, or the first
//!   entry of a list with the same first key and value. All of a document's deletions come before
//!   what it adds. What is to be deleted must exist.
//!
//! Not covered: JSON patches (RFC 6902), YAML merge keys (`<<`) and tags such as `!!binary`, which
//! are errors; that Talos knows each field's type, refuses unknown ones, and sets a boolean that
//! is no pointer to false when a patch leaves it out. Comments of a config that is patched are lost.

mod delete;
mod document;
mod merge;
mod rules;
mod yaml;

use document::Document;
use yaml::{Mapping, Node};

use crate::wire::Hostname;

pub use yaml::Malformed;

/// A config or a patch.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Where it is from, for messages: a file's path, an entry of the inventory.
    pub name: &'a str,
    /// YAML, of one or more documents. Never shown: it holds secrets.
    pub text: &'a str,
}

/// Why a config cannot be made: the source, the place in it, and what is wrong there. It never
/// quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct ConfigError {
    /// The name of the source.
    pub source_name: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a config or a patch. Places are paths such as `machine.network.hostname`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It cannot be read as YAML.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// A list at the top.
    #[error(
        "a JSON patch is not supported: write it as a strategic merge patch, a part of a config"
    )]
    JsonPatch,
    /// A document is a text or a number.
    #[error("document {0} is no mapping")]
    NoMapping(usize),
    /// A document does not say what it is.
    #[error("document {0} has neither `machine` nor `cluster`, nor both `apiVersion` and `kind`")]
    NoKind(usize),
    /// Two documents of a config are the same.
    #[error("{0} stands there twice")]
    Duplicate(String),
    /// There is no document at all.
    #[error("the config is empty")]
    Empty,
    /// A mapping meets a list, and the like.
    #[error("{place}: {found} in the patch, {expected} in the config")]
    Mismatch {
        /// Where.
        place: String,
        /// What the patch has there.
        found: &'static str,
        /// What the config has there.
        expected: &'static str,
    },
    /// `$patch: delete` of something that does not exist.
    #[error("{0}: `$patch: delete`, but the config has nothing there")]
    NothingToDelete(String),
    /// `$patch: delete` where Talos allows none.
    #[error(
        "{0}: `$patch: delete` cannot stand there, only in a document, a field or a list's entry"
    )]
    NotDeletable(String),
    /// `$patch: delete` of a list's entry without a key to know it by.
    #[error("{0}: `$patch: delete` needs the first key of the entry and its value, as text")]
    WhichEntry(String),
    /// `$patch` with something else than `delete`.
    #[error("{0}: `$patch` can only be `delete`")]
    UnknownPatch(String),
}

/// The config that the patches make of a base, applied in their order. Without patches it is the
/// base, byte for byte.
///
/// # Errors
/// When a source is malformed, or a patch does not fit.
pub fn merge(base: Source<'_>, patches: &[Source<'_>]) -> Result<String, ConfigError> {
    if patches.is_empty() {
        return Ok(base.text.to_owned());
    }
    let mut config = read_config(base)?;
    for patch in patches {
        let apply = || {
            for document in document::read(patch.text)? {
                merge_document(&mut config, document)?;
            }
            Ok(())
        };
        in_source(*patch, apply)?;
    }
    Ok(write(&config))
}

/// The config with this hostname instead of any other: in its `HostnameConfig` document (Talos
/// 1.12 and later write one, with `auto`, which excludes a name), else in `machine.network`.
///
/// # Errors
/// When the config is malformed.
pub fn set_hostname(config: Source<'_>, hostname: &Hostname) -> Result<String, ConfigError> {
    let mut documents = read_config(config)?;
    let name = Node::text(hostname.as_str());
    if let Some(document) = documents.iter_mut().find(|document| document.is("HostnameConfig")) {
        document.content.remove("auto");
        document.content.set("hostname", name);
    } else if let Some(document) = documents.iter_mut().find(|document| document.is_machine()) {
        let network = Mapping::default().with("hostname", name);
        let machine = Mapping::default().with("network", Node::Mapping(network));
        let patch = Mapping::default().with("machine", Node::Mapping(machine));
        let merged = merge::merge(document, patch);
        in_source(config, || merged)?;
    } else {
        documents.push(Document::new("HostnameConfig", Mapping::default().with("hostname", name)));
    }
    Ok(write(&documents))
}

/// Merges one document of a patch into a config.
fn merge_document(config: &mut Vec<Document>, mut patch: Document) -> Result<(), Problem> {
    let deletions = delete::take(&mut patch)?;
    let found = config.iter().position(|document| document.id == patch.id);
    for deletion in &deletions {
        let document = found.and_then(|index| config.get_mut(index));
        let document = document.ok_or_else(|| deletion.nothing_there(&patch))?;
        if deletion.is_whole() {
            config.retain(|document| document.id != patch.id);
            return Ok(());
        }
        deletion.apply(document)?;
    }
    match found.and_then(|index| config.get_mut(index)) {
        Some(document) => merge::merge(document, patch.content),
        None => {
            config.push(patch);
            Ok(())
        }
    }
}

fn read_config(source: Source<'_>) -> Result<Vec<Document>, ConfigError> {
    in_source(source, || {
        let documents = document::read(source.text)?;
        for (index, document) in documents.iter().enumerate() {
            if documents.iter().take(index).any(|earlier| earlier.id == document.id) {
                return Err(Problem::Duplicate(document.to_string()));
            }
        }
        if documents.is_empty() { Err(Problem::Empty) } else { Ok(documents) }
    })
}

fn in_source<T>(
    source: Source<'_>,
    work: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, ConfigError> {
    let source_name = source.name.to_owned();
    work().map_err(|problem| ConfigError { source_name, problem })
}

fn write(documents: &[Document]) -> String {
    yaml::write(documents.iter().map(|document| &document.content))
}

#[cfg(test)]
mod tests;
