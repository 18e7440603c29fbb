//! Finds the folder a path lies in, without being led astray.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{TreeError, is_ownable};

/// The folder that stands for `/`: the machine's own, an image's root, a temporary folder.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    path: PathBuf,
    trust: Trust,
}

/// Whose symbolic links a walk follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's: the walk has no more rights than the user whose files it changes.
    Everybody,
    /// Only links that this user or root made, in folders that nobody else may write to. Root walks so, since whoever
    /// can place a link could otherwise choose what root writes to.
    Only(u32),
}

/// A name in a folder: what a path comes down to.
#[derive(Debug)]
pub struct Spot {
    /// The folder.
    pub dir: OwnedFd,
    /// The name in it.
    pub name: OsString,
    /// The path as it was asked for, for messages.
    pub path: String,
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// As many links as the kernel follows on one path.
const MAX_LINKS: usize = 40;

impl Root {
    /// Opens the folder that stands for `/`.
    pub fn open(path: &Path, trust: Trust) -> io::Result<Self> {
        let dir = fs::open(path, FOLDER, Mode::empty())?;
        Ok(Self { dir, path: path.to_owned(), trust })
    }

    /// Tells whether the root is the machine's own, so that its programs and services are within reach.
    pub fn is_live(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Returns where a path of the venue lies for programs outside of it.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Finds the folder that a path lies in. A missing folder is an error of kind [`io::ErrorKind::NotFound`].
    pub fn spot(&self, path: &str) -> Result<Spot, TreeError> {
        let error = |source: io::Error| TreeError::new("reach", path, source);
        if !is_ownable(path) {
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "it is not an absolute, normalized path")));
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.folder(parent).map_err(error)?;
        Ok(Spot { dir, name: name.into(), path: path.to_owned() })
    }

    /// Tells whether a path is a folder, or a link that leads to one.
    pub fn is_folder(&self, path: &str) -> bool {
        self.folder(path).is_ok()
    }

    /// Makes the names in these folders durable, one flush each.
    pub fn sync_names<'a>(&self, folders: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        self.with_folders(folders, |folder, _| Ok(fs::fsync(folder)?))
    }

    /// Makes everything durable on the file systems that these folders lie on, one flush a file system.
    pub fn sync_all<'a>(&self, folders: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let mut seen = BTreeSet::new();
        self.with_folders(folders, |folder, device| if seen.insert(device) { Ok(fs::syncfs(folder)?) } else { Ok(()) })
    }

    /// A folder that is gone stands for the one above it.
    fn with_folders<'a>(
        &self,
        folders: impl IntoIterator<Item = &'a str>,
        mut work: impl FnMut(&OwnedFd, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        for mut path in folders {
            let place = loop {
                match self.folder(path) {
                    Ok(folder) => break folder,
                    Err(error) if path == "/" => return Err(error),
                    Err(_) => path = super::parent(path),
                }
            };
            let folder = fs::openat(&place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            work(&folder, fs::fstat(&folder)?.st_dev)?;
        }
        Ok(())
    }

    /// Opens a folder of the venue.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        if relative.is_empty() {
            return self.dir.try_clone();
        }
        let links = match self.trust {
            Trust::Everybody => ResolveFlags::empty(),
            Trust::Only(_) => ResolveFlags::NO_SYMLINKS,
        };
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | links;
        match fs::openat2(&self.dir, relative, FOLDER, Mode::empty(), flags) {
            Ok(dir) => Ok(dir),
            // A link on the way, or a sandbox that knows no openat2: look at each component.
            Err(Errno::LOOP | Errno::NOSYS | Errno::PERM | Errno::XDEV | Errno::AGAIN) => self.walk(relative),
            Err(error) => Err(error.into()),
        }
    }

    fn walk(&self, relative: &str) -> io::Result<OwnedFd> {
        // The folders from the root down to where the walk stands, so that `..` goes back without asking the kernel.
        let mut stack = vec![self.dir.try_clone()?];
        let mut todo: Vec<OsString> = components(relative.as_bytes());
        let mut links = 0;
        while let Some(name) = todo.pop() {
            let here = &stack[stack.len() - 1];
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let stat = fs::statat(here, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                stack.push(fs::openat(here, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            self.judge_link(here, stat.st_uid)?;
            let target = fs::readlinkat(here, &name, Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                stack.truncate(1);
            }
            todo.extend(components(&target));
        }
        stack.pop().ok_or_else(|| Errno::NOENT.into())
    }

    fn judge_link(&self, folder: impl AsFd, link_owner: u32) -> io::Result<()> {
        let Trust::Only(user) = self.trust else { return Ok(()) };
        let stat = fs::fstat(folder)?;
        let trusted = |uid: u32| uid == 0 || uid == user;
        let writable_by_others = stat.st_mode & 0o022 != 0;
        if trusted(link_owner) && trusted(stat.st_uid) && !writable_by_others {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a symbolic link on the way could have been placed by another user",
        ))
    }
}

/// Splits a path into its names, last one first.
fn components(path: &[u8]) -> Vec<OsString> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(|part| OsString::from_vec(part.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir_all, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn reaches(root: &Root, path: &str, real: &Path) -> bool {
        let Ok(spot) = root.spot(path) else { return false };
        let (a, b) = (fs::fstat(&spot.dir).unwrap(), fs::stat(real).unwrap());
        (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
    }

    #[test]
    fn links_stay_below_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path();
        create_dir_all(base.join("usr/lib/x")).unwrap();
        symlink("usr/lib", base.join("lib")).unwrap();
        symlink("/usr", base.join("absolute")).unwrap();
        symlink("../../../../usr", base.join("usr/lib/up")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        for folder in ["", "usr", "usr/lib"] {
            // Whatever the umask is: who may write to a folder decides whether its links are followed.
            set_permissions(base.join(folder), Permissions::from_mode(0o755)).unwrap();
        }
        for trust in [Trust::Everybody, Trust::Only(me())] {
            let root = Root::open(base, trust).unwrap();
            for (path, want) in [
                ("/f", ""),
                ("/usr/lib/f", "usr/lib"),
                ("/lib/x/f", "usr/lib/x"),
                ("/absolute/lib/f", "usr/lib"),
                ("/usr/lib/up/lib/x/f", "usr/lib/x"),
            ] {
                assert!(reaches(&root, path, &base.join(want)), "{path} {trust:?}");
            }
            assert!(root.spot("/loop/f").is_err());
            assert_eq!(root.spot("/none/f").unwrap_err().source.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_link_that_others_could_have_placed_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path();
        create_dir_all(base.join("shared")).unwrap();
        create_dir_all(base.join("real")).unwrap();
        symlink("../real", base.join("shared/link")).unwrap();
        set_permissions(base.join("shared"), Permissions::from_mode(0o777)).unwrap();
        let trusting = Root::open(base, Trust::Everybody).unwrap();
        assert!(reaches(&trusting, "/shared/link/f", &base.join("real")));
        let careful = Root::open(base, Trust::Only(me())).unwrap();
        assert!(careful.spot("/shared/link/f").unwrap_err().source.to_string().contains("another user"));
        assert!(careful.spot("/shared/f").is_ok());
    }

    #[test]
    fn odd_paths_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path(), Trust::Everybody).unwrap();
        for path in ["", "/", "x", "/a/../b", "/a//b", "/a/./b", "/a/", "/a\0b"] {
            assert_eq!(root.spot(path).unwrap_err().source.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
