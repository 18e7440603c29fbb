//! Digests of files, remembered as long as the files are what they were.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use charly_ir::{Digest, Stamp};

use crate::spread::spread;

/// Remembers digests.
pub trait Digests: Debug + Send + Sync {
    /// Returns the digest of a file that had this stamp.
    fn known(&self, stamp: &Stamp) -> Option<Digest>;

    /// Takes the digest of a file that has this stamp. Whoever remembers it must see to it that the stamp is old enough to
    /// change with the file: clocks tick.
    fn learn(&self, stamp: &Stamp, digest: Digest);
}

/// From this many bytes on, digesting is worth a second thread.
const WORTH_A_THREAD: u64 = 4 << 20;

/// Returns the digests of files with their stamps, in the order given.
pub(super) fn of(files: &[(&Path, Stamp)], known: Option<&dyn Digests>) -> io::Result<Vec<Digest>> {
    let mut digests: Vec<Option<Digest>> =
        files.iter().map(|(_, stamp)| known.and_then(|known| known.known(stamp))).collect();
    let missing: Vec<usize> = (0..files.len()).filter(|at| digests[*at].is_none()).collect();
    let bytes: u64 = missing.iter().map(|at| files[*at].1.size).sum();
    let read = spread(&missing, bytes >= WORTH_A_THREAD, |at| {
        let (path, stamp) = files[*at];
        let (digest, size) = Digest::of_reader(File::open(path)?)?;
        if size == stamp.size { Ok(digest) } else { Err(io::Error::other("it changed while it was read")) }
    });
    for (at, digest) in missing.into_iter().zip(read) {
        let digest = digest?;
        if let Some(known) = known {
            known.learn(&files[at].1, digest);
        }
        digests[at] = Some(digest);
    }
    Ok(digests.into_iter().flatten().collect())
}
