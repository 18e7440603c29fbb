//! Images from elsewhere, and images to elsewhere.
//!
//! What comes is not believed: documents are bounded and must have the digest they are asked for by, layers must have the digest
//! that the manifest says and unpack to the one that the configuration says, and every entry of them is read once before the
//! image has a name.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@reference`] | the names that images have |
//! | [`access`] | what is needed to be let in |
//! | [`mod@export`] | from the store to a folder, an archive or a registry |
//! | [`error`] | why it cannot be done |

pub mod access;
mod archive;
mod document;
pub mod error;
pub mod export;
pub mod reference;
mod registry;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use oci_spec::image::{Descriptor, MediaType};

pub use access::{Access, Credentials, Platform};
pub use error::SourceError;
pub use export::export;
pub use reference::{Place, Reference};

use crate::store::{Image, MAX_JSON, Store, StoreError, name_of, of_oci};
use document::{Document, Manifest};

/// The most that a layer's blob may have.
const MAX_BLOB: u64 = 32 << 30;
/// An index may name indexes; nobody needs more of that.
const MAX_INDEXES: usize = 4;
const MAX_LAYERS: usize = 1000;

/// Where an image is or goes, and what is needed to get there.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where.
    pub place: Place,
    /// What is needed.
    pub access: Access,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The blob that is under way.
    pub blob: Digest,
    /// How many bytes of it there are.
    pub done: u64,
    /// How many there will be.
    pub total: u64,
}

/// Somewhere that blobs come from.
enum Origin {
    Layout(PathBuf),
    Archive(archive::Archive),
    Registry(Box<registry::Client>),
}

/// Fetches an image into the store and gives it a name there.
pub fn import(
    store: &Store,
    source: &Source,
    name: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image, SourceError> {
    let access = &source.access;
    match &source.place {
        Place::Docker { path, name: which } => {
            let archive = archive::Archive::open(path, store)?;
            archive::import(&archive, which.as_deref(), store, name, access, progress)
        }
        Place::Layout { path, name: which } => {
            let origin = Origin::Layout(path.clone());
            let index = document::read_file(&path.join("index.json"), MAX_JSON)?;
            let root = Document::parse(&index, "index")?;
            Import { store, access, origin, progress }.named(root, path, which.as_deref(), name)
        }
        Place::Archive { path, name: which } => {
            let archive = archive::Archive::open(path, store)?;
            let root = Document::parse(&archive.read("index.json", MAX_JSON)?, "index")?;
            let origin = Origin::Archive(archive);
            Import { store, access, origin, progress }.named(root, path, which.as_deref(), name)
        }
        Place::Registry(reference) => {
            let client = Box::new(registry::Client::new(reference, access, false));
            let bytes = client.manifest(&reference.wanted())?;
            if let Some(want) = reference.digest {
                check(want, &bytes)?;
            }
            let import = Import { store, access, origin: Origin::Registry(client), progress };
            import.from(bytes, name)
        }
    }
}

struct Import<'a> {
    store: &'a Store,
    access: &'a Access,
    origin: Origin,
    progress: &'a mut dyn FnMut(Progress),
}

impl Import<'_> {
    /// Fetches one of the images of a layout's index.
    fn named(
        self,
        root: Document,
        place: &std::path::Path,
        which: Option<&str>,
        name: &str,
    ) -> Result<Image, SourceError> {
        let Document::Index(descriptors) = root else {
            return Err(SourceError::document("index", "it lists no manifests"));
        };
        let names = || descriptors.iter().filter_map(name_of).map(str::to_owned).collect::<Vec<_>>();
        let none = || SourceError::Which { place: place.to_path_buf(), names: names() };
        let chosen: Vec<_> = match which {
            Some(which) => {
                descriptors.iter().filter(|descriptor| name_of(descriptor) == Some(which)).cloned().collect()
            }
            None => descriptors.clone(),
        };
        let descriptor = match &chosen[..] {
            [one] => one,
            // One image for several platforms has a name once or not at all; several names are several images.
            [_, ..] if chosen.iter().all(|other| name_of(other) == name_of(&chosen[0])) => {
                access::choose(&chosen, &self.access.platform)?
            }
            _ => return Err(none()),
        };
        let bytes = self.document(descriptor)?;
        self.from(bytes, name)
    }

    /// Fetches the image that a manifest or an index is of.
    fn from(mut self, mut bytes: Vec<u8>, name: &str) -> Result<Image, SourceError> {
        for _ in 0..MAX_INDEXES {
            match Document::parse(&bytes, "manifest")? {
                Document::Manifest(manifest) => return self.image(&manifest, bytes, name),
                Document::Index(descriptors) => {
                    let descriptor = access::choose(&descriptors, &self.access.platform)?.clone();
                    bytes = self.document(&descriptor)?;
                }
            }
        }
        Err(SourceError::document("index", "it names indexes that name indexes"))
    }

    fn image(&mut self, manifest: &Manifest, bytes: Vec<u8>, name: &str) -> Result<Image, SourceError> {
        let config_bytes = self.document(&manifest.config)?;
        let diff_ids = document::diff_ids(&config_bytes)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(SourceError::document("manifest", "it has more layers than images can have"));
        }
        if diff_ids.len() != manifest.layers.len() {
            let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
            return Err(StoreError::Unequal { layers, diff_ids }.into());
        }
        let mut layers = Vec::new();
        let mut is_plain = manifest.is_oci;
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            document::check_layer(descriptor)?;
            let digest = of_oci(descriptor)?;
            if descriptor.size() > MAX_BLOB {
                return Err(SourceError::TooLarge { digest, size: descriptor.size(), limit: MAX_BLOB });
            }
            if !self.store.has(&digest, descriptor.size()) {
                self.layer(&digest, descriptor.size())?;
            }
            let compression = verify(self.store, digest, diff_id)?;
            // A manifest may call its layers what they are not; others would believe it.
            is_plain &= *descriptor.media_type() == compression;
            layers.push((compression, descriptor.size(), digest));
        }
        self.store.put(&config_bytes).map_err(SourceError::from)?;
        if is_plain {
            return Ok(self.store.tag_manifest(name, bytes)?);
        }
        Ok(self.store.tag_bytes(name, &config_bytes, &layers)?)
    }

    /// Fetches a document that a descriptor names.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
        let digest = of_oci(descriptor)?;
        let limit = descriptor.size();
        if limit > MAX_JSON {
            return Err(SourceError::TooLarge { digest, size: limit, limit: MAX_JSON });
        }
        let bytes = match &self.origin {
            Origin::Layout(folder) => document::read_file(&blob_in(folder, &digest), limit)?,
            Origin::Archive(archive) => archive.read(&format!("blobs/sha256/{digest}"), limit)?,
            Origin::Registry(client) if document::is_config(descriptor.media_type()) => client.small(&digest, limit)?,
            Origin::Registry(client) => client.manifest(&format!("sha256:{digest}"))?,
        };
        if bytes.len() as u64 != limit {
            return Err(SourceError::Size { digest, size: limit });
        }
        check(digest, &bytes)?;
        Ok(bytes)
    }

    fn layer(&mut self, digest: &Digest, size: u64) -> Result<(), SourceError> {
        match &self.origin {
            Origin::Registry(client) => client.fetch(digest, size, self.store, self.progress),
            Origin::Layout(folder) => {
                let path = blob_in(folder, digest);
                let mut file = File::open(&path).map_err(SourceError::file(&path))?;
                receive(self.store, &mut file, *digest, size, self.access, self.progress)
            }
            Origin::Archive(archive) => {
                let mut member = archive.member(&format!("blobs/sha256/{digest}"))?;
                receive(self.store, &mut member, *digest, size, self.access, self.progress)
            }
        }
    }
}

/// Reads a layer to its end, and returns what it really is, as a media type.
fn verify(store: &Store, digest: Digest, diff_id: Digest) -> Result<MediaType, SourceError> {
    let contents = store.contents(&digest)?;
    if contents.diff_id != diff_id {
        return Err(StoreError::DiffId { digest, want: diff_id, got: contents.diff_id }.into());
    }
    Ok(contents.compression.media_type())
}

/// Takes a blob that must have this digest and size.
fn receive(
    store: &Store,
    from: &mut dyn Read,
    digest: Digest,
    size: u64,
    access: &Access,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), SourceError> {
    let mut sink = store.layer_sink()?;
    let mut hasher = Hasher::new();
    let mut done = 0;
    let path = store.blob_path(digest);
    copy(&mut from.take(size + 1), access, &mut |bytes| {
        hasher.update(bytes);
        done += bytes.len() as u64;
        progress(Progress { blob: digest, done, total: size });
        sink.write_all(bytes)
    })
    .map_err(|error| match error {
        Stopped::Interrupted => SourceError::Interrupted,
        Stopped::Io(source) => SourceError::File { path, source },
    })?;
    if done != size {
        return Err(SourceError::Size { digest, size });
    }
    let got = hasher.finish();
    if got != digest {
        return Err(SourceError::Digest { want: digest, got });
    }
    Ok(sink.keep_as(&digest)?)
}

/// Why a copy ended early.
enum Stopped {
    Interrupted,
    Io(io::Error),
}

fn copy(from: &mut dyn Read, access: &Access, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Stopped> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        if access.interrupts.count() > 0 {
            return Err(Stopped::Interrupted);
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to(&buffer[..count]).map_err(Stopped::Io)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stopped::Io(error)),
        }
    }
}

fn check(want: Digest, bytes: &[u8]) -> Result<(), SourceError> {
    let got = Digest::of(bytes);
    if got == want { Ok(()) } else { Err(SourceError::Digest { want, got }) }
}

fn blob_in(folder: &std::path::Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.to_string())
}

#[cfg(test)]
mod tests;
