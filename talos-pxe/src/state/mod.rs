//! Leases, machines and their roles.
