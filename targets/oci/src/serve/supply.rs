//! How an engine gets what it needs of an image.

use std::collections::BTreeMap;

use charly_ir::Digest;
use charly_ir::message::{Image, Manifest, Problem};
use charly_target_core::{Blob, Supply};

use super::layout::Judged;
use super::{ServeError, Served};

/// Gives an engine an image, layer by layer.
#[derive(Debug)]
pub struct ImageSupply {
    image: Served,
    layers: Vec<(Digest, u64)>,
}

impl ImageSupply {
    /// Takes an image.
    pub fn new(image: Served) -> Self {
        Self { image, layers: Vec::new() }
    }
}

impl Supply for ImageSupply {
    fn manifest(&mut self, step: u32) -> Result<Manifest, Problem> {
        Err(Problem::new(format!("step {step} belongs to no image")))
    }

    fn blob(&mut self, digest: Digest) -> Result<Blob, Problem> {
        let layer = self.layers.iter().position(|(layer, _)| *layer == digest);
        let layer = layer.ok_or_else(|| Problem::new(format!("no layer {} belongs to the image", digest.short())))?;
        let size = self.layers[layer].1;
        let reader = self.image.layers.open(layer).map_err(|error| problem(&error))?;
        Ok(Blob::new(size, Judged::new(reader, size, digest)))
    }

    fn image(&mut self) -> Result<(Image, BTreeMap<Digest, u64>), Problem> {
        let (manifest, layers) = self.image.manifest().map_err(|error| problem(&error))?;
        self.layers = layers;
        let sizes = self.layers.iter().copied().collect();
        Ok((Image { manifest, config: self.image.config.clone() }, sizes))
    }
}

fn problem(error: &ServeError) -> Problem {
    let problem = Problem::from_error(error);
    match error.hint() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
