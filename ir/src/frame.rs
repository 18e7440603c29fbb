//! How messages and blob bytes are laid out on a pipe.
//!
//! An engine begins with [`MAGIC`]; whatever came before it (a chatty rc file) is not charly's. Then, in both directions,
//! frames follow one another: a length (u32, little-endian, of the payload), a kind (one byte), the payload.
//!
//! | kind | payload |
//! |---|---|
//! | 0 | one message as JSON |
//! | 1 | bytes of the blob announced last |

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an engine writes first.
pub const MAGIC: [u8; 16] = *b"\0charly-engine1\n";

/// The largest message, in bytes: a plan of some hundred thousand steps.
pub const MAX_MESSAGE: u32 = 256 << 20;

/// The largest run of blob bytes in one frame.
pub const MAX_CHUNK: usize = 64 << 10;

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<M> {
    /// A message.
    Message(M),
    /// Bytes of the blob announced last.
    Chunk(Vec<u8>),
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended within a frame.
    #[error("the stream broke off")]
    Io(#[from] io::Error),
    /// The frame's head makes no sense.
    #[error("a frame of kind {kind} and {length} bytes is not charly's")]
    Head {
        /// The kind read.
        kind: u8,
        /// The length read.
        length: u32,
    },
    /// The message is not one that this side knows.
    #[error("a message could not be understood")]
    Message(#[from] serde_json::Error),
}

/// Writes one message. The caller flushes.
pub fn write_message(writer: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let payload = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= MAX_MESSAGE);
    let length =
        length.ok_or_else(|| io::Error::other(format!("a message of {} bytes is too large", payload.len())))?;
    writer.write_all(&head(0, length))?;
    writer.write_all(&payload)
}

/// Writes a run of blob bytes, at most [`MAX_CHUNK`] of them. The caller flushes.
pub fn write_chunk(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    debug_assert!(bytes.len() <= MAX_CHUNK);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    writer.write_all(&head(1, length))?;
    writer.write_all(bytes)
}

/// Reads one frame, or `None` where the stream ends between two.
pub fn read<M: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<Frame<M>>, FrameError> {
    let mut head = [0; 5];
    let mut have = 0;
    while have < head.len() {
        match reader.read(&mut head[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let kind = head[4];
    match kind {
        0 if length <= MAX_MESSAGE => Ok(Some(Frame::Message(serde_json::from_slice(&payload(reader, length)?)?))),
        1 if length as usize <= MAX_CHUNK => Ok(Some(Frame::Chunk(payload(reader, length)?))),
        _ => Err(FrameError::Head { kind, length }),
    }
}

/// Reads a payload without believing its announced length: memory grows with what really arrives.
fn payload(reader: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MAX_CHUNK.min(length as usize));
    reader.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn head(kind: u8, length: u32) -> [u8; 5] {
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, kind]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_one_another() {
        let mut pipe = Vec::new();
        write_message(&mut pipe, &"one").unwrap();
        write_chunk(&mut pipe, b"two").unwrap();
        write_message(&mut pipe, &"three").unwrap();
        let mut reader = &pipe[..];
        assert_eq!(read::<String>(&mut reader).unwrap(), Some(Frame::Message("one".into())));
        assert_eq!(read::<String>(&mut reader).unwrap(), Some(Frame::Chunk(b"two".into())));
        assert_eq!(read::<String>(&mut reader).unwrap(), Some(Frame::Message("three".into())));
        assert_eq!(read::<String>(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_cut_at_any_byte_is_noticed() {
        let mut pipe = Vec::new();
        write_message(&mut pipe, &"hello").unwrap();
        for length in 1..pipe.len() {
            assert!(matches!(read::<String>(&mut &pipe[..length]), Err(FrameError::Io(_))), "{length}");
        }
    }

    #[test]
    fn nonsense_costs_no_memory() {
        assert!(matches!(read::<String>(&mut &b"\xff\xff\xff\xff\0"[..]), Err(FrameError::Head { .. })));
        assert!(matches!(read::<String>(&mut &b"Welcome to Debian"[..]), Err(FrameError::Head { .. })));
        assert!(matches!(read::<String>(&mut &b"\0\0\0\x0f\0"[..]), Err(FrameError::Io(_))));
    }
}
