//! Leases, machines and their roles.

pub mod machines;
pub mod tokens;
