//! Fetching Talos's files: which, from where, and what to make of a server's answers.

mod source;
mod sums;
mod transfer;

pub use source::{
    Arch, BaseUrl, BaseUrlError, Folder, Item, Plan, Schematic, SchematicError, Source, Version,
    VersionError, Wanted,
};
pub use sums::{Algorithm, Sum, SumError, find};
pub use transfer::{Ask, Body, Head, Note, Refused, Validator, answered, ask, is_current, pause};
