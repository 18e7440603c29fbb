//! The engine's program, carried inside this one.

use std::io::Read as _;

use charly_ir::Digest;
use flate2::read::GzDecoder;

/// The program `charly-guest` for the architecture this crate was built for: static, and packed with gzip.
pub const PACKED: &[u8] = include_bytes!(env!("CHARLY_ENGINE"));

/// The architecture of [`PACKED`], as `uname -m` writes it.
pub const ARCH: &str = std::env::consts::ARCH;

/// Returns the program's size in bytes.
pub fn size() -> u64 {
    env!("CHARLY_ENGINE_SIZE").parse().expect("the build script writes a number")
}

/// Returns the program's digest, computed when it was built.
pub fn digest() -> Digest {
    env!("CHARLY_ENGINE_DIGEST").parse().expect("the build script writes a digest")
}

/// Returns the program.
pub fn program() -> Vec<u8> {
    let mut program = Vec::with_capacity(usize::try_from(size()).unwrap_or_default());
    GzDecoder::new(PACKED).read_to_end(&mut program).expect("the build script packed it");
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_what_was_built() {
        let program = program();
        assert_eq!(digest(), Digest::of(&program));
        assert_eq!(size(), program.len() as u64);
        assert_eq!(&program[..4], b"\x7fELF");
    }
}
