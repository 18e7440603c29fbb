//! Why an image cannot be served.

use std::io;
use std::path::PathBuf;

/// Why an image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing here has that name.
    #[error("there is no image `{name}` {place}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        place: String,
        /// What there is that is called about the same.
        near: Vec<String>,
    },
    /// Something is not what it should be.
    #[error("{what} makes no sense: {why}")]
    Invalid {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// The store has not what it should have.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no podman that could be asked.
    #[error("images by name are podman's, and there is no podman on this machine")]
    NoPodman,
    /// Podman did not do what it was asked for.
    #[error("podman {what}")]
    Podman {
        /// What it did not do.
        what: String,
        /// Its own words.
        source: io::Error,
    },
}

impl ServeError {
    /// Says what to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => {
                let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("there is {}", near.join(", ")))
            }
            Self::Unknown { .. } | Self::NoPodman => {
                Some("name an image of podman's, or write `oci:PATH` or `docker-archive:PATH`".to_owned())
            }
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Invalid { .. } | Self::Read { .. } | Self::Podman { .. } => None,
        }
    }
}
