//! Images of the store.

use std::io::Read;

use charly_ir::Digest;

use super::{Format, Layers, ServeError, Served};
use crate::layer::decompress;
use crate::store::{Image, Store, StoreError, of_oci};

impl Served {
    /// Takes an image of the store, which nobody takes anything away from as long as it is served.
    pub fn of_store(store: Store, name: String, image: &Image) -> Result<Self, StoreError> {
        store.touch(image);
        let layers = image.manifest.layers().iter().map(of_oci).collect::<Result<_, _>>()?;
        let is_docker = image.manifest.media_type().as_ref().is_some_and(|kind| kind.to_string().contains("docker"));
        let format = if is_docker { Format::Docker } else { Format::Oci };
        // A configuration was understood before it was kept: it is text.
        let config = String::from_utf8_lossy(&image.config_bytes).into_owned();
        Ok(Self { config, format, names: vec![name], layers: Box::new(Stored { store, layers }) })
    }
}

/// The layers of an image of the store.
#[derive(Debug)]
struct Stored {
    store: Store,
    layers: Vec<Digest>,
}

impl Layers for Stored {
    fn size(&mut self, layer: usize) -> Result<u64, ServeError> {
        // It was written down when the layer was: its compression need not be undone for it.
        Ok(self.store.contents(&self.layers[layer])?.uncompressed)
    }

    fn open(&mut self, layer: usize) -> Result<Box<dyn Read + Send>, ServeError> {
        let digest = &self.layers[layer];
        let failed = |source| ServeError::Read { path: self.store.blob_path(*digest), source };
        decompress(self.store.open_blob(digest)?).map(|(_, reader)| reader).map_err(failed)
    }
}
