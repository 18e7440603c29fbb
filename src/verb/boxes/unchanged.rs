//! Boxes of which nothing changed since they were built: nothing is compiled for them.
//!
//! Invariant: whatever can change an image is in its fingerprint. Of files that is what tells whether they were written to; of
//! everything else, what it says.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use charly_ir::{Digest, Stamp};
use charly_plans::image::BoxLayer;
use charly_plans::load::Workspace;
use charly_plans::resolve::{Fingerprint, Found};
use charly_target_oci::build::{Built, Settings};
use charly_target_oci::store::{Image, Store};
use serde::{Deserialize, Serialize};

use super::make::{self, How};
use crate::context::Context;
use crate::deploy::Wishes;
use crate::digests;

/// What is known of a box's last build.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    /// What it depended on.
    fingerprint: Digest,
    /// The image's manifest.
    manifest: Digest,
    /// What was said of its candies.
    said: Vec<String>,
}

/// What a box depends on, and where it is remembered.
pub(super) struct Unchanged {
    path: PathBuf,
    name: String,
    fingerprint: Option<Digest>,
}

impl Unchanged {
    /// Takes all that the image of a box depends on; its base is there.
    pub(super) fn new(
        cx: &Context,
        workspace: &Workspace,
        (layer, base): (&BoxLayer, Option<&Image>),
        (how, wishes): (&How, &Wishes),
        (found, settings): (&Found, &Settings),
    ) -> Self {
        let name = make::reference(layer);
        let mut all = Fingerprint::default();
        // Another program may have other rules.
        match fs::metadata("/proc/self/exe") {
            Ok(program) => all.stamp(&Stamp::of(&program)),
            Err(_) => all.lacks(),
        }
        all.text(&name);
        match base {
            Some(base) => all.bytes(&base.manifest_digest.bytes()),
            None => all.number(0),
        }
        let Wishes { env, secrets, skip_incompatible, builders, .. } = wishes;
        let secrets: Vec<_> = secrets.keys().collect();
        let words = (env, secrets, skip_incompatible, builders, settings.compression, settings.epoch);
        match serde_json::to_vec(&words) {
            Ok(words) => all.bytes(&words),
            Err(_) => all.lacks(),
        }
        layer.tell(workspace, &mut all);
        found.tell(&mut all);
        let fingerprint = all.finish().filter(|(_, newest)| digests::is_settled(*newest, cx.began_ns));
        // One entry a box, so that there are never more of them than boxes.
        let place = Digest::of(format!("{}\n{name}\n{}", cx.project.display(), how.compression()).as_bytes());
        let path = settings.folder.join("boxes").join(format!("{place}.json"));
        Self { path, name, fingerprint: fingerprint.map(|(digest, _)| digest) }
    }

    /// Returns the image of the last build and what was said then, where all is as it was then and the image is there.
    pub(super) fn image(&self, store: &Store) -> Option<(Built, Vec<String>)> {
        let known: Known = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        if Some(known.fingerprint) != self.fingerprint {
            return None;
        }
        let image = store.image(&self.name).ok()??;
        let mut layers = image.manifest.layers().iter();
        let is_there = |layer: &charly_target_oci::Descriptor| {
            let digest = layer.as_digest_sha256().and_then(|digits| digits.parse::<Digest>().ok());
            digest.is_some_and(|digest| store.has(&digest, layer.size()))
        };
        if image.manifest_digest != known.manifest || !layers.all(is_there) {
            return None;
        }
        store.touch(&image);
        Some((Built { image, name: self.name.clone(), is_new: false }, known.said))
    }

    /// Remembers what was built.
    pub(super) fn remember(&self, built: &Built, said: Vec<String>) {
        let write = || -> std::io::Result<()> {
            let Some(fingerprint) = self.fingerprint else { return Ok(()) };
            let known = Known { fingerprint, manifest: built.image.manifest_digest, said };
            let folder = self.path.parent().unwrap_or(&self.path);
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&known)?)?;
            file.persist(&self.path)?;
            Ok(())
        };
        // Without it, the next build compiles once more.
        write().ok();
    }
}
