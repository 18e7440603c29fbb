//! How messages and blob bytes are laid out on a pipe.
//!
//! An engine begins with [`MAGIC`]; whatever came before it (a chatty rc file) is not charly's. Then, in both directions,
//! frames follow one another: a length (u32, little-endian, of the payload), a kind (one byte), the payload.
//!
//! | kind | payload |
//! |---|---|
//! | 0 | one message as JSON |
//! | 1 | bytes of the blob announced last |
//! | 2 | as 0, packed |
//! | 3 | as 1, packed |
//! | 5 | as 1, packed by zstd |
//!
//! Packed payloads are raw deflate streams. They are used across networks, where both sides take either. Controllers send what
//! is large as zstd frames, of which engines can undo the packing and no more.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use ruzstd::decoding::FrameDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an engine writes first.
pub const MAGIC: [u8; 16] = *b"\0charly-engine1\n";

/// The largest message, in bytes: a plan of some hundred thousand steps.
pub const MAX_MESSAGE: u32 = 256 << 20;

/// What a kind is raised by where its payload is packed.
const PACKED: u8 = 2;

/// The kind of blob bytes that are packed by zstd.
const ZSTD_CHUNK: u8 = 5;

/// The largest run of blob bytes in one frame.
pub const MAX_CHUNK: usize = 64 << 10;

/// Messages shorter than this gain nothing by being packed.
const WORTH_PACKING: usize = 256;

/// The most that whoever undoes zstd's packing keeps of what came before, which is never more than one run of bytes.
const MAX_WINDOW: u64 = 1 << 20;

/// Whether payloads are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// They are as they are: across a pipe, packing only costs.
    #[default]
    None,
    /// They are packed where that makes them shorter.
    Deflate,
}

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

/// Writes one message as it is. The caller flushes.
pub fn write_message(writer: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    Packing::None.write_message(writer, message)
}

/// Writes a run of blob bytes, at most [`MAX_CHUNK`] of them, as they are. The caller flushes.
pub fn write_chunk(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    Packing::None.write_chunk(writer, bytes)
}

impl Packing {
    /// Writes one message. The caller flushes.
    pub fn write_message(self, writer: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
        let payload = serde_json::to_vec(message).map_err(io::Error::other)?;
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= MAX_MESSAGE);
        if length.is_none() {
            return Err(io::Error::other(format!("a message of {} bytes is too large", payload.len())));
        }
        write(writer, 0, &payload, self)
    }

    /// Writes a run of blob bytes, at most [`MAX_CHUNK`] of them. The caller flushes.
    pub fn write_chunk(self, writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(bytes.len() <= MAX_CHUNK);
        write(writer, 1, bytes, self)
    }
}

/// Writes a run of at most [`MAX_CHUNK`] blob bytes that the caller has packed as one zstd frame. The caller flushes.
pub fn write_zstd_chunk(writer: &mut impl Write, packed: &[u8]) -> io::Result<()> {
    debug_assert!(packed.len() <= MAX_CHUNK);
    writer.write_all(&head(ZSTD_CHUNK, u32::try_from(packed.len()).map_err(io::Error::other)?))?;
    writer.write_all(packed)
}

fn write(writer: &mut impl Write, kind: u8, payload: &[u8], packing: Packing) -> io::Result<()> {
    let packed = match packing {
        Packing::Deflate if payload.len() >= WORTH_PACKING => Some(pack(payload)?),
        _ => None,
    };
    let (kind, payload) = match &packed {
        Some(packed) if packed.len() < payload.len() => (kind + PACKED, &packed[..]),
        _ => (kind, payload),
    };
    writer.write_all(&head(kind, u32::try_from(payload.len()).map_err(io::Error::other)?))?;
    writer.write_all(payload)
}

/// Packs quickly rather than well: a link is seldom so slow that more effort is worth its time.
fn pack(payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(payload.len() / 3), Compression::new(2));
    encoder.write_all(payload)?;
    encoder.finish()
}

/// Undoes [`pack`], to no more than `most` bytes.
fn unpack(packed: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut payload = Vec::with_capacity(most.min(packed.len() * 4));
    DeflateDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut payload)?;
    if payload.len() > most { Err(io::Error::other("a packed payload is too large")) } else { Ok(payload) }
}

/// Undoes zstd's packing of one frame, to no more than [`MAX_CHUNK`] bytes.
fn unpack_zstd(packed: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        // Its tables are made once.
        static DECODER: RefCell<FrameDecoder> = RefCell::new(FrameDecoder::new());
    }
    DECODER.with_borrow_mut(|decoder| {
        decoder.set_max_window_size(MAX_WINDOW);
        let mut payload = vec![0; MAX_CHUNK];
        let length = decoder.decode_all(packed, &mut payload).map_err(io::Error::other)?;
        payload.truncate(length);
        Ok(payload)
    })
}

/// Reads one frame, or `None` where the stream ends between two.
pub fn read<M: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<Frame<M>>, FrameError> {
    let mut head = [0; Head::SIZE];
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
    let Head { length, kind } = Head::parse(head)?;
    let bytes = payload(reader, length)?;
    Ok(Some(match kind {
        0 => Frame::Message(serde_json::from_slice(&bytes)?),
        1 => Frame::Chunk(bytes),
        2 => Frame::Message(serde_json::from_slice(&unpack(&bytes, MAX_MESSAGE as usize)?)?),
        ZSTD_CHUNK => Frame::Chunk(unpack_zstd(&bytes)?),
        _ => Frame::Chunk(unpack(&bytes, MAX_CHUNK)?),
    }))
}

/// What comes before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The payload's length in bytes.
    pub length: u32,
    kind: u8,
}

impl Head {
    /// Its size in bytes.
    pub const SIZE: usize = 5;

    /// Reads a head, and refuses what no frame of charly's begins with.
    pub fn parse(bytes: [u8; Self::SIZE]) -> Result<Self, FrameError> {
        let [a, b, c, d, kind] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]);
        let known = match kind {
            0 | 2 => length <= MAX_MESSAGE,
            1 | 3 | ZSTD_CHUNK => length as usize <= MAX_CHUNK,
            _ => false,
        };
        if known { Ok(Self { length, kind }) } else { Err(FrameError::Head { kind, length }) }
    }

    /// Tells whether the payload is packed.
    pub fn is_packed(self) -> bool {
        self.kind >= PACKED
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

    #[test]
    fn packed_frames_say_the_same_in_fewer_bytes() {
        let text = "one and the same ".repeat(1000);
        let mut pipe = Vec::new();
        Packing::Deflate.write_message(&mut pipe, &text).unwrap();
        Packing::Deflate.write_chunk(&mut pipe, text.as_bytes()).unwrap();
        Packing::Deflate.write_chunk(&mut pipe, b"short").unwrap();
        assert!(pipe.len() < text.len() / 10);
        let mut reader = &pipe[..];
        assert_eq!(read(&mut reader).unwrap(), Some(Frame::Message(text.clone())));
        assert_eq!(read::<String>(&mut reader).unwrap(), Some(Frame::Chunk(text.into_bytes())));
        assert_eq!(read::<String>(&mut reader).unwrap(), Some(Frame::Chunk(b"short".to_vec())));
    }

    #[test]
    fn what_grows_beyond_a_frame_is_refused() {
        let bomb = pack(&vec![0; 1 << 20]).unwrap();
        let mut pipe = head(3, u32::try_from(bomb.len()).unwrap()).to_vec();
        pipe.extend(bomb);
        assert!(matches!(read::<String>(&mut &pipe[..]), Err(FrameError::Io(_))));
        assert!(matches!(read::<String>(&mut &b"\x03\0\0\0\x03abc"[..]), Err(FrameError::Io(_))));
    }
}
