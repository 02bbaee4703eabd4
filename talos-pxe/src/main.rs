//! The daemon's command line: parses, builds, runs.

fn main() {}
