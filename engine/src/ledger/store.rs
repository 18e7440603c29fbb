//! A ledger's folder: reading it, writing it, and leaving nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::error::LedgerError;
use super::folder::{Temporary, judge_owner, make_folder, public_folder, remove_if_there, remove_ledger, sync_folder};
use super::journal::{self, JournalError};
use super::lock::{Holder, Lock};
use super::name::DeployId;
use super::record::{DeployRecord, Record};
use super::snapshot::{self, FORMAT, Snapshots, render};

/// Called with every record about to be written; an error ends the run on the spot. Tests inject faults with it.
pub type Probe = Box<dyn FnMut(&Record) -> io::Result<()> + Send>;

/// A ledger that this process may write.
pub struct Ledger {
    /// Before the lock: what it removes, it removes while nobody else can take it.
    untouched: Untouched,
    pub(super) folder: PathBuf,
    book: Book,
    next_seq: u64,
    lock: Lock,
    journal: Option<File>,
    buffer: Vec<u8>,
    files: BTreeMap<PathBuf, Digest>,
    made: usize,
    interrupted: Option<Interrupted>,
    probe: Option<Probe>,
}

/// A run that ended before it could clear its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The run.
    pub run: String,
    /// Its deploy.
    pub deploy: DeployId,
    /// `apply` or `remove`.
    pub what: String,
}

/// What is read from a folder: its snapshots, with the journal's records applied.
#[derive(Debug, Default)]
struct Loaded {
    snapshots: Snapshots,
    journal_length: u64,
    interrupted: Option<Interrupted>,
}

impl Ledger {
    /// Reads a ledger without the right to change it. A folder that is not there is an empty ledger.
    pub fn read(folder: &Path) -> Result<Book, LedgerError> {
        Ok(load(folder, true)?.snapshots.book)
    }

    /// Reads the deploys alone, which costs little however much they own.
    pub fn deploys(folder: &Path) -> Result<BTreeMap<DeployId, DeployRecord>, LedgerError> {
        Ok(load(folder, false)?.snapshots.book.deploys)
    }

    /// Takes the right to change a ledger, making its folder where there is none.
    pub fn open(folder: &Path, holder: Holder, probe: Option<Probe>) -> Result<Self, LedgerError> {
        make_folder(folder)?;
        let lock = Lock::take(&folder.join("lock"), holder)?;
        let loaded = load(folder, true)?;
        if loaded.interrupted.is_some() || loaded.journal_length > 0 {
            cut_torn_end(folder, loaded.journal_length)?;
        }
        let next_seq = loaded.snapshots.book.next_seq();
        Ok(Self {
            untouched: Untouched {
                folder: folder.to_owned(),
                is_empty: loaded.snapshots.book.is_empty(),
                made: loaded.snapshots.made,
                armed: loaded.interrupted.is_none(),
            },
            folder: folder.to_owned(),
            book: loaded.snapshots.book,
            next_seq,
            lock,
            journal: None,
            buffer: Vec::new(),
            files: loaded.snapshots.files,
            made: loaded.snapshots.made,
            interrupted: loaded.interrupted,
            probe,
        })
    }

    /// Tells whether a ledger's folder holds nothing that a deploy needs: a run that made it was cut off before its first
    /// record, and what arrived for it may still be there.
    pub fn is_leftover(folder: &Path) -> bool {
        let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
        there("folder.json") && !["deploys", "layers", "journal"].into_iter().any(there)
    }

    /// Returns the run that ended early, where one did.
    pub fn interrupted(&self) -> Option<&Interrupted> {
        self.interrupted.as_ref()
    }

    /// Returns the state.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Returns the place for the next first claim.
    pub fn next_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Says which step the run is at, for whoever is refused.
    pub fn at_step(&mut self, step: &str) -> Result<(), LedgerError> {
        self.lock.at_step(step).map_err(|source| self.error("write the lock of", source))
    }

    /// Takes a record. It is durable after the next [`flush`](Self::flush).
    pub fn append(&mut self, record: Record) -> Result<(), LedgerError> {
        self.untouched.armed = false;
        if let Some(probe) = &mut self.probe {
            probe(&record).map_err(|source| self.error("write the journal of", source))?;
        }
        let line = journal::line(&record).map_err(|source| self.error("write the journal of", source))?;
        self.buffer.extend_from_slice(&line);
        self.book.apply(record);
        Ok(())
    }

    /// Makes every record taken so far durable.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = (|| {
            let file = match &mut self.journal {
                Some(file) => file,
                empty => {
                    let mut options = OpenOptions::new();
                    let path = self.folder.join("journal");
                    let fresh = !path.exists();
                    let file = options.append(true).create(true).mode(0o600).open(path)?;
                    if fresh {
                        // The deploying user reads root's, too: what it says, the snapshots say when the run ends.
                        rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644))?;
                        File::open(&self.folder)?.sync_all()?;
                    }
                    empty.insert(file)
                }
            };
            file.write_all(&self.buffer)?;
            file.sync_data()
        })();
        result.map_err(|source| self.error("write the journal of", source))?;
        self.buffer.clear();
        Ok(())
    }

    /// Returns the key that digests of secrets are made with, making it on first use.
    pub fn key(&self) -> Result<Vec<u8>, LedgerError> {
        let path = self.folder.join("key");
        let result = (|| match fs::read(&path) {
            Ok(key) if key.len() == 32 => Ok(key),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the key is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = vec![0; 32];
                File::open("/dev/urandom")?.read_exact(&mut key)?;
                let mut temporary = Temporary::new(&self.folder)?;
                temporary.file.write_all(&key)?;
                temporary.persist(&path)?;
                Ok(key)
            }
            Err(error) => Err(error),
        })();
        result.map_err(|source| self.error("use the key of", source))
    }

    /// Turns the state into snapshots and clears the journal; where nothing is left to remember, removes the ledger whole.
    pub fn close(mut self) -> Result<(), LedgerError> {
        self.untouched.armed = false;
        if self.book.is_empty() {
            return self.remove();
        }
        if self.journal.is_none() && self.buffer.is_empty() && self.interrupted.is_none() {
            remove_if_there(&self.folder.join("incoming"), |path| fs::remove_dir_all(path))?;
            return self.unlock();
        }
        // What the snapshots are about to say must not be younger than what the journal says, should they be torn.
        self.flush()?;
        self.snapshot()?;
        remove_if_there(&self.folder.join("journal"), |path| fs::remove_file(path))?;
        sync_folder(&self.folder)?;
        self.unlock()
    }

    fn unlock(self) -> Result<(), LedgerError> {
        let Self { folder, lock, .. } = self;
        lock.remove().map_err(|source| LedgerError::Io { doing: "remove the lock of", path: folder, source })
    }

    fn snapshot(&mut self) -> Result<(), LedgerError> {
        let texts = render(&self.folder, &self.book, self.made).map_err(|source| self.error("write", source))?;
        let mut touched = BTreeSet::new();
        for (path, text) in &texts {
            let digest = Digest::of(text);
            if self.files.get(path) == Some(&digest) {
                continue;
            }
            let folder = path.parent().unwrap_or(&self.folder).to_owned();
            let write = || {
                public_folder(&folder)?;
                let mut temporary = Temporary::new(&folder)?;
                temporary.file.write_all(text)?;
                temporary.readable()?;
                temporary.persist(path)
            };
            write().map_err(|source| LedgerError::Io { doing: "write", path: path.clone(), source })?;
            touched.insert(folder);
            self.files.insert(path.clone(), digest);
        }
        let gone: Vec<_> = self.files.keys().filter(|path| !texts.contains_key(*path)).cloned().collect();
        for path in gone {
            fs::remove_file(&path).map_err(|source| LedgerError::Io { doing: "remove", path: path.clone(), source })?;
            touched.extend(path.parent().map(Path::to_owned));
            self.files.remove(&path);
        }
        touched.iter().try_for_each(|folder| sync_folder(folder))?;
        self.drop_unreferenced();
        remove_if_there(&self.folder.join("incoming"), |path| fs::remove_dir_all(path))
    }

    fn remove(self) -> Result<(), LedgerError> {
        remove_ledger(&self.folder, self.made)
    }

    pub(super) fn error(&self, doing: &'static str, source: io::Error) -> LedgerError {
        LedgerError::Io { doing, path: self.folder.clone(), source }
    }
}

/// A ledger that was opened and not written to. Dropped as such (its run was refused or cut off), it leaves the folder as it
/// was, with what arrived for the run: the next one goes on with it.
struct Untouched {
    folder: PathBuf,
    is_empty: bool,
    made: usize,
    armed: bool,
}

impl Drop for Untouched {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let incoming = self.folder.join("incoming");
        // It goes where nothing is in it.
        let _ = fs::remove_dir(&incoming);
        // What cannot be removed now is removed by the next run that ends well.
        let _ = if self.is_empty && !incoming.exists() {
            remove_ledger(&self.folder, self.made)
        } else {
            remove_if_there(&self.folder.join("lock"), |path| fs::remove_file(path))
        };
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("folder", &self.folder).field("book", &self.book).finish_non_exhaustive()
    }
}

fn load(folder: &Path, layers: bool) -> Result<Loaded, LedgerError> {
    let snapshots = snapshot::load(folder, layers)?;
    let mut loaded = Loaded { snapshots, ..Loaded::default() };
    let path = folder.join("journal");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(loaded),
        Err(source) => return Err(JournalError::Io { path, source }.into()),
    };
    judge_owner(&path)?;
    let journal = journal::parse(&path, &bytes, FORMAT)?;
    loaded.journal_length = journal.length;
    for record in journal.records {
        if let Record::Begin { run, deploy, what, .. } = &record {
            let (run, deploy, what) = (run.clone(), deploy.clone(), what.clone());
            loaded.interrupted = Some(Interrupted { run, deploy, what });
        }
        loaded.snapshots.book.apply(record);
    }
    Ok(loaded)
}

fn cut_torn_end(folder: &Path, length: u64) -> Result<(), LedgerError> {
    let path = folder.join("journal");
    let cut = || {
        let file = OpenOptions::new().write(true).open(&path)?;
        if file.metadata()?.len() > length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(())
    };
    match cut() {
        Ok(()) => Ok(()),
        Err(source) => Err(LedgerError::Io { doing: "repair", path: path.clone(), source }),
    }
}
