//! Leases, machines and their roles.

pub mod inspect;
pub mod leases;
pub mod machines;
pub mod store;
pub mod tokens;
