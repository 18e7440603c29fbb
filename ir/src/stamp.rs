//! What tells whether a file was written to.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// What a file was when its digest was taken. A file that is written to gets another stamp, whatever is done to its times:
/// nobody can set when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The file system.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it was last changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl Stamp {
    /// Returns a file's stamp.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
