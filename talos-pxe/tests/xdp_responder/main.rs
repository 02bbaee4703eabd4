//! The XDP program answers as the daemon does, and nothing that the daemon would not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod generated;
mod race;
mod reasons;
mod reference;
mod requests;
mod states;
mod verifier;
