//! The engine's program, carried inside this one.

use charly_ir::Digest;

/// The program `charly-guest`: static, for the architecture this crate was built for.
pub const ENGINE: &[u8] = include_bytes!(env!("CHARLY_ENGINE"));

/// Returns the digest of [`ENGINE`], computed when it was built.
pub fn digest() -> Digest {
    env!("CHARLY_ENGINE_DIGEST").parse().expect("the build script writes a digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        assert_eq!(digest(), Digest::of(ENGINE));
        assert_eq!(&ENGINE[..4], b"\x7fELF");
    }
}
