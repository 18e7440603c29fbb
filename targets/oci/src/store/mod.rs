//! The images of this machine, in a folder that other tools can read.
//!
//! The folder is an OCI layout: `oci-layout`, `index.json` and `blobs/sha256`. Beside those it has `entries`, where what a
//! layer says is remembered so that it is read once, and `partial`, where files come to be. Every file appears whole, by
//! renaming; nothing is named before it is on the disk.
//!
//! | module | what it holds |
//! |---|---|
//! | [`blob`] | putting bytes in and getting them out |
//! | [`entries`] | what each layer says, remembered |
//! | [`compare`] | several layers made one, and images compared |
//! | [`error`] | why the store cannot do something |

pub mod blob;
pub mod compare;
pub mod entries;
pub mod error;
mod json;

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use charly_ir::Digest;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform};

pub use blob::LayerSink;
pub use compare::{Aspect, Change, Difference};
pub use entries::{Contents, SMALL};
pub use error::StoreError;
pub(crate) use json::{of_oci, to_oci};

use crate::layer::Layer;
use crate::space::Space;

/// The annotation that names an image in an index.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Manifests and configurations are no larger than this; an index may be.
pub(crate) const MAX_JSON: u64 = 4 << 20;
const MAX_INDEX: u64 = 64 << 20;

/// The images of this machine.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Held shared as long as blobs may be used that no image names yet.
    in_use: File,
}

/// An image of a store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's digest.
    pub manifest_digest: Digest,
    /// The manifest, as it is stored.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration, as it is stored: it may say more than is understood.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The configuration's digest, which is what names an image's content.
    pub id: Digest,
}

impl Store {
    /// Opens a store, and makes it where there is none.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        // Images hold what only their own users may read.
        crate::private::create(folder).map_err(StoreError::file(folder))?;
        for name in ["blobs/sha256", "entries", "partial"] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder).map_err(StoreError::file(&folder))?;
        }
        let in_use = lock_file(&folder.join("in-use"))?;
        in_use.lock_shared().map_err(StoreError::file(folder))?;
        let store = Self { folder: folder.to_path_buf(), in_use };
        let layout = folder.join(LAYOUT);
        if !layout.exists() {
            let _lock = store.lock()?;
            if !folder.join(INDEX).exists() {
                store.write_index(&ImageIndex::default())?;
            }
            store.write_new(LAYOUT_TEXT.as_bytes(), &layout)?;
        }
        Ok(store)
    }

    /// Returns the store's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the image of a name, which is its full reference.
    pub fn image(&self, name: &str) -> Result<Option<Image>, StoreError> {
        let index = self.index()?;
        let found = index.manifests().iter().find(|descriptor| name_of(descriptor) == Some(name));
        found.map(|descriptor| self.image_of(descriptor)).transpose()
    }

    /// Returns all images that have a name, by name.
    pub fn images(&self) -> Result<Vec<(String, Image)>, StoreError> {
        let index = self.index()?;
        let named = index.manifests().iter().filter_map(|descriptor| Some((name_of(descriptor)?, descriptor)));
        named.map(|(name, descriptor)| Ok((name.to_owned(), self.image_of(descriptor)?))).collect()
    }

    /// Makes an image of a configuration and layers, which are in the store already, and gives it a name. The configuration is
    /// made to list these layers.
    pub fn tag(&self, name: &str, config: &ImageConfiguration, layers: &[Layer]) -> Result<Image, StoreError> {
        let mut config = config.clone();
        let diff_ids = layers.iter().map(|layer| to_oci(&layer.diff_id).to_string()).collect();
        config.rootfs_mut().set_diff_ids(diff_ids);
        let config_bytes = json::bytes(&config)?;
        let layers = layers.iter().map(|layer| (layer.media_type(), layer.size, layer.digest)).collect::<Vec<_>>();
        self.tag_bytes(name, &config_bytes, &layers)
    }

    /// Returns an image's layers, the lowest first.
    pub fn layers(&self, image: &Image) -> Result<Vec<Layer>, StoreError> {
        let described = image.manifest.layers();
        let diff_ids = image.config.rootfs().diff_ids();
        if described.len() != diff_ids.len() {
            return Err(StoreError::Unequal { layers: described.len(), diff_ids: diff_ids.len() });
        }
        described
            .iter()
            .map(|descriptor| {
                let digest = of_oci(descriptor)?;
                let contents = self.contents(&digest)?;
                let compression = contents.compression;
                let (diff_id, uncompressed) = (contents.diff_id, contents.uncompressed);
                Ok(Layer { digest, size: descriptor.size(), diff_id, uncompressed, compression })
            })
            .collect()
    }

    /// Returns when an image was built, fetched or used last.
    pub fn last_used(&self, image: &Image) -> Option<SystemTime> {
        self.blob_path(image.manifest_digest).metadata().and_then(|manifest| manifest.modified()).ok()
    }

    /// Notes that an image is used now.
    pub fn touch(&self, image: &Image) {
        let manifest = File::open(self.blob_path(image.manifest_digest));
        // At worst it is taken for one that nobody uses, and built again one day.
        manifest.and_then(|manifest| manifest.set_modified(SystemTime::now())).ok();
    }

    /// Takes names away, and then all that no image needs, unless another process has the store open: what that puts in may have
    /// no name yet.
    pub fn prune(&self, gone: &BTreeSet<String>) -> Result<Space, StoreError> {
        if self.in_use.try_lock().is_err() {
            // Who asks for more and does not get it has lost what it had.
            self.in_use.lock_shared().map_err(StoreError::file(&self.folder))?;
            return Err(StoreError::Busy { folder: self.folder.clone() });
        }
        let done = self.prune_alone(gone);
        // Whatever came of it, others may have the store again.
        self.in_use.lock_shared().map_err(StoreError::file(&self.folder))?;
        done
    }

    fn prune_alone(&self, gone: &BTreeSet<String>) -> Result<Space, StoreError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let is_kept = |descriptor: &Descriptor| name_of(descriptor).is_none_or(|name| !gone.contains(name));
        let kept: Vec<_> = index.manifests().iter().filter(|descriptor| is_kept(descriptor)).cloned().collect();
        if kept.len() < index.manifests().len() {
            index.set_manifests(kept);
            self.write_index(&index)?;
        }
        let mut needed = BTreeSet::new();
        let mut indexes = vec![index];
        while let Some(index) = indexes.pop() {
            for descriptor in index.manifests() {
                let digest = of_oci(descriptor)?;
                if !needed.insert(digest.to_string()) {
                    continue;
                }
                if *descriptor.media_type() == MediaType::ImageIndex {
                    indexes.push(json::parse(&self.read(&digest, MAX_JSON)?, &digest.to_string())?);
                } else {
                    let manifest: ImageManifest = json::parse(&self.read(&digest, MAX_JSON)?, &digest.to_string())?;
                    let parts = manifest.layers().iter().chain([manifest.config()]);
                    needed.extend(parts.filter_map(|part| Some(part.as_digest_sha256()?.to_owned())));
                }
            }
        }
        let mut space = Space::default();
        for folder in ["blobs/sha256", "entries", "partial"].map(|name| self.folder.join(name)) {
            for file in std::fs::read_dir(&folder).map_err(StoreError::file(&folder))? {
                let file = file.map_err(StoreError::file(&folder))?;
                let path = file.path();
                let size = file.metadata().map_err(StoreError::file(&path))?.len();
                space.before += size;
                if needed.contains(&*file.file_name().to_string_lossy()) && !folder.ends_with("partial") {
                    space.after += size;
                } else {
                    std::fs::remove_file(&path).map_err(StoreError::file(&path))?;
                }
            }
        }
        Ok(space)
    }

    /// Makes an image of a configuration's bytes as they are.
    pub(crate) fn tag_bytes(
        &self,
        name: &str,
        config_bytes: &[u8],
        layers: &[(MediaType, u64, Digest)],
    ) -> Result<Image, StoreError> {
        let id = self.put(config_bytes)?;
        let config = Descriptor::new(MediaType::ImageConfig, config_bytes.len() as u64, to_oci(&id));
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, size, digest)| Descriptor::new(media_type.clone(), *size, to_oci(digest)))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": config,
            "layers": layers,
        });
        self.tag_manifest(name, json::bytes(&manifest)?)
    }

    /// Gives a manifest's bytes a name; what it lists is in the store already.
    pub(crate) fn tag_manifest(&self, name: &str, manifest_bytes: Vec<u8>) -> Result<Image, StoreError> {
        let digest = self.put(&manifest_bytes)?;
        let image = self.image_of_bytes(digest, manifest_bytes)?;
        for descriptor in image.manifest.layers() {
            let layer = of_oci(descriptor)?;
            if !self.has(&layer, descriptor.size()) {
                return Err(StoreError::Missing { digest: layer });
            }
        }
        let mut platform = Platform::default();
        platform.set_architecture(image.config.architecture().clone());
        platform.set_os(image.config.os().clone());
        platform.set_variant(image.config.variant().clone());
        let size = image.manifest_bytes.len() as u64;
        let mut descriptor = Descriptor::new(MediaType::ImageManifest, size, to_oci(&digest));
        descriptor.set_platform(Some(platform));
        descriptor.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), name.to_owned())])));

        let _lock = self.lock()?;
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        if manifests.contains(&descriptor) {
            self.touch(&image);
            return Ok(image);
        }
        manifests.retain(|known| name_of(known) != Some(name));
        manifests.push(descriptor);
        manifests.sort_by(|one, other| name_of(one).cmp(&name_of(other)));
        index.set_manifests(manifests);
        self.sync_blobs()?;
        self.write_index(&index)?;
        Ok(image)
    }

    fn image_of(&self, descriptor: &Descriptor) -> Result<Image, StoreError> {
        let digest = of_oci(descriptor)?;
        self.image_of_bytes(digest, self.read(&digest, MAX_JSON)?)
    }

    pub(crate) fn image_of_bytes(&self, digest: Digest, manifest_bytes: Vec<u8>) -> Result<Image, StoreError> {
        let manifest: ImageManifest = json::parse(&manifest_bytes, &digest.to_string())?;
        let id = of_oci(manifest.config())?;
        let config_bytes = self.read(&id, MAX_JSON)?;
        let config = json::parse(&config_bytes, &id.to_string())?;
        Ok(Image { manifest_digest: digest, manifest_bytes, manifest, config_bytes, config, id })
    }

    fn index(&self) -> Result<ImageIndex, StoreError> {
        let path = self.folder.join(INDEX);
        let bytes = blob::read_file(&path, MAX_INDEX)?;
        json::parse(&bytes, INDEX)
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), StoreError> {
        let mut index = index.clone();
        index.set_schema_version(2);
        index.set_media_type(Some(MediaType::ImageIndex));
        self.write_new(&json::bytes(&index)?, &self.folder.join(INDEX))
    }

    /// Holds off others that change the index.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.folder.join("lock");
        let lock = lock_file(&path)?;
        lock.lock().map_err(StoreError::file(&path))?;
        Ok(lock)
    }
}

/// The manifest's digest stands for all of it.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.manifest_digest == other.manifest_digest
    }
}

impl Eq for Image {}

pub(crate) fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let open = || -> io::Result<File> { OpenOptions::new().create(true).truncate(false).write(true).open(path) };
    open().map_err(StoreError::file(path))
}

#[cfg(test)]
mod tests;
