//! Which loader, script and kernel a machine gets.

pub mod answer;
pub mod asker;
pub mod asset;
pub mod catalog;
pub mod labels;
pub mod loader;
pub mod origin;
pub mod script;
pub mod talos;
pub mod template;
pub mod variables;
