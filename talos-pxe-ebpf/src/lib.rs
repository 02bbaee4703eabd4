//! Map types that the XDP program and the daemon share.
