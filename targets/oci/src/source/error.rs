//! Why an image cannot be fetched or delivered.

use std::io;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::message::Problem;

use crate::layer::LayerError;
use crate::store::StoreError;

/// Why an image cannot be fetched or delivered.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A text names no image.
    #[error("`{text}` names no image: {why}")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file cannot be read or written.
    #[error("`{path}` cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of an archive or layout is missing.
    #[error("`{place}` has no `{name}`")]
    Missing {
        /// The archive or folder.
        place: PathBuf,
        /// What is missing.
        name: String,
    },
    /// An archive or layout holds several images, or none of that name.
    #[error("`{place}` holds {}", list(names))]
    Which {
        /// The archive or folder.
        place: PathBuf,
        /// The names that it has.
        names: Vec<String>,
    },
    /// There is nothing for the platform that is wanted.
    #[error("there is no image for {wanted}, only for {}", list(found))]
    Platform {
        /// The platform.
        wanted: String,
        /// The platforms that there are.
        found: Vec<String>,
    },
    /// A document is not one of those that images have.
    #[error("the image's {what} is not understood: {why}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes are not those that were asked for.
    #[error("blob {want} arrives as {got}")]
    Digest {
        /// The digest asked for.
        want: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// A blob has another size than the manifest says.
    #[error("blob {digest} does not have {size} bytes")]
    Size {
        /// The blob.
        digest: Digest,
        /// The size that it should have.
        size: u64,
    },
    /// The image is larger than what is ever taken.
    #[error("blob {digest} has {size} bytes, which is more than {limit}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size, by the manifest.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// The registry cannot be reached, or the transfer broke off for good.
    #[error("`{url}` cannot be reached")]
    Transfer {
        /// The URL.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The registry answers something other than what was asked.
    #[error("`{url}` answers with status {status}{}", said(message))]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// What the registry says of it.
        message: String,
    },
    /// The registry says something that makes no sense.
    #[error("`{url}` answers with {what}")]
    Answer {
        /// The URL.
        url: String,
        /// What it answers.
        what: &'static str,
    },
    /// A file with passwords is not of the form that podman and docker write.
    #[error("the file with registry passwords is not understood")]
    Credentials(#[source] serde_json::Error),
    /// A layer of an archive cannot be read.
    #[error("the archive cannot be read")]
    Layer(#[from] LayerError),
    /// The store cannot take or give it.
    #[error("the store of images cannot be used")]
    Store(#[from] StoreError),
    /// The user stopped it.
    #[error("the transfer was interrupted")]
    Interrupted,
}

impl SourceError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }

    pub(super) fn document(what: &str, why: impl Into<String>) -> Self {
        Self::Document { what: what.to_owned(), why: why.into() }
    }

    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Reference { .. } => {
                "write `oci:FOLDER`, `oci-archive:FILE`, `docker-archive:FILE` or `docker://HOST/NAME:TAG`"
            }
            Self::Which { .. } => "write the name of one of them after the path and a colon",
            Self::Platform { .. } => "choose another platform, or another image",
            Self::Status { status: 401 | 403, .. } => "log in to the registry, for example with `podman login`",
            Self::Status { status: 404, .. } => "look whether the name and the tag are right",
            Self::Status { status: 429, .. } => "the registry wants fewer requests; wait, or log in",
            Self::Status { .. } | Self::Transfer { .. } => "the same command goes on where the transfer ended",
            Self::Digest { .. } | Self::Size { .. } => "the image is damaged or made to deceive; get it from elsewhere",
            Self::Layer(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            _ => return None,
        })
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        let problem = Self::from_error(&error);
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => names.iter().take(20).map(|name| format!("`{}`", name.escape_debug())).collect::<Vec<_>>().join(", "),
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {}", message.escape_debug()) }
}
