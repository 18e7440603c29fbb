//! A ledger's folder: reading it, writing it, and leaving nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::{Deserialize, Serialize};

use super::book::Book;
use super::journal::{self, JournalError};
use super::lock::{Holder, Lock, LockError};
use super::name::{DeployId, Resource, escape};
use super::record::{DeployRecord, Entry, Record, State, StepKey, StepRecord};
use crate::tree::Node;

/// The format number of the ledgers this engine writes.
pub const FORMAT: u32 = 1;

/// Called with every record about to be written; an error ends the run on the spot. Tests inject faults with it.
pub type Probe = Box<dyn FnMut(&Record) -> io::Result<()> + Send>;

/// A ledger that this process may write.
pub struct Ledger {
    /// Before the lock: what it removes, it removes while nobody else can take it.
    untouched: Untouched,
    folder: PathBuf,
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

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another run has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// One of its files makes no sense.
    #[error("{path}:{line}:{column}: this is not a ledger's file")]
    Garbage {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A newer charly wrote it.
    #[error("{path}: charly {charly} wrote format {format}, newer than this engine's {FORMAT}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The charly that wrote it.
        charly: String,
        /// The format it wrote.
        format: u32,
    },
    /// Somebody else could have written it.
    #[error("`{path}` belongs to user {owner} or others may write to it")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It cannot be read or written.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is read from a folder.
#[derive(Debug, Default)]
struct Loaded {
    book: Book,
    files: BTreeMap<PathBuf, Digest>,
    made: usize,
    journal_length: u64,
    interrupted: Option<Interrupted>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    charly: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeployFile {
    format: u32,
    charly: String,
    deploy: DeployId,
    #[serde(flatten)]
    record: DeployRecord,
}

#[derive(Debug, Serialize, Deserialize)]
struct LayerFile {
    format: u32,
    charly: String,
    candy: String,
    steps: BTreeMap<DeployId, BTreeMap<String, StepRecord>>,
    resources: BTreeMap<Resource, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FolderFile {
    format: u32,
    charly: String,
    /// How many folders were made for the ledger, its own and those above it, and go with it.
    made: usize,
}

/// A file that says which format it has.
trait Formatted {
    fn format(&self) -> u32;
}

macro_rules! formatted {
    ($($file:ty),*) => {$(
        impl Formatted for $file {
            fn format(&self) -> u32 {
                self.format
            }
        }
    )*};
}

formatted!(DeployFile, LayerFile, FolderFile);

impl Ledger {
    /// Reads a ledger without the right to change it. A folder that is not there is an empty ledger.
    pub fn read(folder: &Path) -> Result<Book, LedgerError> {
        Ok(load(folder, true)?.book)
    }

    /// Reads the deploys alone, which costs little however much they own.
    pub fn deploys(folder: &Path) -> Result<BTreeMap<DeployId, DeployRecord>, LedgerError> {
        Ok(load(folder, false)?.book.deploys)
    }

    /// Takes the right to change a ledger, making its folder where there is none.
    pub fn open(folder: &Path, holder: Holder, probe: Option<Probe>) -> Result<Self, LedgerError> {
        let made = make_folder(folder)?;
        let lock = Lock::take(&folder.join("lock"), holder)?;
        if made > 0 {
            // At once, so that a run that is killed before it has written anything leaves no folder behind for ever.
            write_folder_file(folder, made)?;
        }
        let loaded = load(folder, true)?;
        if loaded.interrupted.is_some() || loaded.journal_length > 0 {
            cut_torn_end(folder, loaded.journal_length)?;
        }
        let next_seq = loaded.book.next_seq();
        Ok(Self {
            untouched: Untouched {
                folder: folder.to_owned(),
                is_empty: loaded.book.is_empty(),
                made: loaded.made,
                armed: loaded.interrupted.is_none(),
            },
            folder: folder.to_owned(),
            book: loaded.book,
            next_seq,
            lock,
            journal: None,
            buffer: Vec::new(),
            files: loaded.files,
            made: loaded.made,
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

    /// Returns the folder for what arrives during a run: files named after their digests. It stays until a run is finished.
    pub fn incoming(&self) -> Result<PathBuf, LedgerError> {
        let path = self.folder.join("incoming");
        private_folder(&path).map(|()| path).map_err(|source| self.error("make a folder in", source))
    }

    /// Returns how many bytes of a blob arrived for a run that was cut off.
    pub fn arrived(&self, digest: Digest) -> u64 {
        let path = self.folder.join("incoming").join(digest.to_string());
        fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len())
    }

    /// Drops what arrived for a run that was cut off, but for what is still wanted.
    pub fn keep_incoming(&self, wanted: &BTreeSet<Digest>) {
        for entry in fs::read_dir(self.folder.join("incoming")).into_iter().flatten().flatten() {
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !digest.is_some_and(|digest| wanted.contains(&digest)) {
                // It costs space alone, until a run is finished.
                let _ = fs::remove_file(entry.path());
            }
        }
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

    /// Keeps a file's content until nothing refers to its digest any more. Durable when it returns.
    pub fn keep(&self, content: &mut dyn Read) -> Result<Digest, LedgerError> {
        let result = (|| {
            let folder = self.folder.join("before");
            private_folder(&folder)?;
            let mut temporary = Temporary::new(&folder)?;
            let mut hasher = charly_ir::digest::Hasher::new();
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let n = content.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
                temporary.file.write_all(&buffer[..n])?;
            }
            let digest = hasher.finish();
            temporary.persist(&folder.join(digest.to_string()))?;
            File::open(&folder)?.sync_all()?;
            Ok(digest)
        })();
        result.map_err(|source| self.error("keep a file's content in", source))
    }

    /// Opens content that was kept.
    pub fn kept(&self, digest: Digest) -> Result<File, LedgerError> {
        let path = self.folder.join("before").join(digest.to_string());
        File::open(&path).map_err(|source| LedgerError::Io { doing: "open", path, source })
    }

    /// Keeps a copy of a file that its user edited, until the file is given up. Returns where.
    pub fn keep_edited(&self, path: &str, content: &mut dyn Read) -> Result<PathBuf, LedgerError> {
        let result = (|| {
            let folder = self.folder.join("edited");
            private_folder(&folder)?;
            let mut temporary = Temporary::new(&folder)?;
            io::copy(content, &mut temporary.file)?;
            let name = folder.join(escape(path));
            temporary.persist(&name)?;
            Ok(name)
        })();
        result.map_err(|source| self.error("keep an edited file in", source))
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

    /// Removes kept contents that no entry refers to. One that stays behind costs space alone, so failures are passed over.
    fn drop_unreferenced(&self) {
        let mut wanted = BTreeSet::new();
        let mut edited = BTreeSet::new();
        for (resource, entry) in &self.book.entries {
            if let (true, State::Node(Node::File { digest, .. })) = (entry.before.kept, &entry.before.state) {
                wanted.insert(digest.to_string());
            }
            if let Resource::Path(path) = resource {
                edited.insert(escape(path));
            }
        }
        for (folder, wanted) in [("before", wanted), ("edited", edited)] {
            let folder = self.folder.join(folder);
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !wanted.contains(&*entry.file_name().to_string_lossy()) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            let _ = fs::remove_dir(&folder);
        }
    }

    fn remove(self) -> Result<(), LedgerError> {
        remove_ledger(&self.folder, self.made)
    }

    fn error(&self, doing: &'static str, source: io::Error) -> LedgerError {
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

/// Removes a ledger whole, the lock last, with the folders that were made for it. The caller holds the lock.
fn remove_ledger(folder: &Path, made: usize) -> Result<(), LedgerError> {
    for name in ["deploys", "layers", "before", "edited", "incoming"] {
        remove_if_there(&folder.join(name), |path| fs::remove_dir_all(path))?;
    }
    for name in ["journal", "key", "folder.json", "lock"] {
        remove_if_there(&folder.join(name), |path| fs::remove_file(path))?;
    }
    for path in folder.ancestors().take(made) {
        // Somebody else's files below it are a reason to leave it.
        if fs::remove_dir(path).is_err() {
            break;
        }
    }
    Ok(())
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("folder", &self.folder).field("book", &self.book).finish_non_exhaustive()
    }
}

/// A file that has no name until it is whole.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(".new");
        remove_if_there(&path, |path| fs::remove_file(path)).map_err(io::Error::other)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    fn readable(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, rustix::fs::Mode::from_raw_mode(0o644))?)
    }

    fn persist(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

/// Renders the snapshots: one file a deploy, one a candy, one for the folder itself.
fn render(folder: &Path, book: &Book, made: usize) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let charly = env!("CARGO_PKG_VERSION").to_owned();
    let mut files = BTreeMap::new();
    files.insert(folder.join("folder.json"), folder_file(made)?);
    for (id, record) in &book.deploys {
        let path = folder.join("deploys").join(format!("{}.json", id.file_name()));
        let (deploy, record) = (id.clone(), record.clone());
        files.insert(path, json(&DeployFile { format: FORMAT, charly: charly.clone(), deploy, record })?);
    }
    let mut layers: BTreeMap<&str, LayerFile> = BTreeMap::new();
    let fresh = |candy: &str| LayerFile {
        format: FORMAT,
        charly: charly.clone(),
        candy: candy.to_owned(),
        steps: BTreeMap::new(),
        resources: BTreeMap::new(),
    };
    for (key, record) in &book.steps {
        let layer = layers.entry(&key.candy).or_insert_with(|| fresh(&key.candy));
        layer.steps.entry(key.deploy.clone()).or_default().insert(key.step.clone(), record.clone());
    }
    for (resource, entry) in &book.entries {
        // A thing several candies claim is written down with the one that came first.
        let candy = entry.all_claims().next().map_or("", |claim| &claim.candy);
        layers.entry(candy).or_insert_with(|| fresh(candy)).resources.insert(resource.clone(), entry.clone());
    }
    for (candy, layer) in layers {
        files.insert(folder.join("layers").join(format!("{}.json", escape(candy))), json(&layer)?);
    }
    Ok(files)
}

fn folder_file(made: usize) -> io::Result<Vec<u8>> {
    json(&FolderFile { format: FORMAT, charly: env!("CARGO_PKG_VERSION").to_owned(), made })
}

fn write_folder_file(folder: &Path, made: usize) -> Result<(), LedgerError> {
    let path = folder.join("folder.json");
    let write = || {
        let mut temporary = Temporary::new(folder)?;
        temporary.file.write_all(&folder_file(made)?)?;
        temporary.readable()?;
        fs::rename(&temporary.path, &path)
    };
    write().map_err(|source| LedgerError::Io { doing: "write", path: path.clone(), source })
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

fn load(folder: &Path, layers: bool) -> Result<Loaded, LedgerError> {
    let mut loaded = Loaded::default();
    let there = folder.try_exists();
    if !there.map_err(|source| LedgerError::Io { doing: "look at", path: folder.to_owned(), source })? {
        return Ok(loaded);
    }
    judge_owner(folder)?;
    if let Some(file) = read::<FolderFile>(&folder.join("folder.json"), &mut loaded.files)? {
        loaded.made = file.made;
    }
    for path in list(&folder.join("deploys"))? {
        if let Some(file) = read::<DeployFile>(&path, &mut loaded.files)? {
            loaded.book.deploys.insert(file.deploy, file.record);
        }
    }
    let layers = if layers { list(&folder.join("layers"))? } else { Vec::new() };
    for path in layers {
        let Some(file) = read::<LayerFile>(&path, &mut loaded.files)? else { continue };
        for (deploy, steps) in file.steps {
            for (step, record) in steps {
                let key = StepKey { deploy: deploy.clone(), candy: file.candy.clone(), step };
                loaded.book.steps.insert(key, record);
            }
        }
        // A crash between two snapshot files may leave a thing in two of them; the journal that is still there decides.
        loaded.book.entries.extend(file.resources);
    }
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
        loaded.book.apply(record);
    }
    Ok(loaded)
}

fn read<T: for<'a> Deserialize<'a> + Formatted>(
    path: &Path,
    files: &mut BTreeMap<PathBuf, Digest>,
) -> Result<Option<T>, LedgerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LedgerError::Io { doing: "read", path: path.to_owned(), source }),
    };
    judge_owner(path)?;
    let garbage = |source: serde_json::Error| {
        let (line, column) = (source.line(), source.column());
        LedgerError::Garbage { path: path.to_owned(), line, column, source }
    };
    let value = serde_json::from_slice::<T>(&bytes);
    // What a newer format means is not for this engine to judge, be it readable or not.
    if value.as_ref().map_or(true, |value| value.format() > FORMAT)
        && let Ok(Head { format, charly }) = serde_json::from_slice(&bytes)
        && format > FORMAT
    {
        return Err(LedgerError::Newer { path: path.to_owned(), charly, format });
    }
    let value = value.map_err(garbage)?;
    files.insert(path.to_owned(), Digest::of(&bytes));
    Ok(Some(value))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, LedgerError> {
    let error = |source| LedgerError::Io { doing: "list", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    judge_owner(folder)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Makes the ledger's folder, and returns how many folders had to be made, the ledger's own included.
fn make_folder(folder: &Path) -> Result<usize, LedgerError> {
    let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
    let error = |source| LedgerError::Io { doing: "make", path: folder.to_owned(), source };
    missing.iter().rev().try_for_each(|path| public_folder(path)).map_err(error)?;
    judge_owner(folder)?;
    Ok(missing.len())
}

fn judge_owner(folder: &Path) -> Result<(), LedgerError> {
    let meta =
        fs::metadata(folder).map_err(|source| LedgerError::Io { doing: "look at", path: folder.to_owned(), source })?;
    let me = rustix::process::geteuid().as_raw();
    let mine = meta.uid() == me || meta.uid() == 0;
    if mine && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(LedgerError::Foreign { path: folder.to_owned(), owner: meta.uid() })
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

/// Makes a folder that everybody may read, whatever the umask: what was applied is no secret, and who owns what can be asked
/// without rights.
fn public_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|source| LedgerError::Io { doing: "write", path: folder.to_owned(), source })
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), LedgerError> {
    match remove(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LedgerError::Io { doing: "remove", path: path.to_owned(), source }),
    }
}
