//! Which loader, script and kernel a machine gets.

pub mod loader;
