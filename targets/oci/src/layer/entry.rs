//! One thing that a layer says about one path.

use std::collections::BTreeMap;

/// One thing that a layer says about one path.
///
/// Whiteouts are entries of their own kind here; how an archive (`.wh.` names) or an overlay (device 0,0) writes them is
/// the business of whoever reads or writes those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the root: no slash at either end, no empty, `.` or `..` component; empty for the root itself.
    pub path: String,
    /// What is there.
    pub kind: Kind,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was last changed, in seconds since 1970.
    pub mtime: u64,
    /// Extended attributes that are the file's own, such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a layer says is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file of this many bytes, which follow the entry.
    File {
        /// Their number.
        size: u64,
    },
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// What it points to, as it is.
        target: String,
    },
    /// Another name of a file that came before it in the same layer.
    Hardlink {
        /// That file's path, written as [`Entry::path`].
        target: String,
    },
    /// A device that carries characters.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A device that carries blocks.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo,
    /// What the layers below have at the path is gone.
    Whiteout,
    /// A folder of which nothing is left that the layers below have in it.
    OpaqueDir,
}
