//! The program `charly-guest`.

fn main() {}
