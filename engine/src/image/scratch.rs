//! Where a delivery works, and leaves what it may need again.
//!
//! What came of a layer stays here until the image is there: podman throws away what it has not finished, and asks for all of it
//! again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use charly_ir::Digest;
use charly_ir::message::Problem;
use rustix::fs::{FlockOperation, flock};

use crate::worker::WorkError;

/// How much of a layer is kept before it is told whether keeping it is worth while.
const WORTH: u64 = 16 << 20;

/// In how many milliseconds that came where it is not: with 32 MB a second there are better uses for a disk.
const FAST_MS: u128 = 500;

/// The folder of one delivery at a time.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    _lock: File,
}

/// The beginning of a layer, which grows.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Absent where it is not kept: then a cut costs more, and that is all.
    file: Option<File>,
    path: PathBuf,
    came: u64,
    since: Instant,
}

impl Scratch {
    /// Opens the folder, and takes away what runs left that were killed.
    pub(super) fn open(cache: &Path) -> Result<Self, WorkError> {
        let folder = cache.join("image");
        let lock = prepare(&folder).map_err(|error| cannot(&folder, &error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let problem = Problem::new("another image is being delivered there for the same user");
            let hint = "wait for that to end, then run the same command again";
            return Err(WorkError::Denied(Box::new(problem.hint(hint))));
        }
        let scratch = Self { folder, _lock: lock };
        scratch.sweep().map_err(|error| cannot(&scratch.folder, &error))?;
        Ok(scratch)
    }

    fn sweep(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.temporary()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for folder in [self.temporary(), self.incoming()] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(())
    }

    /// Returns the folder for podman's own temporary files, which it leaves behind where it is killed.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// Writes a small file, and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, WorkError> {
        let path = self.temporary().join(name);
        fs::write(&path, text).map_err(|error| cannot(&path, &error))?;
        Ok(path)
    }

    /// Returns how much of a layer came before, at most all of it.
    pub(super) fn arrived(&self, layer: Digest, size: u64) -> u64 {
        let length = fs::metadata(self.incoming().join(layer.to_string())).map_or(0, |metadata| metadata.size());
        if length <= size { length } else { 0 }
    }

    /// Opens what came of a layer before.
    pub(super) fn read(&self, layer: Digest) -> io::Result<File> {
        File::open(self.incoming().join(layer.to_string()))
    }

    /// Goes on with a layer of which `from` bytes are there.
    pub(super) fn append(&self, layer: Digest, from: u64) -> Beginning {
        let path = self.incoming().join(layer.to_string());
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        let file = file.filter(|file| file.set_len(from).is_ok());
        Beginning { file, path, came: 0, since: Instant::now() }
    }

    /// Forgets what came of layers: they are in storage, or they were not what they should be.
    pub(super) fn forget(&self) {
        let _ = fs::remove_dir_all(self.incoming());
        let _ = DirBuilder::new().mode(0o700).create(self.incoming());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is not taken away now is the next delivery's to take away.
        let _ = fs::remove_dir_all(self.temporary());
        if fs::remove_dir(self.incoming()).is_ok() {
            let _ = fs::remove_file(self.folder.join("lock"));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

impl Beginning {
    /// Keeps the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        self.came += bytes.len() as u64;
        let is_fast = || self.since.elapsed().as_millis() < FAST_MS;
        // What came at once comes at once again, and the room is better used by podman.
        if file.write_all(bytes).is_err() || (self.came >= WORTH && is_fast()) {
            self.file = None;
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the folder, for nobody else, and opens its lock.
fn prepare(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))
}

fn cannot(path: &Path, error: &io::Error) -> WorkError {
    let problem = Problem::new(format!("`{}` cannot be written", path.display())).because(error.to_string());
    WorkError::Program(Box::new(problem.hint("see that there is room there, and that it is this user's own")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_stays_until_it_is_forgotten() {
        let cache = tempfile::tempdir().unwrap();
        let layer = Digest::of(b"layer");
        let scratch = Scratch::open(cache.path()).unwrap();
        assert!(matches!(Scratch::open(cache.path()), Err(WorkError::Denied(_))), "one at a time");
        scratch.write("left", "over").unwrap();
        scratch.append(layer, 0).write(b"12345");
        drop(scratch);

        let scratch = Scratch::open(cache.path()).unwrap();
        assert!(!scratch.temporary().join("left").exists());
        assert_eq!((scratch.arrived(layer, 8), scratch.arrived(layer, 4)), (5, 0));
        scratch.append(layer, 3).write(b"678");
        assert_eq!(io::read_to_string(scratch.read(layer).unwrap()).unwrap(), "123678");
        scratch.forget();
        assert_eq!(scratch.arrived(layer, 8), 0);
        drop(scratch);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left");
    }
}
