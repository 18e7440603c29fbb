//! Packing of what is large: better and faster than frames are packed otherwise, and only for engines to undo.

use std::fmt;
use std::io;

use zstd::bulk::Compressor;

/// Quick rather than good, as in all that is packed on its way.
const LEVEL: i32 = 1;

/// Packs runs of bytes, each for itself.
pub(super) struct Squeeze(Compressor<'static>);

impl Squeeze {
    /// Prepares to pack.
    pub(super) fn new() -> io::Result<Self> {
        Compressor::new(LEVEL).map(Self)
    }

    /// Packs a run of bytes to one zstd frame.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(bytes)
    }
}

impl fmt::Debug for Squeeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Squeeze")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_ir::frame::{self, Frame, MAX_CHUNK};
    use charly_ir::message::Request;

    #[test]
    fn an_engine_undoes_it() {
        let mut squeeze = Squeeze::new().unwrap();
        let text = "one and the same ".repeat(MAX_CHUNK / 17);
        let noise: Vec<u8> = (0_u32..16_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut pipe = Vec::new();
        for bytes in [text.as_bytes(), &noise, b"x"] {
            frame::write_zstd_chunk(&mut pipe, &squeeze.pack(bytes).unwrap()).unwrap();
        }
        assert!(pipe.len() < text.len() / 10 + noise.len() + 100);
        let mut reader = &pipe[..];
        for bytes in [text.as_bytes(), &noise, b"x"] {
            assert_eq!(frame::read::<Request>(&mut reader).unwrap(), Some(Frame::Chunk(bytes.to_vec())));
        }
    }

    #[test]
    fn what_grows_beyond_a_frame_is_refused() {
        let mut squeeze = Squeeze::new().unwrap();
        for bomb in [squeeze.pack(&vec![0; MAX_CHUNK + 1]).unwrap(), squeeze.pack(&vec![0; 32 << 20]).unwrap()] {
            let mut pipe = Vec::new();
            frame::write_zstd_chunk(&mut pipe, &bomb).unwrap();
            assert!(frame::read::<Request>(&mut &pipe[..]).is_err());
        }
        let mut pipe = Vec::new();
        frame::write_zstd_chunk(&mut pipe, b"nonsense").unwrap();
        assert!(frame::read::<Request>(&mut &pipe[..]).is_err());
    }
}
