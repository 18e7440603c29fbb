//! Why a download cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::message::Problem;

use super::unpack::UnpackError;

/// Why a download cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is of no kind that is fetched.
    #[error("`{0}` is no http, https or file URL")]
    Scheme(String),
    /// The server answered with a status other than success.
    #[error("`{url}` answers with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server cannot be reached, or the transfer broke off for good.
    #[error("`{url}` cannot be fetched")]
    Transfer {
        /// The URL.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The bytes are not those that were asked for.
    #[error("`{url}` has digest {got}, not {want}")]
    Digest {
        /// The URL.
        url: String,
        /// The digest asked for.
        want: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// The server sends more than is ever taken.
    #[error("`{url}` is larger than {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// A file of the cache cannot be read or written.
    #[error("`{path}` cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be unpacked.
    #[error("`{url}` cannot be unpacked")]
    Unpack {
        /// Its URL.
        url: String,
        /// Why.
        source: UnpackError,
    },
    /// The key is in a form that is not understood.
    #[error("`{url}` is no key in armoured or binary form")]
    Key {
        /// Its URL.
        url: String,
    },
    /// The user stopped it.
    #[error("the download was interrupted")]
    Interrupted,
}

impl FetchError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }

    /// Returns what the user can do about it.
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Status { status: 404 | 410, .. } => "look whether the URL or the version in it has changed".into(),
            Self::Status { .. } | Self::Transfer { .. } => "the same command goes on where the transfer ended".into(),
            Self::Digest { got, .. } => {
                format!("if the publisher changed the file on purpose, write `sha256: {got}` in the candy")
            }
            Self::Unpack { source: UnpackError::NothingIncluded { .. }, .. } => {
                "adapt `extract_include` to the names in the archive".into()
            }
            _ => return None,
        })
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        let problem = Self::from_error(&error);
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
