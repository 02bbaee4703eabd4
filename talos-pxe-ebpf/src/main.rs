//! The XDP program: counts frames and passes them.

fn main() {}
