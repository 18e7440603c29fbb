//! The folder that a ledger lies in: made, judged, written to, and removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::LedgerError;
use super::lock::is_gone;
use super::snapshot::write_folder_file;

/// What is removed of a ledger last.
const LAST: [&str; 2] = ["folder.json", "lock"];

/// What folders are named that are not yet a ledger's; the number of the process that makes them follows.
const NEW: &str = ".opencharly-new-";

/// What folders are named that were a ledger's; the number of the process that removes them follows.
const OLD: &str = ".opencharly-old-";

/// Makes the ledger's folder where it is missing, with those above it that are.
///
/// They appear in one step, and with them the file that says how many they are: a kill leaves no folder behind of which nobody
/// knows any more whose it is.
pub(super) fn make_folder(folder: &Path) -> Result<(), LedgerError> {
    let missing: Vec<_> = folder.ancestors().take_while(|path| !path.exists()).collect();
    if let Some(top) = missing.last()
        && let Some(parent) = top.parent()
    {
        let new = parent.join(format!("{NEW}{}", std::process::id()));
        let make = || {
            clear_new(parent);
            for path in missing.iter().rev() {
                public_folder(&new.join(path.strip_prefix(top).unwrap_or(path)))?;
            }
            write_folder_file(&new.join(folder.strip_prefix(top).unwrap_or(folder)), missing.len())?;
            fs::rename(&new, top)
        };
        if let Err(source) = make() {
            // What stays behind, the next run clears.
            let _ = fs::remove_dir_all(&new);
            // Another run may have been faster.
            if !folder.is_dir() {
                return Err(LedgerError::Io { doing: "make", path: folder.to_owned(), source });
            }
        }
    }
    judge_owner(folder)
}

/// Removes what was to become a ledger's folder, or was one, when its run was killed.
fn clear_new(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_over = |prefix: &str| {
            let pid = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            pid.is_some_and(|pid| is_gone(pid) || pid == std::process::id())
        };
        if is_over(NEW) {
            // Where this cannot be, it holds a few bytes and is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        } else if is_over(OLD) {
            dismantle(&entry.path());
        }
    }
}

/// Removes a ledger's last two files and the folders that hold nothing else. Whatever else is there is somebody's, and stays.
fn dismantle(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            dismantle(&entry.path());
        } else if LAST.iter().any(|name| entry.file_name() == *name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Tells whether the folders from `top` down hold nothing but the next of them, and the last one nothing but its last files.
fn is_alone(top: &Path, folder: &Path) -> bool {
    let holds_only = |path: &Path, below: &dyn Fn(&std::ffi::OsStr) -> bool| {
        fs::read_dir(path)
            .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| below(&entry.file_name()))))
    };
    let mut below = folder.file_name();
    for path in folder.ancestors().skip(1).take_while(|path| path.starts_with(top)) {
        if !holds_only(path, &|name| Some(name) == below) {
            return false;
        }
        below = path.file_name();
    }
    holds_only(folder, &|name| LAST.iter().any(|last| name == *last))
}

/// Removes a ledger whole, the lock last, with the folders that were made for it. The caller holds the lock.
pub(super) fn remove_ledger(folder: &Path, made: usize) -> Result<(), LedgerError> {
    for name in ["deploys", "layers", "before", "edited", "incoming"] {
        remove_if_there(&folder.join(name), |path| fs::remove_dir_all(path))?;
    }
    for name in ["journal", "key"] {
        remove_if_there(&folder.join(name), |path| fs::remove_file(path))?;
    }
    // They disappear as they appeared, in one step, with the file that says how many they are.
    if let Some(top) = made.checked_sub(1).and_then(|above| folder.ancestors().nth(above))
        && let Some(parent) = top.parent()
        && is_alone(top, folder)
    {
        let old = parent.join(format!("{OLD}{}", std::process::id()));
        if fs::rename(top, &old).is_ok() {
            dismantle(&old);
            // Somebody was faster by a hair, and has what is theirs back.
            if old.exists() {
                let _ = fs::rename(&old, top);
            }
            return Ok(());
        }
    }
    for name in LAST {
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

pub(super) fn judge_owner(folder: &Path) -> Result<(), LedgerError> {
    let meta =
        fs::metadata(folder).map_err(|source| LedgerError::Io { doing: "look at", path: folder.to_owned(), source })?;
    let me = rustix::process::geteuid().as_raw();
    let mine = meta.uid() == me || meta.uid() == 0;
    if mine && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(LedgerError::Foreign { path: folder.to_owned(), owner: meta.uid() })
}

/// Makes a folder that everybody may read, whatever the umask: what was applied is no secret, and who owns what can be asked
/// without rights.
pub(super) fn public_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|source| LedgerError::Io { doing: "write", path: folder.to_owned(), source })
}

pub(super) fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<(), LedgerError> {
    match remove(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LedgerError::Io { doing: "remove", path: path.to_owned(), source }),
    }
}

/// A file that has no name until it is whole.
pub(super) struct Temporary {
    pub(super) file: File,
    path: PathBuf,
}

impl Temporary {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(".new");
        remove_if_there(&path, |path| fs::remove_file(path)).map_err(io::Error::other)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    pub(super) fn readable(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, rustix::fs::Mode::from_raw_mode(0o644))?)
    }

    pub(super) fn persist(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        self.put(path)
    }

    /// Gives it its name before it is known to be durable.
    pub(super) fn put(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)
    }
}
