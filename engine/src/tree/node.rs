//! What is at a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use charly_ir::Digest;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Root, Spot, TreeError};

/// What is at a path, or shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its permission bits.
        mode: u32,
        /// Its owner's number.
        uid: u32,
        /// Its group's number.
        gid: u32,
        /// Its extended attributes, ACLs among them, in base64. Looked at only to put them back.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        xattrs: BTreeMap<String, String>,
        /// Its modification time in nanoseconds since 1970. Looked at only to put it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtime_ns: Option<i64>,
    },
    /// A folder.
    Dir {
        /// Its permission bits.
        mode: u32,
        /// Its owner's number.
        uid: u32,
        /// Its group's number.
        gid: u32,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: String,
    },
    /// Anything else, which charly never replaces.
    Special,
}

impl Node {
    /// Returns the sort of thing, for people.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::File { .. } => "file",
            Self::Dir { .. } => "folder",
            Self::Link { .. } => "link",
            Self::Special => "special file",
        }
    }

    /// Tells whether two nodes agree in all that a plan can ask for: type, content, mode, owner.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { digest: a, mode: am, uid: au, gid: ag, size: _, xattrs: _, mtime_ns: _ },
                Self::File { digest: b, mode: bm, uid: bu, gid: bg, size: _, xattrs: _, mtime_ns: _ },
            ) => (a, am, au, ag) == (b, bm, bu, bg),
            (a, b) => a == b,
        }
    }

    /// Says in a few words how what is there differs from what was wanted.
    pub fn difference(&self, want: &Self) -> String {
        match (self, want) {
            (Self::Absent, _) => "it is gone".to_owned(),
            (
                Self::File { digest: a, mode: am, uid: au, gid: ag, .. },
                Self::File { digest: b, mode: bm, uid: bu, gid: bg, .. },
            ) => {
                let mut parts = Vec::new();
                if a != b {
                    parts.push("its content differs".to_owned());
                }
                if am != bm {
                    parts.push(format!("its mode is {am:04o}, not {bm:04o}"));
                }
                if (au, ag) != (bu, bg) {
                    parts.push(format!("its owner is {au}:{ag}, not {bu}:{bg}"));
                }
                parts.join(", ")
            }
            (Self::Dir { mode: am, uid: au, gid: ag }, Self::Dir { mode: bm, uid: bu, gid: bg }) => {
                let mut parts = Vec::new();
                if am != bm {
                    parts.push(format!("its mode is {am:04o}, not {bm:04o}"));
                }
                if (au, ag) != (bu, bg) {
                    parts.push(format!("its owner is {au}:{ag}, not {bu}:{bg}"));
                }
                parts.join(", ")
            }
            (Self::Link { target: a }, Self::Link { target: b }) => format!("it points to `{a}`, not `{b}`"),
            (a, b) => format!("it is a {}, not a {}", a.what(), b.what()),
        }
    }
}

/// Looks at a path. A path below something that is no folder, or below nothing, is [`Node::Absent`].
pub fn observe(root: &Root, path: &str) -> Result<Node, TreeError> {
    match root.spot(path) {
        Ok(spot) => spot.observe(),
        Err(error) if is_nothing(&error.source) => Ok(Node::Absent),
        Err(error) => Err(error),
    }
}

/// Looks at a path as [`observe`] does, but for what is only wanted for putting a file back: extended attributes and times.
pub fn glance(root: &Root, path: &str) -> Result<Node, TreeError> {
    match root.spot(path) {
        Ok(spot) => spot.look(false),
        Err(error) if is_nothing(&error.source) => Ok(Node::Absent),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reading; anything else is refused without being opened.
pub fn open_file(root: &Root, path: &str) -> Result<File, TreeError> {
    let spot = root.spot(path)?;
    let (file, _) = spot.open_regular().map_err(|error| TreeError::new("read", path, error))?;
    Ok(File::from(file))
}

impl Spot {
    /// Looks at what is here.
    pub fn observe(&self) -> Result<Node, TreeError> {
        self.look(true)
    }

    fn look(&self, for_putting_back: bool) -> Result<Node, TreeError> {
        let error = |source: io::Error| TreeError::new("look at", &self.path, source);
        let stat = match fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Node::Absent),
            Err(errno) => return Err(error(errno.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let (file, stat) = self.open_regular().map_err(error)?;
                let xattrs = if for_putting_back { read_xattrs(&file).map_err(error)? } else { BTreeMap::new() };
                let (digest, size) = Digest::of_reader(File::from(file)).map_err(error)?;
                Ok(Node::File {
                    digest,
                    size,
                    mode: permissions(&stat),
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                    xattrs,
                    mtime_ns: if for_putting_back { mtime_ns(&stat) } else { None },
                })
            }
            FileType::Directory => Ok(Node::Dir { mode: permissions(&stat), uid: stat.st_uid, gid: stat.st_gid }),
            FileType::Symlink => {
                let target = fs::readlinkat(&self.dir, &self.name, Vec::new()).map_err(|errno| error(errno.into()))?;
                match target.into_string() {
                    Ok(target) => Ok(Node::Link { target }),
                    // A target that is not UTF-8 is nobody's recipe: never replaced.
                    Err(_) => Ok(Node::Special),
                }
            }
            _ => Ok(Node::Special),
        }
    }

    /// Opens a regular file without following a link or waiting for a FIFO's other end.
    pub(super) fn open_regular(&self) -> io::Result<(OwnedFd, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, &self.name, flags, Mode::empty())?;
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok((file, stat))
    }
}

/// The permission bits, setuid, setgid and sticky included.
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// The modification time, absent outside of the years 1677 to 2262.
fn mtime_ns(stat: &Stat) -> Option<i64> {
    stat.st_mtime.checked_mul(1_000_000_000)?.checked_add(i64::try_from(stat.st_mtime_nsec).ok()?)
}

/// Tells whether an error means that there is nothing at a path.
pub(crate) fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads the extended attributes that this process may see. File systems without any have none.
fn read_xattrs(file: impl AsFd) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0_u8; 4096];
    let length = loop {
        match fs::flistxattr(&file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 65_536];
        match fs::fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                found.insert(String::from_utf8_lossy(name).into_owned(), crate::encoding::to_base64(&value));
            }
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
