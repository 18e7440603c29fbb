//! Compression by several workers, with the same bytes however many there are.
//!
//! The stream is cut in pieces of [`CHUNK`] bytes, and each becomes a gzip member or a zstd frame of its own. Both formats are
//! defined for sequences of those, and every reader of layers reads them.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use flate2::{Compress, Crc, FlushCompress};
use oci_spec::image::MediaType;

/// How many bytes are compressed by themselves.
const CHUNK: usize = 1 << 20;

/// More workers than this outrun the one that digests, and would only hold memory: about 4 MiB each.
const MAX_WORKERS: usize = 8;

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// How a layer's archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    None,
    /// As gzip does, which everything reads.
    Gzip,
    /// As zstd does, which is quicker and smaller and needs a reader younger than 2020.
    Zstd,
}

impl Compression {
    /// Returns the media type of a layer that is so compressed.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }

    /// Tells from its first bytes how a stream is compressed.
    pub fn of_magic(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// What became of a stream.
pub(super) struct Sums {
    /// The digest of what went in.
    pub(super) plain: Digest,
    /// How many bytes went in.
    pub(super) plain_size: u64,
    /// The digest of what came out.
    pub(super) packed: Digest,
    /// How many bytes came out.
    pub(super) packed_size: u64,
}

/// Compresses and digests what it is given.
pub(super) struct Packer<W> {
    out: W,
    chunk: Vec<u8>,
    filled: usize,
    plain_size: u64,
    packed: Hasher,
    packed_size: u64,
    /// Nobody where nothing is compressed: then both digests are one.
    crew: Option<Crew>,
}

/// The workers, and what they have in hand.
struct Crew {
    jobs: SyncSender<Job>,
    pieces: SyncSender<Arc<Vec<u8>>>,
    digester: JoinHandle<Digest>,
    pending: VecDeque<Receiver<io::Result<Piece>>>,
    most: usize,
    /// Buffers that were used already: the system takes longer to give new ones than one might think.
    chunks: Vec<Vec<u8>>,
    buffers: Vec<Vec<u8>>,
}

/// A chunk, and a buffer for what becomes of it.
struct Piece {
    plain: Arc<Vec<u8>>,
    packed: Vec<u8>,
}

struct Job {
    piece: Piece,
    done: SyncSender<io::Result<Piece>>,
}

impl<W: Write> Packer<W> {
    pub(super) fn new(out: W, compression: Compression, threads: NonZero<usize>) -> Self {
        Self {
            out,
            chunk: vec![0; CHUNK],
            filled: 0,
            plain_size: 0,
            packed: Hasher::new(),
            packed_size: 0,
            crew: Crew::new(compression, threads.get().min(MAX_WORKERS)),
        }
    }

    /// Takes up to `most` bytes from a reader, and returns how many it gave; 0 when it has no more.
    pub(super) fn fill(&mut self, from: &mut dyn Read, most: u64) -> io::Result<u64> {
        let room = usize::try_from(most).unwrap_or(CHUNK).min(CHUNK - self.filled);
        let count = loop {
            match from.read(&mut self.chunk[self.filled..self.filled + room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                count => break count?,
            }
        };
        if count > room {
            return Err(io::Error::other("a reader gave more than it was asked for"));
        }
        Ok(count as u64)
    }

    /// Keeps the bytes that [`Packer::fill`] took.
    pub(super) fn advance(&mut self, count: u64) -> io::Result<()> {
        self.filled += usize::try_from(count).map_err(io::Error::other)?;
        self.plain_size += count;
        if self.filled == CHUNK { self.pass_on() } else { Ok(()) }
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(CHUNK - self.filled);
            self.chunk[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.advance(count as u64)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    pub(super) fn plain_size(&self) -> u64 {
        self.plain_size
    }

    pub(super) fn finish(mut self) -> io::Result<(W, Sums)> {
        if self.filled > 0 {
            self.pass_on()?;
        }
        let crew = self.crew.take();
        let mut own = None;
        if let Some(Crew { jobs, pieces, digester, pending, .. }) = crew {
            drop((jobs, pieces));
            for done in pending {
                self.put(&received(&done)?.packed)?;
            }
            own = Some(digester.join().map_err(|_| gone())?);
        }
        self.out.flush()?;
        let packed = self.packed.finish();
        let sums =
            Sums { plain: own.unwrap_or(packed), plain_size: self.plain_size, packed, packed_size: self.packed_size };
        Ok((self.out, sums))
    }

    /// Gives the workers what has come together.
    fn pass_on(&mut self) -> io::Result<()> {
        let filled = std::mem::take(&mut self.filled);
        let Some(crew) = &mut self.crew else {
            self.packed.update(&self.chunk[..filled]);
            self.packed_size += filled as u64;
            return self.out.write_all(&self.chunk[..filled]);
        };
        let fresh = crew.chunks.pop().unwrap_or_default();
        let mut plain = std::mem::replace(&mut self.chunk, fresh);
        self.chunk.resize(CHUNK, 0);
        plain.truncate(filled);
        let plain = Arc::new(plain);
        let (done, receiver) = sync_channel(1);
        crew.pieces.send(plain.clone()).map_err(|_| gone())?;
        let piece = Piece { plain, packed: crew.buffers.pop().unwrap_or_default() };
        crew.jobs.send(Job { piece, done }).map_err(|_| gone())?;
        crew.pending.push_back(receiver);
        if crew.pending.len() < crew.most {
            return Ok(());
        }
        let Some(oldest) = crew.pending.pop_front() else {
            return Ok(());
        };
        let Piece { plain, packed } = received(&oldest)?;
        // Whoever digests may still have it; then it is not kept.
        crew.chunks.extend(Arc::into_inner(plain));
        self.put(&packed)?;
        if let Some(crew) = &mut self.crew {
            crew.buffers.push(packed);
        }
        Ok(())
    }

    fn put(&mut self, packed: &[u8]) -> io::Result<()> {
        self.packed.update(packed);
        self.packed_size += packed.len() as u64;
        self.out.write_all(packed)
    }
}

impl Crew {
    fn new(compression: Compression, workers: usize) -> Option<Self> {
        let worker = match compression {
            Compression::None => return None,
            Compression::Gzip => gzip as fn(&Queue),
            Compression::Zstd => zstd as fn(&Queue),
        };
        let most = workers + 2;
        let (jobs, queue) = sync_channel(most);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = queue.clone();
            std::thread::spawn(move || worker(&queue));
        }
        let (pieces, taken) = sync_channel::<Arc<Vec<u8>>>(2);
        let digester = std::thread::spawn(move || {
            let mut hasher = Hasher::new();
            for piece in taken {
                hasher.update(&piece);
            }
            hasher.finish()
        });
        let (chunks, buffers) = (Vec::new(), Vec::new());
        Some(Self { jobs, pieces, digester, pending: VecDeque::new(), most, chunks, buffers })
    }
}

type Queue = Mutex<Receiver<Job>>;

/// Waits for the next job; there is none any more when the packer is gone.
fn next(queue: &Queue) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn gzip(queue: &Queue) {
    let mut state = Compress::new(flate2::Compression::new(GZIP_LEVEL), false);
    work(queue, |plain, packed| gzip_member(&mut state, plain, packed));
}

fn gzip_member(state: &mut Compress, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
    /// No name, no time, no system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

    state.reset();
    packed.clear();
    packed.reserve(plain.len() / 2 + 64);
    packed.extend(HEADER);
    loop {
        let done = usize::try_from(state.total_in()).map_err(io::Error::other)?;
        match state.compress_vec(&plain[done..], packed, FlushCompress::Finish).map_err(io::Error::other)? {
            flate2::Status::StreamEnd => break,
            _ => packed.reserve(packed.capacity() / 2 + 1024),
        }
    }
    let mut crc = Crc::new();
    crc.update(plain);
    packed.extend(crc.sum().to_le_bytes());
    packed.extend(crc.amount().to_le_bytes());
    Ok(())
}

fn zstd(queue: &Queue) {
    let mut state = zstd::bulk::Compressor::new(ZSTD_LEVEL);
    work(queue, |plain, packed| {
        let state = state.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        packed.clear();
        packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        state.compress_to_buffer(plain, packed).map(drop)
    });
}

fn work(queue: &Queue, mut pack: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<()>) {
    while let Some(Job { piece: Piece { plain, mut packed }, done }) = next(queue) {
        let result = pack(&plain, &mut packed).map(|()| Piece { plain, packed });
        // A packer that failed does not wait for its pieces.
        done.send(result).ok();
    }
}

fn received(done: &Receiver<io::Result<Piece>>) -> io::Result<Piece> {
    done.recv().unwrap_or_else(|_| Err(gone()))
}

fn gone() -> io::Error {
    io::Error::other("a worker that compresses has stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(bytes: &[u8], compression: Compression, threads: usize) -> (Vec<u8>, Sums) {
        let mut packer = Packer::new(Vec::new(), compression, NonZero::new(threads).unwrap());
        for piece in bytes.chunks(70_001) {
            packer.write_all(piece).unwrap();
        }
        packer.finish().unwrap()
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_workers() {
        let bytes: Vec<u8> =
            (0..600_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 27).to_le_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (one, sums) = pack(&bytes, compression, 1);
            assert_eq!(sums.plain, Digest::of(&bytes), "{compression:?}");
            assert_eq!(sums.packed, Digest::of(&one), "{compression:?}");
            assert_eq!((sums.plain_size, sums.packed_size), (bytes.len() as u64, one.len() as u64));
            assert_eq!(Compression::of_magic(&one[..4]), compression);
            for threads in [2, 64] {
                assert_eq!(pack(&bytes, compression, threads).0, one, "{compression:?} by {threads}");
            }
        }
    }

    #[test]
    fn incompressible_bytes_survive() {
        let mut state = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(CHUNK + 3)
        .collect();
        let (packed, _) = pack(&bytes, Compression::Gzip, 2);
        let mut read = Vec::new();
        flate2::read::MultiGzDecoder::new(&packed[..]).read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        assert!(zstd::decode_all(&pack(&bytes, Compression::Zstd, 2).0[..]).unwrap() == bytes);
    }

    #[test]
    fn a_writer_that_fails_is_reported() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut packer = Packer::new(Full, Compression::Zstd, NonZero::new(2).unwrap());
        let chunk = vec![0; CHUNK];
        let error = (0..40).find_map(|_| packer.write_all(&chunk).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
