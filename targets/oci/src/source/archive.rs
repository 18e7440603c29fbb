//! Images in tar archives: where in the archive each file is, and what `docker save` puts there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use serde::Deserialize;
use tempfile::NamedTempFile;

use super::{Access, Progress, SourceError, document, receive, verify};
use crate::layer::{Compression, Kind, LayerReader, Limits, decompress};
use crate::store::{Image, MAX_JSON, Store, StoreError};

/// An archive of images has a few files for each layer.
const LIMITS: Limits = Limits { entries: 100_000, bytes: 1 << 40, names: 32 << 20 };
const MAX_HOPS: usize = 8;

/// A tar archive, and where in it each file is.
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: BTreeMap<String, Member>,
    /// What was compressed is here as long as it is needed.
    _plain: Option<NamedTempFile>,
}

enum Member {
    File { start: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Finds out where each file is.
    pub(super) fn open(path: &Path, store: &Store) -> Result<Self, SourceError> {
        let mut file = File::open(path).map_err(SourceError::file(path))?;
        let mut magic = [0; 4];
        let count = file.read(&mut magic).map_err(SourceError::file(path))?;
        file.rewind().map_err(SourceError::file(path))?;
        let mut plain = None;
        if Compression::of_magic(&magic[..count]) != Compression::None {
            let unpacked = store.temporary()?;
            let (_, input) = decompress(file).map_err(SourceError::file(path))?;
            let mut bytes = input.take(LIMITS.bytes);
            io::copy(&mut bytes, &mut unpacked.as_file()).map_err(SourceError::file(path))?;
            file = unpacked.reopen().map_err(SourceError::file(path))?;
            plain = Some(unpacked);
        }
        let members = scan(&file, path)?;
        Ok(Self { path: path.to_path_buf(), file, members, _plain: plain })
    }

    /// Reads a small file.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let member = self.member(name)?;
        member.take(limit + 1).read_to_end(&mut bytes).map_err(SourceError::file(&self.path))?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge { path: self.path.join(name), limit }.into());
        }
        Ok(bytes)
    }

    /// Opens a file; older archives have links where two images share a layer.
    pub(super) fn member(&self, name: &str) -> Result<impl Read + use<>, SourceError> {
        let missing = || SourceError::Missing { place: self.path.clone(), name: name.escape_debug().to_string() };
        let mut at = plain(name).ok_or_else(missing)?;
        for _ in 0..MAX_HOPS {
            match self.members.get(&at).ok_or_else(missing)? {
                Member::File { start, size } => {
                    let open = || -> io::Result<_> {
                        // A description of its own, so that several can be read.
                        let mut file =
                            File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.file)))?;
                        file.seek(SeekFrom::Start(*start))?;
                        Ok(file.take(*size))
                    };
                    return open().map_err(SourceError::file(&self.path));
                }
                Member::Link(target) => {
                    let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
                    at = plain(&format!("{folder}/{target}")).ok_or_else(missing)?;
                }
            }
        }
        Err(missing())
    }

    fn size(&self, name: &str) -> Option<u64> {
        match self.members.get(&plain(name)?)? {
            Member::File { size, .. } => Some(*size),
            Member::Link(_) => None,
        }
    }
}

fn scan(file: &File, path: &Path) -> Result<BTreeMap<String, Member>, SourceError> {
    let mut reader =
        LayerReader::of_tar(Counted { input: BufReader::with_capacity(256 << 10, file), count: 0 }, "", LIMITS);
    let mut members = BTreeMap::new();
    loop {
        let entry = reader.next_entry().map_err(|error| named(error, path))?;
        let Some(entry) = entry else {
            return Ok(members);
        };
        let member = match entry.kind {
            // The content begins where the reader stands.
            Kind::File { size } => Member::File { start: reader.input().count, size },
            Kind::Symlink { target } => Member::Link(target),
            Kind::Hardlink { target } => {
                let up = "../".repeat(entry.path.matches('/').count());
                Member::Link(format!("{up}{target}"))
            }
            _ => continue,
        };
        members.insert(entry.path, member);
    }
}

/// Names the archive where an error of a layer would name the layer.
fn named(error: crate::layer::LayerError, path: &Path) -> SourceError {
    use crate::layer::LayerError::{Malformed, Read, Refused, TooMuch};
    let layer = path.display().to_string();
    SourceError::Layer(match error {
        Read { source, .. } => Read { layer, source },
        Malformed { why, .. } => Malformed { layer, why },
        Refused { path, why, .. } => Refused { layer, path, why },
        TooMuch { what, limit, .. } => TooMuch { layer, what, limit },
        other => other,
    })
}

/// Brings a name into the form that entries have; none leads out.
fn plain(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

struct Counted<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// One image of an archive that `docker save` or `podman save` wrote.
#[derive(Debug, Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

/// Takes an image of a docker archive into the store.
pub(super) fn import(
    archive: &Archive,
    which: Option<&str>,
    store: &Store,
    name: &str,
    access: &Access,
    progress: &mut dyn FnMut(Progress),
) -> Result<Image, SourceError> {
    let manifest = archive.read("manifest.json", MAX_JSON)?;
    let images: Vec<Saved> =
        serde_json::from_slice(&manifest).map_err(|error| SourceError::document("manifest.json", error.to_string()))?;
    let has = |image: &Saved, which: &str| image.tags.iter().flatten().any(|tag| tag == which);
    let image = match (&images[..], which) {
        ([one], None) => Some(one),
        (images, Some(which)) => images.iter().find(|image| has(image, which)),
        _ => None,
    };
    let Some(image) = image else {
        let names = images.into_iter().flat_map(|image| image.tags.unwrap_or_default()).collect();
        return Err(SourceError::Which { place: archive.path.clone(), names });
    };
    let config = archive.read(&image.config, MAX_JSON)?;
    let diff_ids = document::diff_ids(&config)?;
    let files = image.layers.as_deref().unwrap_or_default();
    if files.len() != diff_ids.len() {
        return Err(StoreError::Unequal { layers: files.len(), diff_ids: diff_ids.len() }.into());
    }
    let mut layers = Vec::new();
    for (file, diff_id) in files.iter().zip(diff_ids) {
        // Layers are not compressed here as a rule; then one that is known need not be read.
        let known = archive.size(file).filter(|size| store.has(&diff_id, *size));
        let (digest, size) = if let Some(size) = known {
            (diff_id, size)
        } else {
            let (digest, size) = digest(archive, file)?;
            if !store.has(&digest, size) {
                receive(store, &mut archive.member(file)?, digest, size, access, progress)?;
            }
            (digest, size)
        };
        layers.push((verify(store, digest, diff_id)?, size, digest));
    }
    Ok(store.tag_bytes(name, &config, &layers)?)
}

/// Digests a file of an archive: nothing else says what it is.
fn digest(archive: &Archive, file: &str) -> Result<(Digest, u64), SourceError> {
    let mut member = archive.member(file)?;
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match member.read(&mut buffer).map_err(SourceError::file(&archive.path))? {
            0 => return Ok((hasher.finish(), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}
