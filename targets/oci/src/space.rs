//! Space on the disk.

/// The space that something takes, before and after what nobody needs is taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Space {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}
