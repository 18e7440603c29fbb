//! Why a layer cannot be written, read or unpacked.

use std::io;
use std::path::{Path, PathBuf};

use charly_ir::message::Problem;

/// Why a layer cannot be written, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A layer cannot say this.
    #[error("`{path}` cannot be put into a layer: {why}")]
    Unwritable {
        /// The path in the layer.
        path: String,
        /// What is in the way.
        why: &'static str,
    },
    /// A file has another size than its entry says.
    #[error("`{path}` does not have {size} bytes any more")]
    Size {
        /// The path in the layer.
        path: String,
        /// The size that it was to have.
        size: u64,
    },
    /// The content of a file cannot be read.
    #[error("the content of `{path}` cannot be read")]
    Content {
        /// The path in the layer.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The layer cannot be written to where it goes.
    #[error("the layer cannot be written")]
    Write(#[source] io::Error),
    /// The layer cannot be read, or is cut off.
    #[error("layer {layer} cannot be read")]
    Read {
        /// The layer's name.
        layer: String,
        /// Why.
        source: io::Error,
    },
    /// The layer is no archive of the kind that layers are.
    #[error("layer {layer} is damaged: {why}")]
    Malformed {
        /// The layer's name.
        layer: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The layer says something that no layer may say.
    #[error("layer {layer} has `{path}`, {why}")]
    Refused {
        /// The layer's name.
        layer: String,
        /// The name in it, as far as it can be shown.
        path: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// The layer is larger than what is ever taken.
    #[error("layer {layer} has more than {limit} {what}")]
    TooMuch {
        /// The layer's name.
        layer: String,
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A path of the machine cannot be read or written.
    #[error("`{path}` cannot be {done}")]
    File {
        /// The path.
        path: PathBuf,
        /// What was to be done with it, as in "read".
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A folder was renamed in an overlay that keeps such renames as notes.
    #[error("`{path}` is a note of a rename, and what it stands for is elsewhere")]
    Redirected {
        /// The path.
        path: PathBuf,
    },
    /// A path leads through too many symbolic links.
    #[error("`{path}` leads through more than 40 symbolic links")]
    Loop {
        /// The path.
        path: String,
    },
    /// A path leads through something that is no folder.
    #[error("`{path}` leads through `{through}`, which is no folder")]
    NoFolder {
        /// The path.
        path: String,
        /// What is in the way.
        through: String,
    },
}

impl LayerError {
    pub(crate) fn file<E: Into<io::Error>>(path: &Path, done: &'static str) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, done, source: source.into() }
    }

    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unwritable { .. } => "leave it out, or give it another name",
            Self::Size { .. } => "something writes to it; try again when nothing does",
            Self::Read { .. } | Self::Malformed { .. } => "fetch the image again",
            Self::Refused { .. } => "do not trust this image; whoever made it can leave the name out",
            Self::TooMuch { .. } => "if the image is meant to be like this, raise the limit",
            Self::Redirected { .. } => "mount the overlay with `redirect_dir=off,metacopy=off`",
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "owners and devices need root, or root of a user namespace"
            }
            Self::Loop { .. } | Self::NoFolder { .. } => "look what the base has at this path",
            Self::Content { .. } | Self::Write(_) | Self::File { .. } => return None,
        })
    }
}

impl From<LayerError> for Problem {
    fn from(error: LayerError) -> Self {
        let problem = Self::from_error(&error);
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
