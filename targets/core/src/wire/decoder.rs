//! Finds an engine's frames in the bytes it wrote.

use charly_ir::frame::{self, Frame, FrameError, Head, MAGIC};
use charly_ir::message::{Hello, Reply};
use serde::de::DeserializeOwned;

/// How much of what came before an engine is kept as evidence.
pub(super) const EVIDENCE: usize = 4 << 10;

/// How much may come before an engine. A login shell's greeting is far below it.
const PREAMBLE: usize = 1 << 20;

/// Cuts a stream into frames, whatever the sizes of the pieces it arrives in.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Bytes not yet consumed; those before `start` are.
    buffer: Vec<u8>,
    start: usize,
    awake: bool,
    /// What came before the magic, capped.
    evidence: Vec<u8>,
    skipped: usize,
}

/// The stream holds no engine within its first mebibyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoEngine;

impl Decoder {
    /// Takes the next bytes of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Looks for the engine's first word; true once it was found.
    pub(super) fn awake(&mut self) -> Result<bool, NoEngine> {
        if self.awake {
            return Ok(true);
        }
        let pending = &self.buffer[self.start..];
        if let Some(at) = find(pending, &MAGIC) {
            self.skip(at);
            self.start += MAGIC.len();
            self.awake = true;
            return Ok(true);
        }
        // The magic may have been cut: its longest beginning is kept.
        self.skip(pending.len().saturating_sub(MAGIC.len() - 1));
        if self.skipped > PREAMBLE { Err(NoEngine) } else { Ok(false) }
    }

    /// Returns the engine's greeting once it is whole.
    pub(super) fn hello(&mut self) -> Result<Option<Hello>, FrameError> {
        match self.next::<Hello>()? {
            Some(Frame::Message(hello)) => Ok(Some(hello)),
            Some(Frame::Chunk(bytes)) => Err(FrameError::Head { kind: 1, length: length_of(&bytes) }),
            None => Ok(None),
        }
    }

    /// Returns the next reply or run of bytes once it is whole.
    pub(super) fn reply(&mut self) -> Result<Option<Frame<Reply>>, FrameError> {
        self.next()
    }

    /// Returns what came before the engine, as text.
    pub(super) fn evidence(&self) -> String {
        let mut bytes = self.evidence.clone();
        if !self.awake {
            let room = EVIDENCE.saturating_sub(bytes.len());
            bytes.extend(self.buffer[self.start..].iter().take(room));
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    fn next<M: DeserializeOwned>(&mut self) -> Result<Option<Frame<M>>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some(head) = pending.first_chunk::<{ Head::SIZE }>() else { return Ok(None) };
        let whole = Head::SIZE + Head::parse(*head)?.length as usize;
        let Some(mut bytes) = pending.get(..whole) else { return Ok(None) };
        let frame = frame::read(&mut bytes)?;
        self.start += whole;
        if self.start == self.buffer.len() || self.start > frame::MAX_CHUNK {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(frame)
    }

    /// Moves `count` bytes that are not an engine's to the evidence.
    fn skip(&mut self, count: usize) {
        let room = EVIDENCE.saturating_sub(self.evidence.len()).min(count);
        self.evidence.extend_from_slice(&self.buffer[self.start..self.start + room]);
        self.buffer.drain(..self.start + count);
        self.start = 0;
        self.skipped += count;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use charly_ir::message::{Event, Reply};

    fn warning(text: &str) -> Reply {
        Reply::Event(Event::Warning { text: text.into() })
    }

    #[test]
    fn frames_are_found_whatever_the_pieces() {
        let mut stream = b"Welcome!\n\0charly-".to_vec();
        stream.extend_from_slice(&MAGIC);
        frame::write_message(&mut stream, &warning("one")).unwrap();
        frame::write_chunk(&mut stream, b"bytes").unwrap();
        frame::write_message(&mut stream, &warning("two")).unwrap();
        for size in 1..=stream.len() {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                decoder.feed(piece);
                if decoder.awake().unwrap() {
                    while let Some(frame) = decoder.reply().unwrap() {
                        found.push(frame);
                    }
                }
            }
            let want =
                [Frame::Message(warning("one")), Frame::Chunk(b"bytes".to_vec()), Frame::Message(warning("two"))];
            assert_eq!(found, want, "pieces of {size}");
            assert_eq!(decoder.evidence(), "Welcome!\n\0charly-");
        }
    }

    #[test]
    fn a_flood_before_the_engine_is_bounded() {
        let mut decoder = Decoder::default();
        let flood = vec![b'x'; 100_000];
        let mut rounds = 0;
        while decoder.awake() == Ok(false) {
            decoder.feed(&flood);
            rounds += 1;
            assert!(rounds < 20);
            assert!(decoder.buffer.len() < 200_000);
        }
        assert_eq!(decoder.evidence().len(), EVIDENCE);
    }

    #[test]
    fn a_head_that_makes_no_sense_is_refused_at_once() {
        for head in [b"\xff\xff\xff\xff\0", b"\0\0\0\x7f\x01", b"\0\0\0\0\x04"] {
            let mut decoder = Decoder::default();
            decoder.feed(&MAGIC);
            decoder.feed(head);
            assert!(decoder.awake().unwrap());
            assert!(matches!(decoder.reply(), Err(FrameError::Head { .. })), "{head:?}");
        }
    }
}
