//! Why a ledger cannot be used.

use std::io;
use std::path::PathBuf;

use super::journal::JournalError;
use super::lock::LockError;
use super::snapshot::FORMAT;

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
