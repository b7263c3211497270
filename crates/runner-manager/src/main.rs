//! The `runner-manager` program.

fn main() {}
