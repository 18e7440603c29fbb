//! The documents that make up an image, as others write them.

use std::path::Path;

use charly_ir::Digest;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::SourceError;
use crate::store::StoreError;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYERS: [&str; 3] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// What registries are told that they may answer.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A document, told by what is in it: its sender may call it anything.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Box<Manifest>),
}

#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    /// Whether it is one of OCI's; docker's has the same form and other media types.
    pub(super) is_oci: bool,
}

impl Document {
    pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Self, SourceError> {
        let wrong = |error: serde_json::Error| SourceError::document(what, error.to_string());
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(wrong)?;
        if value.get("schemaVersion").and_then(serde_json::Value::as_u64) != Some(2) {
            return Err(SourceError::document(what, "it is not of version 2"));
        }
        // What can be read in two ways is read differently by others.
        match (value.get("manifests"), value.get("layers").or(value.get("config"))) {
            (Some(_), None) => {
                let index: ImageIndex = serde_json::from_value(value).map_err(wrong)?;
                Ok(Self::Index(index.manifests().clone()))
            }
            (None, Some(_)) => {
                let manifest: ImageManifest = serde_json::from_value(value).map_err(wrong)?;
                let is_oci =
                    manifest.media_type().as_ref().is_none_or(|media_type| *media_type == MediaType::ImageManifest)
                        && *manifest.config().media_type() == MediaType::ImageConfig;
                Ok(Self::Manifest(Box::new(Manifest {
                    config: manifest.config().clone(),
                    layers: manifest.layers().clone(),
                    is_oci,
                })))
            }
            _ => Err(SourceError::document(what, "it is neither a manifest nor an index")),
        }
    }
}

/// Returns what a configuration says its layers unpack to.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, SourceError> {
    let wrong = |why: String| SourceError::document("configuration", why);
    let config: oci_spec::image::ImageConfiguration =
        serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
    let digest = |text: &String| text.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
    let ids = config.rootfs().diff_ids();
    ids.iter().map(|id| digest(id).ok_or_else(|| wrong("a layer has no SHA-256 digest".into()))).collect()
}

pub(super) fn is_config(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageConfig || media_type.as_ref() == DOCKER_CONFIG
}

/// Refuses layers that are kept elsewhere, encrypted or no layers at all.
pub(super) fn check_layer(descriptor: &Descriptor) -> Result<(), SourceError> {
    match descriptor.media_type() {
        MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => Ok(()),
        other if DOCKER_LAYERS.contains(&other.as_ref()) => Ok(()),
        other => {
            let other: String = other.as_ref().escape_debug().take(100).collect();
            Err(SourceError::document("manifest", format!("`{other}` is no kind of layer that is read here")))
        }
    }
}

/// Reads a file of at most that many bytes.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    crate::store::blob::read_file(path, limit).map_err(|error| match error {
        StoreError::File { path, source } => SourceError::File { path, source },
        other => other.into(),
    })
}
