//! Layers that were built before, by what they were built from.

use std::fs;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::layer::{Compression, Layer};
use crate::store::Store;

/// The number of the rules by which layers are made from plans; what was built by other rules is built anew.
const RULES: u32 = 1;

/// What is known of earlier builds. What it has not, or cannot keep, is found out again.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

/// What something was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(Digest);

impl Key {
    /// Names a layer by those below it, its candy's plan, and how it is written.
    pub(super) fn of_layer(below: &[Layer], candy: Digest, compression: Compression, epoch: u64) -> Self {
        Self::of(&(RULES, "layer", ids(below), candy, compression, epoch))
    }

    /// Names what is known of an image by its layers.
    pub(super) fn of_traits(layers: &[Layer]) -> Self {
        Self::of(&(RULES, "traits", ids(layers)))
    }

    fn of(what: &impl Serialize) -> Self {
        // Digests, numbers and words always serialize.
        Self(Digest::of(&serde_json::to_vec(what).unwrap_or_default()))
    }
}

fn ids(layers: &[Layer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join("built"))
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path(key)).ok()?).ok()
    }

    pub(super) fn put(&self, key: &Key, value: &impl Serialize) {
        let write = || {
            fs::create_dir_all(&self.0)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            std::io::Write::write_all(&mut file, &serde_json::to_vec(value)?)?;
            file.persist(self.path(key)).map_err(|error| error.error)
        };
        // Without it, the next build takes longer.
        write().ok();
    }

    /// Forgets layers that are not in the store any more.
    pub(super) fn forget(&self, store: &Store) {
        for file in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = file.path();
            let layer = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Layer>(&text).ok());
            if layer.is_some_and(|layer| !store.has(&layer.digest, layer.size)) {
                // Whoever finds it there looks for the layer, too.
                fs::remove_file(&path).ok();
            }
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.0.join(format!("{}.json", key.0))
    }
}
