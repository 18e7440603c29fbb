//! One writer at a time, who says who it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// The right to write a ledger, held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    holder: Holder,
}

/// Who holds a lock, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holder {
    /// The engine's process.
    pub pid: u32,
    /// The run.
    pub run: String,
    /// The deploy.
    pub deploy: String,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// The step it is at.
    pub step: String,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another run holds the ledger: {}", describe(.0.as_deref()))]
    Held(Option<Box<Holder>>),
    /// The lock's file could not be used.
    #[error("cannot lock `{path}`")]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How long what is left of a killed run may take to end.
const REMNANTS: Duration = Duration::from_secs(5);

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// Waits for nobody who lives. But what was killed while it started a program goes before the fork that shares its lock does;
    /// until that one has noticed, nothing may be recovered, and there is nobody to be named.
    pub fn take(path: &Path, holder: Holder) -> Result<Self, LockError> {
        let error = |source| LockError::Io { path: path.to_owned(), source };
        let began = Instant::now();
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = options.open(path).map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).map_err(error)?;
                    let first: Option<Holder> = serde_json::from_str(&text).ok();
                    if first.as_ref().is_some_and(|first| is_gone(first.pid)) && began.elapsed() < REMNANTS {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    return Err(LockError::Held(first.map(Box::new)));
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
            // The last run may have removed the ledger, this file with it, between the opening and the locking.
            let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            match (file.metadata(), fs::metadata(path)) {
                (Ok(mine), Ok(there)) if same(&mine, &there) => {
                    let mut lock = Self { file, path: path.to_owned(), holder };
                    lock.write().map_err(error)?;
                    return Ok(lock);
                }
                (Err(source), _) => return Err(error(source)),
                _ => {}
            }
        }
    }

    /// Says which step the run is at, for whoever is refused.
    pub fn at_step(&mut self, step: &str) -> io::Result<()> {
        step.clone_into(&mut self.holder.step);
        self.write()
    }

    /// Removes the lock's file; whoever opened it before notices and opens a new one.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.holder)?;
        self.file.rewind()?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }
}

/// Tells whether a process is no more.
pub(super) fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn describe(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, run, deploy, since_s: _, step }) if step.is_empty() => {
            format!("`{deploy}`, run {run}, process {pid}")
        }
        Some(Holder { pid, run, deploy, since_s: _, step }) => {
            format!("`{deploy}`, run {run}, process {pid}, at step `{step}`")
        }
        None => "it has not said who it is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let holder = Holder {
            pid: std::process::id(),
            run: "r1".into(),
            deploy: "local".into(),
            since_s: 1,
            step: String::new(),
        };
        let mut first = Lock::take(&path, holder).unwrap();
        first.at_step("hello/write:/x").unwrap();
        let error = Lock::take(&path, Holder::default()).unwrap_err();
        let pid = std::process::id();
        let who = format!("another run holds the ledger: `local`, run r1, process {pid}, at step `hello/write:/x`");
        assert_eq!(error.to_string(), who);
        first.remove().unwrap();
        assert!(Lock::take(&path, Holder::default()).is_ok());
    }

    #[test]
    fn what_is_left_of_a_dead_holder_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let first = Lock::take(&path, Holder { pid: dead.id(), ..Holder::default() }).unwrap();
        let second = {
            let path = path.clone();
            std::thread::spawn(move || Lock::take(&path, Holder::default()).map(drop))
        };
        drop(first);
        assert!(second.join().unwrap().is_ok());
    }
}
