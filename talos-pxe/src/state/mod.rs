//! Leases, machines and their roles.

pub mod leases;
