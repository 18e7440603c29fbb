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
    /// The name of the user who runs it.
    #[serde(default)]
    pub user: String,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// The step it is at.
    pub step: String,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another run holds the ledger: {}", describe(.holder.as_deref(), *.for_s))]
    Held {
        /// Who, where it said so.
        holder: Option<Box<Holder>>,
        /// For how long, in seconds.
        for_s: u64,
    },
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
                    let held = serde_json::from_str::<Holder>(&text).ok().map(Box::new);
                    if held.as_ref().is_some_and(|held| is_gone(held.pid)) && began.elapsed() < REMNANTS {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    let for_s = held.as_ref().map_or(0, |held| holder.since_s.saturating_sub(held.since_s));
                    return Err(LockError::Held { holder: held, for_s });
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
            // The last run may have removed the ledger, this file with it, between the opening and the locking.
            let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            match (file.metadata(), fs::metadata(path)) {
                (Ok(mine), Ok(there)) if same(&mine, &there) => {
                    let mut lock = Self { file, path: path.to_owned(), holder };
                    // Whoever is refused by the other ledger of the same run reads here where it is.
                    let readable = rustix::fs::fchmod(&lock.file, rustix::fs::Mode::from_raw_mode(0o644));
                    readable.map_err(io::Error::from).and_then(|()| lock.write()).map_err(error)?;
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

impl LockError {
    /// Takes over the step that the same run is at in another ledger, whose lock is at `path`, if it came to it later.
    pub(crate) fn or_at_step_of(&mut self, held: &Path, path: &Path) {
        let read = |path: &Path| {
            let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
            let other: Holder = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            Some((changed, other))
        };
        if let Self::Held { holder: Some(holder), .. } = self
            && let Some((changed, _)) = read(held)
            && let Some((later, other)) = read(path)
            && other.run == holder.run
            && !other.step.is_empty()
            && later >= changed
        {
            holder.step = other.step;
        }
    }
}

fn describe(holder: Option<&Holder>, for_s: u64) -> String {
    let Some(Holder { pid, run, deploy, user, since_s: _, step }) = holder else {
        return "it has not said who it is".to_owned();
    };
    let whose = if user.is_empty() { String::new() } else { format!(" of {user}") };
    let (number, unit) = match for_s {
        0..120 => (for_s, "second"),
        120..7200 => (for_s / 60, "minute"),
        _ => (for_s / 3600, "hour"),
    };
    let plural = if number == 1 { "" } else { "s" };
    let place = if step.is_empty() { String::new() } else { format!(", at step `{step}`") };
    format!("`{deploy}`, run {run}{whose}, process {pid}, for {number} {unit}{plural}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(run: &str, since_s: u64) -> Holder {
        let (deploy, user) = ("local".into(), "ann".into());
        Holder { pid: std::process::id(), run: run.into(), deploy, user, since_s, step: String::new() }
    }

    #[test]
    fn the_second_is_told_who_is_first() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let pid = std::process::id();
        let mut first = Lock::take(&path, holder("r1", 1000)).unwrap();
        for (now, since) in [(900, "0 seconds"), (1001, "1 second"), (1125, "2 minutes"), (9999, "2 hours")] {
            let error = Lock::take(&path, holder("r2", now)).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("another run holds the ledger: `local`, run r1 of ann, process {pid}, for {since}")
            );
        }
        first.at_step("hello/write:/x").unwrap();
        let error = Lock::take(&path, holder("r2", 1000)).unwrap_err().to_string();
        assert!(error.ends_with(", for 0 seconds, at step `hello/write:/x`"), "{error}");
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

    #[test]
    fn the_step_is_that_of_the_side_at_work() {
        let temp = tempfile::tempdir().unwrap();
        let (path, other) = (temp.path().join("user"), temp.path().join("system"));
        let _first = Lock::take(&path, holder("r1", 0)).unwrap();
        for (run, step, told) in [("r0", "c/old", ""), ("r1", "", ""), ("r1", "c/packages", "c/packages")] {
            let _ = fs::remove_file(&other);
            let mut root = Lock::take(&other, holder(run, 0)).unwrap();
            root.at_step(step).unwrap();
            let mut error = Lock::take(&path, holder("r2", 0)).unwrap_err();
            error.or_at_step_of(&path, &other);
            assert!(matches!(&error, LockError::Held { holder: Some(holder), .. } if holder.step == told), "{error}");
        }
    }

    #[test]
    fn what_a_former_charly_wrote_is_understood() {
        let text = r#"{"pid":7,"run":"r1","deploy":"local","since_s":1,"step":""}"#;
        let holder: Holder = serde_json::from_str(text).unwrap();
        assert_eq!(describe(Some(&holder), 3), "`local`, run r1, process 7, for 3 seconds");
        assert_eq!(describe(None, 0), "it has not said who it is");
    }
}
