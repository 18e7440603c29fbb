//! An image as a machine is served it: uncompressed, layer by layer, whatever it is kept in.
//!
//! Storage knows layers by the digests of their uncompressed archives, however they once arrived. A manifest that names them
//! so lets whoever takes the image take what it lacks and nothing else; packing is the business of whoever carries the bytes.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@reference`] | what an image is called, here and where it goes |
//! | `tree` | a folder or an archive, member by member |
//! | `layout`, `docker` | images on disk |
//! | `stored` | images of the store |
//! | `supply` | how an engine gets what it needs of one |

mod docker;
mod error;
mod layout;
pub mod reference;
mod stored;
mod supply;
mod tree;

use std::fmt::Debug;
use std::io::Read;
use std::path::Path;

use charly_ir::Digest;
use serde::Deserialize;

pub use error::ServeError;
pub(crate) use layout::Judged;
pub use reference::{BadReference, Reference};
pub use supply::ImageSupply;

/// An image that can be served.
#[derive(Debug)]
pub struct Served {
    /// Its configuration, byte for byte. The digest of it is the image's id.
    pub config: String,
    /// How manifest and configuration are to be understood.
    pub format: Format,
    /// What it is called, the name it was found by first.
    pub names: Vec<String>,
    /// Its layers.
    pub layers: Box<dyn Layers>,
}

/// The bytes of an image's layers.
pub trait Layers: Debug + Send {
    /// Returns the size of a layer's uncompressed archive; the lowest layer is number 0.
    fn size(&mut self, layer: usize) -> Result<u64, ServeError>;

    /// Opens a layer's uncompressed archive.
    fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError>;
}

/// How a manifest and a configuration are to be understood. Docker's have more in them, such as health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As the OCI's image specification says.
    Oci,
    /// As Docker's second schema says.
    Docker,
}

impl Served {
    /// Opens an image that is on disk.
    pub fn open(reference: &Reference) -> Result<Self, ServeError> {
        match reference {
            Reference::Layout { path, name } => layout::open(path, name.as_deref()),
            Reference::DockerArchive { path, name } => docker::open(path, name.as_deref()),
            Reference::Named(name) => crate::podman::open(name),
        }
    }

    /// Returns the image's id.
    pub fn id(&self) -> Digest {
        Digest::of(self.config.as_bytes())
    }

    /// Returns the digests of the layers' uncompressed archives, lowest first.
    pub fn diff_ids(&self) -> Result<Vec<Digest>, ServeError> {
        #[derive(Deserialize)]
        struct Config {
            rootfs: Root,
        }
        #[derive(Deserialize)]
        struct Root {
            diff_ids: Vec<String>,
        }
        let odd = |why: String| ServeError::Invalid { what: "the image's configuration".to_owned(), why };
        let config: Config = serde_json::from_str(&self.config).map_err(|error| odd(error.to_string()))?;
        config.rootfs.diff_ids.iter().map(|id| digest(id).ok_or_else(|| odd(format!("`{id}` is no digest")))).collect()
    }

    /// Writes the manifest by which the image is served.
    pub fn manifest(&mut self) -> Result<(String, Vec<(Digest, u64)>), ServeError> {
        let ids = self.diff_ids()?;
        let sizes: Result<Vec<_>, _> = (0..ids.len()).map(|layer| self.layers.size(layer)).collect();
        let layers: Vec<_> = ids.into_iter().zip(sizes?).collect();
        let (manifest, config, layer) = match self.format {
            Format::Oci => (
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar",
            ),
            Format::Docker => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar",
            ),
        };
        let described = |(digest, size): &(Digest, u64)| serde_json::json!({ "mediaType": layer, "digest": format!("sha256:{digest}"), "size": size });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": manifest,
            "config": { "mediaType": config, "digest": format!("sha256:{}", self.id()), "size": self.config.len() },
            "layers": layers.iter().map(described).collect::<Vec<_>>(),
        });
        Ok((manifest.to_string(), layers))
    }
}

/// Reads a digest as images write it.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:").and_then(|digits| digits.parse().ok())
}

/// The largest document that is read of an image.
const DOCUMENT: u64 = 16 << 20;

/// Reads a small document of an image.
pub(crate) fn document(mut reader: impl Read, path: &Path) -> Result<String, ServeError> {
    let mut text = String::new();
    let read = reader.by_ref().take(DOCUMENT + 1).read_to_string(&mut text);
    read.map_err(|source| ServeError::Read { path: path.to_owned(), source })?;
    if text.len() as u64 > DOCUMENT {
        let why = "it is longer than any image's is".to_owned();
        return Err(ServeError::Invalid { what: path.display().to_string(), why });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
