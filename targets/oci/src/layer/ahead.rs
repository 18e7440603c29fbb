//! Decompression in a thread of its own, for whoever has something to do with each byte.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::decompress;

const PIECE: usize = 256 << 10;
/// How many pieces wait at most.
const PIECES: usize = 4;

/// Reads a stream's bytes before compression, which a thread prepares.
#[derive(Debug)]
pub struct Ahead<R> {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    thread: JoinHandle<io::Result<R>>,
}

impl<R: Read + Send + 'static> Ahead<R> {
    /// Begins to decompress what the input's first bytes say it is compressed with.
    pub fn new(mut input: R) -> Self {
        let (sender, pieces) = sync_channel(PIECES);
        let thread = std::thread::spawn(move || {
            match decompress(&mut input).and_then(|(_, mut plain)| send(&mut plain, &sender)) {
                Ok(true) => {}
                // Nobody reads on, so nobody wants the rest.
                Ok(false) => return Ok(input),
                // The error goes to whoever reads; who has gone has one of his own.
                Err(error) => drop(sender.send(Err(error))),
            }
            // What a decoder did not want is of the stream all the same.
            io::copy(&mut input, &mut io::sink()).map(|_| input)
        });
        Self { pieces, piece: io::Cursor::default(), thread }
    }

    /// Returns the input, which was read to its end if this was.
    pub fn finish(self) -> io::Result<R> {
        let Self { pieces, piece: _, thread } = self;
        drop(pieces);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that decompresses has stopped")))
    }
}

/// Sends all there is; tells whether somebody took it.
fn send(plain: &mut dyn Read, pieces: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<bool> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        if plain.take(PIECE as u64).read_to_end(&mut piece)? == 0 {
            return Ok(true);
        }
        if pieces.send(Ok(piece)).is_err() {
            return Ok(false);
        }
    }
}

impl<R> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.pieces.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_and_the_input_comes_back() {
        let bytes: Vec<u8> = (0..900_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        for packed in [bytes.clone(), zstd::encode_all(&bytes[..], 1).unwrap()] {
            let mut ahead = Ahead::new(io::Cursor::new(packed.clone()));
            let mut read = Vec::new();
            ahead.read_to_end(&mut read).unwrap();
            assert!(read == bytes);
            assert_eq!(ahead.finish().unwrap().position(), packed.len() as u64);

            // Whoever leaves early is not waited for.
            let mut ahead = Ahead::new(io::Cursor::new(packed));
            ahead.read_exact(&mut [0; 10]).unwrap();
            ahead.finish().unwrap();
        }
    }

    #[test]
    fn an_error_arrives() {
        let packed = zstd::encode_all(&[7; 5000][..], 1).unwrap();
        let mut read = Vec::new();
        let mut cut = Ahead::new(io::Cursor::new(packed[..packed.len() - 2].to_vec()));
        assert!(cut.read_to_end(&mut read).is_err());
        assert_eq!(cut.read(&mut [0]).unwrap(), 0);
    }
}
