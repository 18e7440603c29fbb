//! Carries out the steps of one side of a venue, and undoes them.
//!
//! Work on a step goes through three stations. [`lower`] says which things the step wants; [`mod@assess`] compares them with
//! the venue and the ledger, touching nothing; [`mod@converge`] writes the intents down and makes the things so.
//! [`mod@release`] is the way back, and needs no plan: the ledger knows what each step claims and what was there before.

mod assess;
mod converge;
mod lower;
mod release;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use charly_ir::message::{Event, Kept, Problem};

pub(crate) use assess::{Assessment, Task, assess, deploy_name, detail, locate};
pub(crate) use converge::converge;
pub(crate) use release::{Release, ReleaseOptions, pending_problem, preview, release, release_folders};

use crate::ledger::LedgerError;
use crate::tree::TreeError;

/// Why work stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// A path operation failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The ledger could not be written. What was promised is not known to be kept, so nothing more is done.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The plan asks for something that makes no sense here.
    #[error("{0}")]
    Plan(String),
    /// Another deploy wants the same thing to be something else.
    #[error("{what} `{subject}` is claimed by `{owner}`, which wants it otherwise")]
    Conflict {
        /// What sort of thing.
        what: String,
        /// The thing.
        subject: String,
        /// Whose it is: deploy and candy.
        owner: String,
    },
    /// The venue cannot take what the plan asks for, and nothing was touched to find out.
    #[error("{}", .0.what)]
    Unfit(Box<Problem>),
    /// A step's own program failed.
    #[error("{}", .0.what)]
    Program(Box<Problem>),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl WorkError {
    /// Returns the error as its reader gets it.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Program(problem) | Self::Unfit(problem) => (**problem).clone(),
            Self::Conflict { owner, .. } => {
                let hint = format!("take that one away first, or make both ask for the same; `{owner}` came first");
                Problem::from_error(self).hint(hint)
            }
            error => Problem::from_error(error),
        }
    }
}

/// Where work reports to.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Event);

/// Bytes that the controller sent, small ones in memory, large ones in files that have no name.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    blobs: BTreeMap<Digest, Spooled>,
}

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Arrival {
    digest: Digest,
    left: u64,
    hasher: Hasher,
    sink: ArrivalSink,
}

#[derive(Debug)]
enum ArrivalSink {
    Memory(Vec<u8>),
    File(File, PathBuf),
}

impl Arrival {
    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let too_many = || io::Error::new(io::ErrorKind::InvalidData, "a blob is larger than announced");
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(too_many)?;
        self.hasher.update(bytes);
        match &mut self.sink {
            ArrivalSink::Memory(all) => all.extend_from_slice(bytes),
            ArrivalSink::File(file, _) => file.write_all(bytes)?,
        }
        Ok(())
    }

    /// Tells whether all bytes have come.
    pub(crate) fn is_whole(&self) -> bool {
        self.left == 0
    }
}

#[derive(Debug)]
enum Spooled {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Spool {
    /// What is larger goes to a file; what is not, to memory. A plan's small blobs are few enough to be held.
    const SMALL: u64 = 64 << 10;

    /// Tells whether a blob of this size goes to a file.
    pub(crate) fn is_large(size: u64) -> bool {
        size > Self::SMALL
    }

    /// Begins to take a blob. `folder` is where a large one goes.
    pub(crate) fn begin(digest: Digest, size: u64, folder: Option<&Path>) -> io::Result<Arrival> {
        let sink = match folder {
            Some(folder) if Self::is_large(size) => {
                let path = folder.join(digest.to_string());
                ArrivalSink::File(File::create(&path)?, path)
            }
            _ => ArrivalSink::Memory(Vec::new()),
        };
        Ok(Arrival { digest, left: size, hasher: Hasher::new(), sink })
    }

    /// Takes a blob that has arrived whole.
    pub(crate) fn finish(&mut self, arrival: Arrival) -> io::Result<()> {
        if arrival.hasher.finish() != arrival.digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a blob arrived damaged"));
        }
        let spooled = match arrival.sink {
            ArrivalSink::Memory(bytes) => Spooled::Memory(bytes),
            ArrivalSink::File(_, path) => Spooled::File(path),
        };
        self.blobs.insert(arrival.digest, spooled);
        Ok(())
    }

    /// Tells whether a blob is here.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
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

impl Drop for Spool {
    fn drop(&mut self) {
        for spooled in self.blobs.values() {
            if let Spooled::File(path) = spooled {
                // A spool left behind costs space alone, and the next run clears it.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// What a stretch of work came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Steps that changed the venue.
    pub changed: u32,
    /// Steps that were undone.
    pub removed: u32,
    /// What was left behind on purpose.
    pub kept: Vec<Kept>,
    /// What could not be undone.
    pub pending: Vec<Problem>,
}
