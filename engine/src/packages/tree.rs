//! The paths that packages make beside their own files.
//!
//! Maintainer scripts write below a few folders that no package lists: generated configuration, state, logs. A listing of
//! those folders, taken before an installation, tells afterwards what came. It is bounded in depth, since what is made lies
//! near the top, and a folder that came is looked at as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use charly_ir::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// The folders that are listed, and how deep.
const FOLDERS: [(&str, usize); 5] = [("etc", 4), ("opt", 1), ("srv", 1), ("usr/local", 3), ("var", 3)];

/// What is left out: the managers' own books, the engine's, what changes by itself, and what is by nature temporary.
const PASSED_OVER: [&str; 38] = [
    "etc/.pwd.lock",
    "etc/alternatives",
    "etc/group-",
    "etc/gshadow-",
    "etc/ld.so.cache",
    "etc/mtab",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/backups",
    "var/cache/apk",
    "var/cache/apt",
    "var/cache/charly",
    "var/cache/debconf",
    "var/cache/dnf",
    "var/cache/ldconfig",
    "var/cache/libdnf5",
    "var/cache/pacman",
    "var/lib/alternatives",
    "var/lib/apt",
    "var/lib/dnf",
    "var/lib/dpkg",
    "var/lib/opencharly",
    "var/lib/pacman",
    "var/lib/rpm",
    "var/lib/systemd/timers",
    "var/log/alternatives.log",
    "var/log/apt",
    "var/log/dnf.librepo.log",
    "var/log/dnf.log",
    "var/log/dnf.rpm.log",
    "var/log/dnf5.log",
    "var/log/dpkg.log",
    "var/log/hawkey.log",
    "var/log/journal",
    "var/log/pacman.log",
    "var/tmp",
];

/// A folder of more entries is a spool or a store, whose entries come and go without any package.
const CROWDED: usize = 1024;

/// A larger file is known by size and time instead of content.
const LARGE: u64 = 16 << 20;

/// What lay in the listed folders: one line an entry in depth-first order, its depth as a digit and its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Listing(String);

/// A span of time in which whatever appeared was somebody else's doing, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gap {
    pub(super) from_s: u64,
    pub(super) to_s: u64,
}

impl Listing {
    /// Lists the folders of a root.
    pub(super) fn take(root: &Path) -> io::Result<Self> {
        let mut text = String::new();
        for (folder, depth) in FOLDERS {
            visit(root, Path::new(folder), depth, &mut |path, level, _| {
                let name =
                    if level == 0 { folder } else { path.file_name().and_then(|name| name.to_str()).unwrap_or("") };
                for part in [level.to_string().as_str(), name, "\n"] {
                    text.push_str(part);
                }
                true
            })?;
        }
        Ok(Self(text))
    }

    /// Returns the topmost paths that are there now and were not.
    pub(super) fn created(&self, root: &Path, gaps: &[Gap]) -> io::Result<Vec<PathBuf>> {
        let before = self.paths();
        let mut created = Vec::new();
        for (folder, depth) in FOLDERS {
            visit(root, Path::new(folder), depth, &mut |path, _, meta| {
                if before.contains(path) {
                    return true;
                }
                if !born_in(meta, gaps) {
                    created.push(path.to_owned());
                }
                false
            })?;
        }
        Ok(created)
    }

    /// Returns the listed paths.
    pub(super) fn paths(&self) -> BTreeSet<PathBuf> {
        let mut trail: Vec<PathBuf> = Vec::new();
        let mut out = BTreeSet::new();
        for line in self.0.lines() {
            let (Some(level), Some(name)) = (line.get(..1).and_then(|digit| digit.parse().ok()), line.get(1..)) else {
                continue;
            };
            trail.truncate(level);
            let path = trail.last().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
            out.insert(path.clone());
            trail.push(path);
        }
        out
    }
}

/// Digests the files and links at or below a path but for those that somebody else answers for.
pub(super) fn fingerprint(root: &Path, top: &Path, others: impl Fn(&Path) -> bool) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    for (path, meta) in walk(root, top)? {
        if others(&path) {
            continue;
        }
        let what = if meta.is_file() && meta.len() <= LARGE {
            match fs::File::open(root.join(&path)).and_then(Digest::of_reader) {
                Ok((digest, _)) => digest.to_string(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        } else if meta.is_file() {
            format!("{} {}", meta.len(), meta.mtime())
        } else if meta.is_symlink() {
            fs::read_link(root.join(&path))?.to_string_lossy().into_owned()
        } else {
            // A folder alone holds nothing; sockets and pipes come and go.
            continue;
        };
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
        hasher.update(what.as_bytes());
        hasher.update(&[0]);
    }
    Ok(hasher.finish())
}

/// Returns everything at or below a path, sorted, folders before what lies in them. Links are not followed and other file
/// systems not entered.
pub(super) fn walk(root: &Path, top: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let mut out = BTreeMap::new();
    let Some(meta) = present(fs::symlink_metadata(root.join(top)))? else { return Ok(out) };
    let device = meta.dev();
    let mut todo = vec![(top.to_owned(), meta)];
    while let Some((path, meta)) = todo.pop() {
        if meta.is_dir() && meta.dev() == device {
            for name in names(&root.join(&path))? {
                let path = path.join(name);
                if let Some(meta) = present(fs::symlink_metadata(root.join(&path)))? {
                    todo.push((path, meta));
                }
            }
        }
        out.insert(path, meta);
    }
    Ok(out)
}

/// A small file or link, so that it can be put back.
#[derive(Debug)]
pub(super) enum Copy {
    Link(PathBuf),
    File { content: Vec<u8>, meta: Metadata },
}

impl Copy {
    /// Takes a copy of a file or link; of nothing else, and of no large one.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        let Some(meta) = present(fs::symlink_metadata(path))? else { return Ok(None) };
        Ok(if meta.is_symlink() {
            Some(Self::Link(fs::read_link(path)?))
        } else if meta.is_file() && meta.len() <= 1 << 20 {
            Some(Self::File { content: fs::read(path)?, meta })
        } else {
            None
        })
    }

    /// Puts it back where there is nothing.
    pub(super) fn put_back(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Link(target) => match std::os::unix::fs::symlink(target, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            },
            Self::File { content, meta } => {
                // Nobody else may read it before it has its owner and mode.
                let mut options = fs::OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(path);
                let mut file = match file {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                    other => other?,
                };
                file.write_all(content)?;
                std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
                file.set_permissions(meta.permissions())?;
                file.set_modified(meta.modified()?)?;
                file.sync_all()
            }
        }
    }
}

/// Tells whether what lies here is a service's or a person's work, and not a log, a cache or a book that programs keep.
pub(super) fn may_be_data(path: &Path) -> bool {
    !["var/cache", "var/lib/systemd", "var/lib/ucf", "var/log"].iter().any(|folder| path.starts_with(folder))
}

/// Calls back for each entry down to a depth; the answer says whether to look into it.
fn visit(
    root: &Path,
    top: &Path,
    depth: usize,
    each: &mut dyn FnMut(&Path, usize, &Metadata) -> bool,
) -> io::Result<()> {
    fn enter(
        root: &Path,
        path: &Path,
        level: usize,
        depth: usize,
        each: &mut dyn FnMut(&Path, usize, &Metadata) -> bool,
    ) -> io::Result<()> {
        if PASSED_OVER.iter().any(|passed| path == Path::new(passed)) {
            return Ok(());
        }
        let Some(meta) = present(fs::symlink_metadata(root.join(path)))? else { return Ok(()) };
        if !each(path, level, &meta) || level == depth || !meta.is_dir() {
            return Ok(());
        }
        let names = names(&root.join(path))?;
        if names.len() > CROWDED {
            return Ok(());
        }
        for name in names {
            // A line of the listing could not hold such a name; no package makes one.
            if name.to_str().is_some_and(|name| !name.contains('\n')) {
                enter(root, &path.join(name), level + 1, depth, each)?;
            }
        }
        Ok(())
    }
    enter(root, top, 0, depth, each)
}

/// Returns the names in a folder, sorted; none where it is gone.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Turns absence into `None`: services make and remove files while they are looked at.
pub(super) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn born_in(meta: &Metadata, gaps: &[Gap]) -> bool {
    // Where a file system does not tell the birth, the last change of content is the nearest to it.
    let Ok(born) = meta.created().or_else(|_| meta.modified()) else { return false };
    let born_s = born.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    gaps.iter().any(|gap| gap.from_s < born_s && born_s < gap.to_s)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/default", "etc/a/b/c/d", "var/lib/dpkg", "var/log"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        root
    }

    #[test]
    fn what_came_is_told_by_its_topmost_path() {
        let root = root();
        let before = Listing::take(root.path()).unwrap();
        for folder in ["etc/redis/conf.d", "var/lib/redis/x", "var/lib/dpkg/info", "etc/a/b/c/d/too-deep", "srv/www"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("etc/default/redis"), "").unwrap();
        let created = before.created(root.path(), &[]).unwrap();
        assert_eq!(created, ["etc/default/redis", "etc/redis", "srv", "var/lib/redis"].map(PathBuf::from));
        let always = Gap { from_s: 0, to_s: u64::MAX };
        assert_eq!(before.created(root.path(), &[always]).unwrap(), Vec::<PathBuf>::new());
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Listing>(&text).unwrap(), before);
    }

    #[test]
    fn a_copy_fills_only_a_gap() {
        let root = root();
        let (file, link) = (root.path().join("etc/file"), root.path().join("etc/link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let copies = [&file, &link].map(|path| (path, Copy::take(path).unwrap().unwrap()));
        assert!(Copy::take(root.path()).unwrap().is_none());
        for (path, copy) in &copies {
            copy.put_back(path).unwrap();
            fs::remove_file(path).unwrap();
            copy.put_back(path).unwrap();
        }
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        assert_eq!(fs::read_to_string(&link).unwrap(), "old");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        fs::write(&file, "new").unwrap();
        copies[0].1.put_back(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn a_fingerprint_sees_content_and_not_what_packages_own() {
        let root = root();
        let owned = BTreeSet::from([PathBuf::from("etc/a/owned")]);
        let take = || fingerprint(root.path(), Path::new("etc/a"), |path| owned.contains(path)).unwrap();
        let empty = take();
        fs::write(root.path().join("etc/a/owned"), "x").unwrap();
        fs::create_dir(root.path().join("etc/a/folder")).unwrap();
        assert_eq!(take(), empty);
        fs::write(root.path().join("etc/a/b/made"), "1").unwrap();
        let one = take();
        assert_ne!(one, empty);
        fs::write(root.path().join("etc/a/b/made"), "2").unwrap();
        assert_ne!(take(), one);
    }
}
