//! OCI layouts, in folders and in archives.

use std::io::{self, Read};
use std::path::Path;

use charly_ir::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::tree::Tree;
use super::{Format, Layers, ServeError, Served, digest, document};
use crate::layer::{Compression, decompress};

/// The annotation that names an image of a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// How deep indexes may lie in one another.
const DEPTH: u32 = 4;

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Descriptor {
    fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(NAME).map(String::as_str)
    }

    fn is_for_this_machine(&self) -> bool {
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.platform.as_ref().is_none_or(|platform| platform.architecture == here && platform.os == "linux")
    }
}

/// Opens an image of a layout.
pub(super) fn open(path: &Path, name: Option<&str>) -> Result<Served, ServeError> {
    let tree = Tree::open(path)?;
    let index: Index = parse(&tree, "index.json")?;
    let known: Vec<_> = index.manifests.iter().filter_map(|found| found.name().map(str::to_owned)).collect();
    let mut found: Vec<_> = match name {
        Some(name) => index.manifests.iter().filter(|found| found.name() == Some(name)).collect(),
        None => index.manifests.iter().collect(),
    };
    if found.len() > 1 {
        found.retain(|found| found.is_for_this_machine());
    }
    let [one] = found[..] else {
        let name = name.unwrap_or("for this machine").to_owned();
        return Err(ServeError::Unknown { name, place: format!("alone in `{}`", path.display()), near: known });
    };
    let names = one.name().map(str::to_owned).into_iter().collect();
    let manifest = manifest(&tree, one, DEPTH)?;
    let config = document(tree.read(&blob(&manifest.config)?)?, path)?;
    let layers = manifest.layers.iter().map(blob).collect::<Result<Vec<_>, _>>()?;
    let docker = manifest.media_type.contains("docker") || manifest.config.media_type.contains("docker");
    let format = if docker { Format::Docker } else { Format::Oci };
    let served = Served { config, format, names, layers: Box::new(Files::new(tree, layers)) };
    if digest(&manifest.config.digest) != Some(served.id()) || served.diff_ids()?.len() != manifest.layers.len() {
        let why = "its configuration is not the one that it names".to_owned();
        return Err(ServeError::Invalid { what: format!("the manifest in `{}`", path.display()), why });
    }
    Ok(served)
}

fn manifest(tree: &Tree, descriptor: &Descriptor, depth: u32) -> Result<Manifest, ServeError> {
    let name = blob(descriptor)?;
    if !descriptor.media_type.contains("index") && !descriptor.media_type.contains("manifest.list") {
        return parse(tree, &name);
    }
    let index: Index = parse(tree, &name)?;
    match index.manifests.iter().find(|found| found.is_for_this_machine()) {
        Some(found) if depth > 0 => manifest(tree, found, depth - 1),
        _ => {
            let why = "it has nothing for this machine".to_owned();
            Err(ServeError::Invalid { what: format!("the index in `{}`", tree.path().display()), why })
        }
    }
}

fn parse<T: DeserializeOwned>(tree: &Tree, name: &str) -> Result<T, ServeError> {
    let path = tree.path().join(name);
    let text = document(tree.read(name)?, &path)?;
    let odd = |error: serde_json::Error| ServeError::Invalid {
        what: format!("`{}`", path.display()),
        why: error.to_string(),
    };
    serde_json::from_str(&text).map_err(odd)
}

/// Returns where a layout keeps what a descriptor names.
fn blob(descriptor: &Descriptor) -> Result<String, ServeError> {
    let odd =
        || ServeError::Invalid { what: format!("`{}`", descriptor.digest), why: "it is no SHA-256 digest".to_owned() };
    Ok(format!("blobs/sha256/{}", digest(&descriptor.digest).ok_or_else(odd)?))
}

/// Layers that are files, compressed or not.
#[derive(Debug)]
pub(super) struct Files {
    tree: Tree,
    paths: Vec<String>,
    /// What each is as an archive that is not compressed, once it was looked through.
    sizes: Vec<Option<u64>>,
}

impl Files {
    pub(super) fn new(tree: Tree, paths: Vec<String>) -> Self {
        Self { tree, sizes: vec![None; paths.len()], paths }
    }
}

impl Layers for Files {
    fn size(&mut self, layer: usize) -> Result<u64, ServeError> {
        if let Some(size) = self.sizes[layer] {
            return Ok(size);
        }
        let name = &self.paths[layer];
        let failed = |source| ServeError::Read { path: self.tree.path().join(name), source };
        let (compression, mut reader) = decompress(self.tree.read(name)?).map_err(failed)?;
        // Only whoever undoes the compression knows.
        let size = match compression {
            Compression::None => self.tree.size(name)?,
            _ => io::copy(&mut reader, &mut io::sink()).map_err(failed)?,
        };
        self.sizes[layer] = Some(size);
        Ok(size)
    }

    fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError> {
        let name = &self.paths[layer];
        let failed = |source| ServeError::Read { path: self.tree.path().join(name), source };
        decompress(self.tree.read(name)?).map(|(_, reader)| reader).map_err(failed)
    }
}

/// Reads a layer and tells whether it is the one that it should be.
#[derive(Debug)]
pub(crate) struct Judged<R> {
    reader: R,
    hasher: Option<charly_ir::digest::Hasher>,
    left: u64,
    want: Digest,
}

impl<R> Judged<R> {
    pub(crate) fn new(reader: R, size: u64, want: Digest) -> Self {
        Self { reader, hasher: Some(charly_ir::digest::Hasher::new()), left: size, want }
    }
}

impl<R: Read> Read for Judged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        let damaged =
            || io::Error::new(io::ErrorKind::InvalidData, format!("layer {} is damaged here", self.want.short()));
        self.left = self.left.checked_sub(n as u64).ok_or_else(damaged)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
            if n == 0 && self.left > 0 && !buffer.is_empty() {
                return Err(damaged());
            }
            if self.left == 0 && self.hasher.take().is_some_and(|hasher| hasher.finish() != self.want) {
                return Err(damaged());
            }
        }
        Ok(n)
    }
}
