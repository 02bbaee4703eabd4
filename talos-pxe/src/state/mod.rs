//! Leases, machines and their roles.

pub mod bootstrap;
pub mod inspect;
pub mod leases;
pub mod machines;
pub mod store;
pub mod tokens;
