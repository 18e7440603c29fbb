//! What an engine is given when it needs something.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Read};

use charly_ir::Digest;
use charly_ir::message::{Image, Manifest, Problem};

/// Gives an engine what its plan only names.
pub trait Supply: Debug + Send {
    /// Returns what a step that fetches something places. This is where downloads happen.
    fn manifest(&mut self, step: u32) -> Result<Manifest, Problem>;

    /// Returns a blob of the plan or of a manifest returned before.
    fn blob(&mut self, digest: Digest) -> Result<Blob, Problem>;

    /// Returns the image that is to be delivered, with the sizes of its layers' uncompressed archives.
    fn image(&mut self) -> Result<(Image, BTreeMap<Digest, u64>), Problem> {
        Err(Problem::new("no image belongs to this request"))
    }
}

/// Bytes of a known number, read when they are sent.
pub struct Blob {
    size: u64,
    bytes: Box<dyn Read + Send>,
}

impl Blob {
    /// Takes a reader that gives exactly `size` bytes.
    pub fn new(size: u64, bytes: impl Read + Send + 'static) -> Self {
        Self { size, bytes: Box::new(bytes) }
    }

    /// Returns the number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Supplies nothing, for requests that need nothing.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Supply for Nothing {
    fn manifest(&mut self, step: u32) -> Result<Manifest, Problem> {
        Err(Problem::new(format!("step {step} fetches nothing")))
    }

    fn blob(&mut self, digest: Digest) -> Result<Blob, Problem> {
        Err(Problem::new(format!("no blob {} belongs to this request", digest.short())))
    }
}
