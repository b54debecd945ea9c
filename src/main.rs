//! The `pullpass` binary.

fn main() {}
