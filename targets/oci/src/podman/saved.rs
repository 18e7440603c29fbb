//! The slower way: an image that podman wrote out.

use std::io::Read;

use tempfile::TempDir;

use super::run;
use crate::serve::{Reference, ServeError, Served};

/// An image that podman wrote to a folder, which goes with this.
#[derive(Debug)]
pub(super) struct Saved {
    served: Served,
    folder: TempDir,
}

impl Saved {
    /// Has podman write an image.
    pub(super) fn write(image: &str) -> Result<Self, ServeError> {
        let folder = tempfile::Builder::new().prefix("charly-image-").tempdir_in("/var/tmp");
        let folder = folder.map_err(|source| ServeError::Read { path: "/var/tmp".into(), source })?;
        let path = folder.path().join("layout");
        let into = path.to_string_lossy().into_owned();
        run(&["save", "--quiet", "--format", "oci-dir", "--output", &into, image])?;
        let served = Served::open(&Reference::Layout { path, name: None })?;
        Ok(Self { served, folder })
    }

    /// Opens a layer's uncompressed archive.
    pub(super) fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError> {
        self.served.layers.open(layer)
    }

    /// Serves all of it.
    pub(super) fn into_served(self, names: Vec<String>) -> Served {
        let Self { served, folder } = self;
        let Served { config, format, names: _, layers } = served;
        Served { config, format, names, layers: Box::new(Whole { layers, _folder: folder }) }
    }
}

#[derive(Debug)]
struct Whole {
    layers: Box<dyn crate::serve::Layers>,
    _folder: TempDir,
}

impl crate::serve::Layers for Whole {
    fn size(&mut self, layer: usize) -> Result<u64, ServeError> {
        self.layers.size(layer)
    }

    fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError> {
        self.layers.open(layer)
    }
}
