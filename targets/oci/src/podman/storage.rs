//! Images and layers as storage knows them.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use charly_ir::Digest;
use flate2::bufread::GzDecoder;
use serde::Deserialize;

use super::saved::Saved;
use super::tar_split::TarSplit;
use crate::serve::{Format, Layers, ServeError, Served, document};

/// What `podman image inspect` says of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    manifest_type: String,
    graph_driver: Driver,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    name: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    lower_dir: String,
    upper_dir: String,
}

/// What storage knows of a layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Known {
    id: String,
    #[serde(default)]
    diff_digest: String,
    #[serde(default)]
    diff_size: u64,
    #[serde(default)]
    uidset: Vec<u32>,
}

/// Layers that are read from where storage keeps them.
#[derive(Debug)]
struct Stored {
    root: PathBuf,
    layers: Vec<Known>,
    /// Storage's name for the image.
    image: String,
    /// All of it written out by podman, once a layer was asked for that cannot be read otherwise.
    saved: Option<Saved>,
}

/// Opens the image that podman told of.
pub(crate) fn open(json: &[u8], name: &str) -> Result<Served, ServeError> {
    let odd = |why: String| ServeError::Invalid { what: "what podman says of the image".to_owned(), why };
    let mut inspected: Vec<Inspected> = serde_json::from_slice(json).map_err(|error| odd(error.to_string()))?;
    let inspected = inspected.pop().ok_or_else(|| odd("it names none".to_owned()))?;
    let mut names = inspected.repo_tags.clone().unwrap_or_default();
    names.sort_by_key(|known| !is_called(known, name));
    let format = if inspected.manifest_type.contains("docker") { Format::Docker } else { Format::Oci };
    let image = inspected.id.trim_start_matches("sha256:").to_owned();
    if inspected.graph_driver.name != "overlay" {
        return Saved::write(&image)?.into_served(names);
    }
    let data = inspected.graph_driver.data.unwrap_or_default();
    // Written from the top down.
    let trees =
        std::iter::once(data.upper_dir.as_str()).chain(data.lower_dir.split(':')).filter(|tree| !tree.is_empty());
    let mut folders: Vec<PathBuf> = trees.filter_map(|tree| Path::new(tree).parent().map(PathBuf::from)).collect();
    folders.reverse();
    let root = folders.first().and_then(|folder| folder.ancestors().nth(2));
    let root = root.ok_or_else(|| odd("it has no layers".to_owned()))?.to_owned();
    let known = read_layers(&root)?;
    let find = |folder: &PathBuf| {
        let id = folder.file_name().unwrap_or_default().to_string_lossy();
        known.iter().find(|known| known.id == id && folder.starts_with(&root)).cloned()
    };
    let layers: Option<Vec<_>> = folders.iter().map(find).collect();
    // Layers of another storage, which this one only looks into, are podman's to find.
    let Some(layers) = layers else { return Saved::write(&image)?.into_served(names) };
    let path = root.join("overlay-images").join(&image).join(big_data(&format!("sha256:{image}")));
    let file = File::open(&path).map_err(|source| ServeError::Read { path: path.clone(), source })?;
    let config = document(file, &path)?;
    let stored = Stored { root, layers: layers.clone(), image: image.clone(), saved: None };
    let served = Served { config, format, names, layers: Box::new(stored) };
    let is_layer = |(known, id): (&Known, &Digest)| known.diff_digest == format!("sha256:{id}");
    let ids = served.diff_ids()?;
    if served.id().to_string() != image || ids.len() != layers.len() || !layers.iter().zip(&ids).all(is_layer) {
        return Err(odd("its configuration names other layers than storage has".to_owned()));
    }
    Ok(served)
}

/// Tells whether a full name is what somebody means who writes a short one.
fn is_called(known: &str, name: &str) -> bool {
    let name = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    known == name || known.strip_suffix(&name).is_some_and(|before| before.ends_with('/'))
}

fn read_layers(root: &Path) -> Result<Vec<Known>, ServeError> {
    let path = root.join("overlay-layers/layers.json");
    let failed = |source| ServeError::Read { path: path.clone(), source };
    let text = fs::read(&path).map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|error| ServeError::Invalid { what: format!("`{}`", path.display()), why: error.to_string() })
}

/// Returns the file that storage keeps something under, whose key has characters that file names may not have.
fn big_data(key: &str) -> String {
    format!("={}", BASE64.encode(key))
}

impl Stored {
    /// Tells whether this process may read all of a layer: what its users own within is somebody else's without.
    fn is_readable(&self, layer: &Known) -> bool {
        rustix::process::geteuid().is_root() || layer.uidset.iter().all(|uid| *uid == 0)
    }
}

impl Layers for Stored {
    fn size(&mut self, layer: usize) -> Result<u64, ServeError> {
        Ok(self.layers[layer].diff_size)
    }

    fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError> {
        let known = self.layers[layer].clone();
        let notes = self.root.join("overlay-layers").join(format!("{}.tar-split.gz", known.id));
        if self.saved.is_some() || !notes.exists() || !self.is_readable(&known) {
            if self.saved.is_none() {
                self.saved = Some(Saved::write(&self.image)?);
            }
            if let Some(saved) = &mut self.saved {
                return saved.open(layer);
            }
        }
        let file = File::open(&notes).map_err(|source| ServeError::Read { path: notes.clone(), source })?;
        let tree = self.root.join("overlay").join(&known.id).join("diff");
        let split = TarSplit::new(BufReader::new(GzDecoder::new(BufReader::new(file))), &tree);
        split
            .map(|split| Box::new(split) as Box<dyn Read + Send>)
            .map_err(|source| ServeError::Read { path: tree, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_full_ones() {
        for (known, name, want) in [
            ("localhost/web:latest", "web", true),
            ("localhost/web:latest", "web:latest", true),
            ("localhost/web:latest", "localhost/web", true),
            ("localhost/web:1", "web", false),
            ("localhost/myweb:latest", "web", false),
            ("localhost:5000/web:latest", "localhost:5000/web", true),
        ] {
            assert_eq!(is_called(known, name), want, "{known} {name}");
        }
    }

    #[test]
    fn keys_are_files() {
        assert_eq!(big_data("sha256:e3f8"), "=c2hhMjU2OmUzZjg=");
    }
}
