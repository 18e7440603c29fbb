//! Bytes that the controller sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use rustix::fs::{Advice, fadvise};

/// Bytes that the controller sent, small ones in memory, large ones in files named after their digests.
///
/// The files are not the spool's to remove: those of a conversation that was cut off are gone on with in the next.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    blobs: BTreeMap<Digest, Spooled>,
    /// Blobs that one thing alone is made of.
    wanted_once: BTreeSet<Digest>,
}

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Arrival {
    digest: Digest,
    left: u64,
    resumed: bool,
    hasher: Hasher,
    sink: ArrivalSink,
}

#[derive(Debug)]
enum ArrivalSink {
    Memory(Vec<u8>),
    File(FileSink),
}

/// A file that is written from some byte on.
#[derive(Debug)]
struct FileSink {
    file: File,
    path: PathBuf,
    /// Where the next byte goes.
    end: u64,
    /// Up to where the disk was told to begin.
    begun: u64,
}

impl FileSink {
    /// How many bytes the disk is given at a time.
    const STRETCH: u64 = 8 << 20;

    /// Writes, and lets the disk begin while the rest is on its way: the sync at the end finds little left to wait for.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.end += bytes.len() as u64;
        if self.end - self.begun >= Self::STRETCH {
            // What is said to be needed no longer is what Linux begins to write. It is only advice.
            let _ = fadvise(&self.file, self.begun, NonZeroU64::new(self.end - self.begun), Advice::DontNeed);
            self.begun = self.end;
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Spooled {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Arrival {
    /// Takes the next bytes. Where they have no room, none is held by those before them.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidData, "a blob is larger than announced");
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(too_many)?;
        self.hasher.update(bytes);
        match &mut self.sink {
            ArrivalSink::Memory(all) => all.extend_from_slice(bytes),
            ArrivalSink::File(sink) => sink.write(bytes).or_else(|error| {
                fs::remove_file(&sink.path)?;
                Err(error)
            })?,
        }
        Ok(())
    }

    /// Tells whether all bytes have come.
    pub(crate) fn is_whole(&self) -> bool {
        self.left == 0
    }
}

impl Spool {
    /// What is larger goes to a file; what is not, to memory. A plan's small blobs are few enough to be held.
    const SMALL: u64 = 64 << 10;

    /// Tells whether a blob of this size goes to a file.
    pub(crate) fn is_large(size: u64) -> bool {
        size > Self::SMALL
    }

    /// Begins to take a blob. `folder` is where a large one goes, and where its bytes before `from` are.
    pub(crate) fn begin(digest: Digest, size: u64, from: u64, folder: Option<&Path>) -> io::Result<Arrival> {
        let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "a blob begins where it cannot be gone on with");
        let left = size.checked_sub(from).ok_or_else(nonsense)?;
        let mut hasher = Hasher::new();
        let sink = match folder {
            Some(folder) if Self::is_large(size) => {
                let path = folder.join(digest.to_string());
                let mut file = match from {
                    0 => OpenOptions::new().write(true).create(true).truncate(true).open(&path)?,
                    _ => OpenOptions::new().read(true).write(true).open(&path)?,
                };
                file.set_len(file.metadata()?.len().min(from))?;
                if io::copy(&mut (&mut file).take(from), &mut HasherSink(&mut hasher))? != from {
                    return Err(nonsense());
                }
                ArrivalSink::File(FileSink { file, path, end: from, begun: from })
            }
            _ if from == 0 => ArrivalSink::Memory(Vec::new()),
            _ => return Err(nonsense()),
        };
        Ok(Arrival { digest, left, resumed: from > 0, hasher, sink })
    }

    /// Takes a blob that has arrived whole. One that was gone on with and is not what it should be is dropped without a word:
    /// then it is still lacking, and nothing of it is there.
    pub(crate) fn finish(&mut self, arrival: Arrival) -> io::Result<()> {
        let Arrival { digest, left: _, resumed, hasher, sink } = arrival;
        if hasher.finish() != digest {
            if let ArrivalSink::File(FileSink { path, .. }) = sink {
                fs::remove_file(path)?;
            }
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a blob arrived damaged");
            return if resumed { Ok(()) } else { Err(damaged()) };
        }
        let spooled = match sink {
            ArrivalSink::Memory(bytes) => Spooled::Memory(bytes),
            ArrivalSink::File(FileSink { path, .. }) => Spooled::File(path),
        };
        self.blobs.insert(digest, spooled);
        Ok(())
    }

    /// Learns which blobs one thing alone is made of.
    pub(crate) fn expect_once(&mut self, digests: BTreeSet<Digest>) {
        self.wanted_once = digests;
    }

    /// Returns the path of a blob's file that may go from there, because nothing else is made of it.
    pub(crate) fn spare(&self, digest: &Digest) -> Option<&Path> {
        match self.blobs.get(digest) {
            Some(Spooled::File(path)) if self.wanted_once.contains(digest) => Some(path),
            _ => None,
        }
    }

    /// Tells whether a blob is here.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Opens the file that a blob is in, where it is in one.
    pub(crate) fn file(&self, digest: &Digest) -> Option<io::Result<File>> {
        match self.blobs.get(digest) {
            Some(Spooled::File(path)) => Some(File::open(path)),
            _ => None,
        }
    }

    /// Opens a blob.
    pub(crate) fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + '_>> {
        match self.blobs.get(digest) {
            Some(Spooled::Memory(bytes)) => Ok(Box::new(bytes.as_slice())),
            Some(Spooled::File(path)) => Ok(Box::new(File::open(path)?)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("blob {} was never sent", digest.short()))),
        }
    }
}

struct HasherSink<'a>(&'a mut Hasher);

impl io::Write for HasherSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_gone_on_with_where_it_was_cut() {
        let temp = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (digest, size) = (Digest::of(&content), content.len() as u64);
        let begin = |from| Spool::begin(digest, size, from, Some(temp.path()));
        let path = temp.path().join(digest.to_string());
        begin(0).unwrap().write(&content[..100_000]).unwrap();
        // What came last may be less than what is there by now: another side may have less.
        for from in [100_000, 90_000, 200_000] {
            let mut spool = Spool::default();
            let mut arrival = begin(from as u64).unwrap();
            arrival.write(&content[from..]).unwrap();
            assert!(arrival.is_whole());
            spool.finish(arrival).unwrap();
            let mut got = Vec::new();
            spool.open(&digest).unwrap().read_to_end(&mut got).unwrap();
            assert!(got == content, "{from}");
        }
        fs::write(&path, &content[..10]).unwrap();
        for from in [11, size + 1] {
            assert_eq!(begin(from).unwrap_err().kind(), io::ErrorKind::InvalidData, "{from}");
        }
    }

    #[test]
    fn a_wrong_beginning_is_dropped_and_a_wrong_whole_refused() {
        let temp = tempfile::tempdir().unwrap();
        let content = vec![7; 100_000];
        let (digest, size) = (Digest::of(&content), content.len() as u64);
        let path = temp.path().join(digest.to_string());
        fs::write(&path, [8; 10]).unwrap();
        for (from, refused) in [(10, false), (0, true)] {
            let mut spool = Spool::default();
            let mut arrival = Spool::begin(digest, size, from, Some(temp.path())).unwrap();
            arrival.write(&vec![9; 100_000 - usize::try_from(from).unwrap()]).unwrap();
            assert_eq!(spool.finish(arrival).is_err(), refused, "{from}");
            assert!(!spool.has(&digest) && !path.exists());
        }
    }
}
