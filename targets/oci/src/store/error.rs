//! Why the store cannot do something.

use std::io;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::message::Problem;

use crate::layer::LayerError;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store cannot be read or written.
    #[error("`{path}` cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A document is not what it has to be.
    #[error("{what} is not of the form that images have")]
    Json {
        /// The document's digest or name.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document is larger than documents are.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// A digest is of another kind than those used here.
    #[error("`{digest}` is no SHA-256 digest")]
    Digest {
        /// What it is.
        digest: String,
    },
    /// A blob is not there.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// Its digest.
        digest: Digest,
    },
    /// A blob's bytes are not those it is named after.
    #[error("blob {want} is damaged: its bytes have digest {got}")]
    Damaged {
        /// Its name.
        want: Digest,
        /// Its bytes' digest.
        got: Digest,
    },
    /// A layer does not unpack to what the image says of it.
    #[error("layer {digest} unpacks to {got}, not to {want}")]
    DiffId {
        /// The layer.
        digest: Digest,
        /// What the image says.
        want: Digest,
        /// What it is.
        got: Digest,
    },
    /// A manifest and a configuration do not go together.
    #[error("the manifest lists {layers} layers and the configuration {diff_ids}")]
    Unequal {
        /// How many layers there are.
        layers: usize,
        /// How many there should be.
        diff_ids: usize,
    },
    /// Somebody else has the store open.
    #[error("another process uses the images in `{folder}`")]
    Busy {
        /// The store's folder.
        folder: PathBuf,
    },
    /// A layer cannot be read.
    #[error("a layer cannot be taken into the store")]
    Layer(#[from] LayerError),
}

impl StoreError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }

    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Busy { .. } => "try again when it is done",
            Self::Missing { .. } | Self::Damaged { .. } => "build or fetch the image again",
            Self::DiffId { .. } | Self::Unequal { .. } => {
                "the image is damaged or made to deceive; get it from elsewhere"
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room, or take away images that are not needed"
            }
            Self::Layer(error) => return error.hint(),
            Self::File { .. } | Self::Json { .. } | Self::TooLarge { .. } | Self::Digest { .. } => return None,
        })
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = Self::from_error(&error);
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
