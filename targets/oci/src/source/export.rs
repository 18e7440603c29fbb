//! From the store to a folder, an archive or a registry.
//!
//! Equal images give equal archives: there is nothing in them but the image, in a fixed order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::Path;

use charly_ir::Digest;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::registry::Client;
use super::{Access, Place, Progress, Source, SourceError, Stopped, copy};
use crate::layer::tree::implied;
use crate::layer::{Compression, Entry, Kind, LayerWriter, decompress};
use crate::serve::Judged;
use crate::store::{Image, REF_NAME, Store, StoreError, of_oci, to_oci};

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Delivers an image of the store.
pub fn export(
    store: &Store,
    image: &Image,
    to: &Source,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), SourceError> {
    let export = Export { store, image, access: &to.access };
    match &to.place {
        Place::Layout { path, name } => export.layout(path, name.as_deref(), progress),
        Place::Archive { path, name } => {
            archive(path, progress, |tar, progress| export.oci(tar, name.as_deref(), progress))
        }
        Place::Docker { path, name } => {
            archive(path, progress, |tar, progress| export.docker(tar, name.as_deref(), progress))
        }
        Place::Registry(reference) => {
            export.push(&Client::new(reference, &to.access, true), &reference.wanted(), progress)
        }
    }
}

struct Export<'a> {
    store: &'a Store,
    image: &'a Image,
    access: &'a Access,
}

type Tar<'a> = LayerWriter<&'a mut NamedTempFile>;

impl Export<'_> {
    /// Returns everything but the manifest, each once.
    fn blobs(&self) -> Result<Vec<(Digest, u64)>, SourceError> {
        let mut blobs = Vec::new();
        for descriptor in self.image.manifest.layers().iter().chain([self.image.manifest.config()]) {
            let blob = (of_oci(descriptor)?, descriptor.size());
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        Ok(blobs)
    }

    fn descriptor(&self, name: Option<&str>) -> Descriptor {
        let size = self.image.manifest_bytes.len() as u64;
        let mut descriptor = Descriptor::new(MediaType::ImageManifest, size, to_oci(&self.image.manifest_digest));
        if let Some(name) = name {
            descriptor.set_annotations(Some(HashMap::from([(REF_NAME.to_owned(), name.to_owned())])));
        }
        descriptor
    }

    /// Adds the image to a folder, which may have others.
    fn layout(&self, folder: &Path, name: Option<&str>, progress: &mut dyn FnMut(Progress)) -> Result<(), SourceError> {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(SourceError::file(&blobs))?;
        for (digest, size) in self.blobs()? {
            let path = blobs.join(digest.to_string());
            if path.metadata().is_ok_and(|known| known.len() == size) {
                continue;
            }
            let mut blob = Judged::new(self.store.open_blob(&digest)?, size, digest);
            appear(&path, |file| self.copy(&mut blob, file, (digest, size), progress))
                .map_err(|e| self.judged(&digest, e))?;
        }
        let manifest = blobs.join(self.image.manifest_digest.to_string());
        appear(&manifest, |file| file.write_all(&self.image.manifest_bytes).map_err(SourceError::file(&manifest)))?;
        let index = folder.join("index.json");
        let mut manifests: Vec<Value> = Vec::new();
        if index.exists() {
            let known = super::document::read_file(&index, 64 << 20)?;
            let wrong = |error: serde_json::Error| SourceError::document("index", error.to_string());
            let known: Value = serde_json::from_slice(&known).map_err(wrong)?;
            manifests = known.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
        }
        let digest = Value::from(to_oci(&self.image.manifest_digest).to_string());
        let name_of = |known: &Value| known["annotations"][REF_NAME].as_str().map(str::to_owned);
        manifests.retain(|known| match name {
            Some(name) => name_of(known).as_deref() != Some(name),
            None => name_of(known).is_some() || known["digest"] != digest,
        });
        manifests.push(json!(self.descriptor(name)));
        let text = index_of(&manifests);
        appear(&index, |file| file.write_all(text.as_bytes()).map_err(SourceError::file(&index)))?;
        let layout = folder.join("oci-layout");
        appear(&layout, |file| file.write_all(LAYOUT.as_bytes()).map_err(SourceError::file(&layout)))
    }

    fn oci(
        &self,
        archive: &mut Tar<'_>,
        name: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SourceError> {
        let text = index_of(&[json!(self.descriptor(name))]);
        append(archive, "oci-layout", LAYOUT.as_bytes())?;
        append(archive, "index.json", text.as_bytes())?;
        archive.append(&implied("blobs"), &mut io::empty())?;
        archive.append(&implied("blobs/sha256"), &mut io::empty())?;
        let mut blobs = self.blobs()?;
        blobs.push((self.image.manifest_digest, self.image.manifest_bytes.len() as u64));
        blobs.sort();
        blobs.dedup();
        for (digest, size) in blobs {
            let input = Judged::new(self.store.open_blob(&digest)?, size, digest);
            let mut blob = Told { input, blob: digest, done: 0, total: size, progress };
            let appended = archive.append(&file(&format!("blobs/sha256/{digest}"), size), &mut blob);
            appended.map_err(|error| self.judged(&digest, error.into()))?;
        }
        Ok(())
    }

    fn docker(
        &self,
        archive: &mut Tar<'_>,
        name: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SourceError> {
        let config = format!("{}.json", self.image.id);
        let layers = self.store.layers(self.image)?;
        let names: Vec<_> = layers.iter().map(|layer| format!("{}.tar", layer.diff_id)).collect();
        let manifest = json!([{ "Config": config, "RepoTags": name.map(|name| vec![name]), "Layers": names }]);
        append(archive, "manifest.json", manifest.to_string().as_bytes())?;
        append(archive, &config, &self.image.config_bytes)?;
        let mut written = Vec::new();
        for (layer, name) in layers.iter().zip(names) {
            if written.contains(&layer.diff_id) {
                continue;
            }
            let path = self.store.blob_path(layer.digest);
            let (_, input) = decompress(self.store.open_blob(&layer.digest)?).map_err(SourceError::file(&path))?;
            let (blob, total) = (layer.diff_id, layer.uncompressed);
            let input = Judged::new(input, total, blob);
            let appended = archive.append(&file(&name, total), &mut Told { input, blob, done: 0, total, progress });
            appended.map_err(|error| self.judged(&layer.digest, error.into()))?;
            written.push(layer.diff_id);
        }
        Ok(())
    }

    /// Says of a blob that could not be handed on whether it is damaged, which is then why.
    fn judged(&self, digest: &Digest, error: SourceError) -> SourceError {
        match self.store.verify(digest) {
            Err(damaged @ StoreError::Damaged { .. }) => damaged.into(),
            _ => error,
        }
    }

    /// Sends the registry what it has not; the manifest last, so that nothing incomplete has a name.
    fn push(&self, client: &Client, wanted: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), SourceError> {
        for (digest, size) in self.blobs()? {
            if !client.has(&digest)? {
                let file = self.store.open_blob(&digest)?;
                progress(Progress { blob: digest, done: 0, total: size });
                client.upload(&digest, &file).map_err(|error| self.judged(&digest, error))?;
            }
            progress(Progress { blob: digest, done: size, total: size });
        }
        let media_type = self.image.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        client.put_manifest(wanted, media_type.as_ref(), &self.image.manifest_bytes)
    }

    fn copy(
        &self,
        from: &mut dyn Read,
        to: &mut dyn Write,
        (blob, total): (Digest, u64),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SourceError> {
        let mut done = 0;
        let copied = copy(from, self.access, &mut |bytes| {
            done += bytes.len() as u64;
            progress(Progress { blob, done, total });
            to.write_all(bytes)
        });
        copied.map_err(|stopped| match stopped {
            Stopped::Interrupted => SourceError::Interrupted,
            Stopped::Io(source) => SourceError::File { path: blob.to_string().into(), source },
        })
    }
}

/// Tells how far a blob is read.
struct Told<'a, R> {
    input: R,
    blob: Digest,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.done += count as u64;
        (self.progress)(Progress { blob: self.blob, done: self.done, total: self.total });
        Ok(count)
    }
}

fn index_of(manifests: &[Value]) -> String {
    let mut index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": manifests });
    index.sort_all_objects();
    index.to_string()
}

fn file(path: &str, size: u64) -> Entry {
    Entry { kind: Kind::File { size }, mode: 0o644, ..implied(path) }
}

fn append(archive: &mut Tar<'_>, path: &str, mut bytes: &[u8]) -> Result<(), SourceError> {
    let entry = file(path, bytes.len() as u64);
    Ok(archive.append(&entry, &mut bytes)?)
}

/// Writes an archive that appears whole.
fn archive(
    path: &Path,
    progress: &mut dyn FnMut(Progress),
    write: impl FnOnce(&mut Tar<'_>, &mut dyn FnMut(Progress)) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    appear(path, |file| {
        let mut archive = LayerWriter::new(file, Compression::None, NonZero::<usize>::MIN);
        write(&mut archive, progress)?;
        archive.finish()?;
        Ok(())
    })
}

/// Writes a file that appears whole.
fn appear(path: &Path, write: impl FnOnce(&mut NamedTempFile) -> Result<(), SourceError>) -> Result<(), SourceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut how = tempfile::Builder::new();
    how.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = how.tempfile_in(folder).map_err(SourceError::file(path))?;
    write(&mut file)?;
    File::sync_all(file.as_file()).map_err(SourceError::file(path))?;
    file.persist(path).map_err(|error| SourceError::File { path: path.to_path_buf(), source: error.error })?;
    Ok(())
}
