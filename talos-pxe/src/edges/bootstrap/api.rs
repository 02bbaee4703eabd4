//! Talos's machine API, compiled from `proto/`.

/// What all answers have in common.
pub mod common {
    tonic::include_proto!("common");
}

/// The machine service.
pub mod machine {
    tonic::include_proto!("machine");
}
