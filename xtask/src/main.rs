//! What cargo alone cannot do: tools, the lab, tests and benchmarks.

fn main() {}
