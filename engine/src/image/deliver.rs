//! From a request to an image that is there, whole, durable and named.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::frame::Frame;
use charly_ir::message::{Deliver, Delivered, Event, Image, Need, Problem, Reply, Request};
use serde::Deserialize;

use super::Site;
use super::name::Name;
use super::podman::{self, Checked, Damage, Podman, Stored};
use super::pull::{Pulled, pull};
use super::scratch::Scratch;
use super::seal::{self, Seal};
use crate::session::Peer;
use crate::worker::WorkError;

/// How often an image is taken anew that turns out to be damaged: once for what was there, once for what it shared.
const ROUNDS: u32 = 2;

/// An image as the controller describes it, judged.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Manifest and configuration.
    pub image: Image,
    /// What the manifest says it is.
    pub media_type: String,
    /// The layers and their sizes, lowest first.
    pub layers: Vec<(Digest, u64)>,
}

/// Makes a user's storage hold an image.
pub(crate) fn deliver(order: &Deliver, site: &Site<'_>, peer: &mut dyn Peer) -> Result<Delivered, WorkError> {
    let name: Name = order.name.parse().map_err(|error| WorkError::Plan(format!("{error}")))?;
    let podman = Podman::new(&site.user, site.cancel);
    let mut delivery = Delivery {
        order,
        name,
        site,
        podman,
        peer,
        wanted: None,
        storage: None,
        fresh: BTreeSet::new(),
        bytes: 0,
        damaged: Vec::new(),
    };
    delivery.deliver()
}

struct Delivery<'a> {
    order: &'a Deliver,
    name: Name,
    site: &'a Site<'a>,
    podman: Podman<'a>,
    peer: &'a mut dyn Peer,
    wanted: Option<Wanted>,
    /// Where storage is, as far as it is known.
    storage: Option<PathBuf>,
    fresh: BTreeSet<Digest>,
    bytes: u64,
    damaged: Vec<String>,
}

impl Delivery<'_> {
    fn deliver(&mut self) -> Result<Delivered, WorkError> {
        let (id, name) = (self.order.image, self.name.to_string());
        let (mut there, pulled) = self.look(&name)?;
        let here = there.iter().position(|image| image.id == id);
        let mut here = here.map(|at| there.swap_remove(at));
        // Where the name is the image's already, podman told of it twice: by its id and by its name.
        there.retain(|image| image.id != id);
        let former = there.pop();
        self.storage = former.as_ref().and_then(Stored::storage);
        let was_there = here.is_some();
        let (mut rounds, mut names) = (0, BTreeSet::from([name.clone()]));
        let mut is_taken = pulled;
        let image = loop {
            let image = match here.take() {
                Some(image) => image,
                None if rounds == ROUNDS => return Err(damaged_again()),
                None => {
                    rounds += 1;
                    if !std::mem::take(&mut is_taken) {
                        self.pull()?;
                    }
                    self.stored()?
                }
            };
            names.extend(image.tags.iter().cloned());
            match self.judge(&image)? {
                None => break image,
                Some(damage) => self.clear(&image, &damage)?,
            }
        };
        for name in names.difference(&image.tags) {
            self.podman.tag(id, name)?;
        }
        // The generation that had the name before goes, unless it has another, or somebody uses it: then podman keeps it.
        if let Some(former) = former
            && former.tags.iter().all(|tag| names.contains(tag))
        {
            self.podman.remove(former.id, false)?;
        }
        Ok(Delivered {
            name,
            layers: u32::try_from(image.layers.len()).unwrap_or(u32::MAX),
            sent_layers: u32::try_from(self.fresh.len()).unwrap_or(u32::MAX),
            sent_bytes: self.bytes,
            was_there: was_there && self.damaged.is_empty(),
            damaged: std::mem::take(&mut self.damaged),
        })
    }

    /// Says what storage has of the image and of the name, and takes the image at the same time where it seems not to be there:
    /// were it there all the same, podman would find nothing to take.
    fn look(&mut self, name: &str) -> Result<(Vec<Stored>, bool), WorkError> {
        let id = self.order.image.to_string();
        if self.site.storage.join("overlay-images").join(&id).exists() || !self.site.storage.exists() {
            return Ok((self.podman.images(&[&id, name])?, false));
        }
        let podman = self.podman.clone();
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| podman.images(&[&id, name]));
            let pulled = self.pull();
            let there = looking.join().unwrap_or(Err(WorkError::Cancelled));
            pulled?;
            // Which of both was first is not known: what was taken just now is not what there was.
            let mut there = there?;
            there.retain(|image| image.id != self.order.image);
            Ok((there, true))
        })
    }

    /// Takes the image from the controller.
    fn pull(&mut self) -> Result<(), WorkError> {
        let wanted = match self.wanted.take() {
            Some(wanted) => wanted,
            None => self.ask()?,
        };
        let scratch = Scratch::open(&self.site.cache)?;
        let Pulled { fresh, bytes } = pull(&self.podman, &wanted, &self.name, &scratch, self.peer, self.site.cancel)
            .inspect_err(|error| {
                // Had something come damaged, it would be gone on with for ever.
                if !matches!(error, WorkError::Cancelled) {
                    scratch.forget();
                }
            })?;
        scratch.forget();
        drop(scratch);
        self.wanted = Some(wanted);
        self.fresh.extend(fresh);
        self.bytes += bytes;
        Ok(())
    }

    /// Returns an image that was taken just now, as it is stored.
    fn stored(&self) -> Result<Stored, WorkError> {
        let id = self.order.image;
        let layers = self.wanted.iter().flat_map(|wanted| &wanted.layers);
        let diffs: Vec<Digest> = layers.map(|(layer, _)| *layer).collect();
        if let Some(layers) = self.storage.as_deref().and_then(|storage| podman::chain(storage, &diffs)) {
            return Ok(Stored { id, tags: BTreeSet::new(), layers });
        }
        self.podman.images(&[&id.to_string()])?.pop().ok_or_else(|| {
            let problem = Problem::new("podman took the image and does not know it afterwards");
            WorkError::Program(Box::new(problem.hint("see what `podman images` says there")))
        })
    }

    /// Asks for what the image is.
    fn ask(&mut self) -> Result<Wanted, WorkError> {
        self.peer.send(Reply::Need(Need { image: true, ..Need::default() }));
        match self.peer.receive() {
            Some(Frame::Message(Request::Image(image))) => Wanted::judge(image, self.order.image)
                .map_err(|why| WorkError::Plan(format!("the controller's image {why}"))),
            Some(Frame::Message(Request::Missing { problem })) => Err(WorkError::Program(Box::new(problem))),
            None => Err(WorkError::Cancelled),
            Some(_) => Err(WorkError::Plan("the controller sent something else than was asked for".into())),
        }
    }

    /// Tells what of a stored image is damaged; nothing where it is whole, which is then durable and sealed.
    ///
    /// What podman took just now it has judged itself. What it had before is believed while its seal fits.
    fn judge(&mut self, image: &Stored) -> Result<Option<Damage>, WorkError> {
        let folders: Vec<PathBuf> = image.layers.iter().map(|layer| layer.folder.clone()).collect();
        let prints = seal::fingerprints(&self.podman, &folders);
        // Should a tree be gone altogether, the check says so better.
        let prints = prints.unwrap_or_default();
        let seals: Vec<_> = folders.iter().zip(&prints).map(|(folder, print)| seal::compare(folder, *print)).collect();
        let doubtful = |at: usize| seals.get(at) != Some(&Seal::Fits) && !self.fresh.contains(&image.layers[at].diff);
        if image.layers.is_empty() || (0..image.layers.len()).any(doubtful) {
            match self.podman.check()? {
                Checked::Whole => {}
                Checked::Damaged(damage) if damage.images.contains(&image.id) => return Ok(Some(damage)),
                Checked::Damaged(_) => {
                    let text = "other images in that storage are damaged; `podman system check` there names them";
                    self.peer.send(Reply::Event(Event::Warning { text: text.to_owned() }));
                }
                Checked::Unable if seals.contains(&Seal::Broken) || prints.len() < folders.len() => {
                    return Ok(Some(Damage { images: [image.id].into(), layers: BTreeSet::new() }));
                }
                Checked::Unable => {
                    let text = "podman there cannot check its storage; what it had of the image before is believed to be whole";
                    self.peer.send(Reply::Event(Event::Warning { text: text.to_owned() }));
                }
            }
        }
        if let Some(top) = folders.last()
            && seals.iter().any(|seal| *seal != Seal::Fits)
        {
            durable(top)?;
            for ((folder, print), seal) in folders.iter().zip(&prints).zip(&seals) {
                if *seal != Seal::Fits {
                    // Storage may be somebody else's to write, and only read here: that costs a check each time.
                    let _ = seal::write(folder, *print);
                }
            }
        } else if image.layers.is_empty() {
            rustix::fs::sync();
        }
        Ok(None)
    }

    /// Takes away what is damaged, so that it can be taken anew: the image, and those that share what is damaged of it.
    fn clear(&mut self, image: &Stored, damage: &Damage) -> Result<(), WorkError> {
        let ids: Vec<String> = damage.images.iter().map(ToString::to_string).collect();
        let mut gone = self.podman.images(&ids.iter().map(String::as_str).collect::<Vec<_>>())?;
        let ours: BTreeSet<&Path> = image.layers.iter().map(|layer| layer.folder.as_path()).collect();
        let is_damaged = |folder: &Path| {
            folder.file_name().is_some_and(|name| damage.layers.contains(name.to_string_lossy().as_ref()))
        };
        gone.retain(|other| {
            let mut folders = other.layers.iter().map(|layer| layer.folder.as_path());
            other.id == image.id || folders.any(|folder| ours.contains(folder) && is_damaged(folder))
        });
        let ids: BTreeSet<Digest> = gone.iter().map(|image| image.id).collect();
        let containers = self.podman.containers_of(&ids)?;
        if !containers.is_empty() {
            let names = containers.join(" ");
            let problem = Problem::new("layers of the image are damaged there, and containers use them")
                .because(format!("the containers are {}", containers.join(", ")))
                .hint(format!(
                    "stop and remove them with `podman rm --force {names}`, then run the same command again"
                ));
            return Err(WorkError::Denied(Box::new(problem)));
        }
        for other in gone {
            let called = other.tags.first().cloned().unwrap_or_else(|| other.id.short());
            if !self.podman.remove(other.id, true)? {
                let problem = Problem::new(format!("`{called}` is damaged there, and podman does not take it away"))
                    .hint("see what `podman system check --repair` there says");
                return Err(WorkError::Program(Box::new(problem)));
            }
            self.damaged.push(called);
        }
        self.fresh.clear();
        Ok(())
    }
}

/// Makes all of a storage durable.
fn durable(within: &Path) -> Result<(), WorkError> {
    let synced = File::open(within).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|error| {
        let problem = Problem::new("what podman stored cannot be made durable").because(error.to_string());
        WorkError::Program(Box::new(problem))
    })
}

fn damaged_again() -> WorkError {
    let problem = Problem::new("the image is damaged again each time podman has taken it");
    WorkError::Program(Box::new(problem.hint("look at the disk there: `dmesg` may tell of errors")))
}

impl Wanted {
    /// Judges what the controller says an image is: all of it follows from the image's id but the sizes of its layers.
    fn judge(image: Image, id: Digest) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Manifest {
            media_type: String,
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        #[derive(Deserialize)]
        struct Descriptor {
            digest: String,
            size: u64,
        }
        #[derive(Deserialize)]
        struct Config {
            rootfs: Root,
        }
        #[derive(Deserialize)]
        struct Root {
            diff_ids: Vec<String>,
        }
        let parse = |text: &str| text.strip_prefix("sha256:").and_then(|digits| digits.parse::<Digest>().ok());
        let odd = |error: serde_json::Error| format!("cannot be understood: {error}");
        if Digest::of(image.config.as_bytes()) != id {
            return Err("is not the one that it said".to_owned());
        }
        let manifest: Manifest = serde_json::from_str(&image.manifest).map_err(odd)?;
        let config: Config = serde_json::from_str(&image.config).map_err(odd)?;
        let kinds =
            ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
        if !kinds.contains(&manifest.media_type.as_str()) || parse(&manifest.config.digest) != Some(id) {
            return Err("has a manifest that is not its own".to_owned());
        }
        let layers: Vec<_> =
            manifest.layers.iter().filter_map(|layer| Some((parse(&layer.digest)?, layer.size))).collect();
        let named: Vec<_> = config.rootfs.diff_ids.iter().filter_map(|layer| parse(layer)).collect();
        let same = layers.iter().map(|(layer, _)| layer).eq(&named);
        if !same || layers.len() != manifest.layers.len() || named.len() != config.rootfs.diff_ids.len() {
            return Err("has layers that are not uncompressed, or not its own".to_owned());
        }
        Ok(Self { image, media_type: manifest.media_type, layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_its_id_says() {
        let (layer, other) = (Digest::of(b"layer"), Digest::of(b"other"));
        let config = format!(r#"{{"rootfs":{{"diff_ids":["sha256:{layer}"]}}}}"#);
        let id = Digest::of(config.as_bytes());
        let manifest = |kind: &str, config: Digest, layers: &[Digest]| {
            let layers: Vec<_> =
                layers.iter().map(|layer| format!(r#"{{"digest":"sha256:{layer}","size":5}}"#)).collect();
            let layers = layers.join(",");
            format!(
                r#"{{"mediaType":"application/vnd.{kind}","config":{{"digest":"sha256:{config}","size":1}},"layers":[{layers}]}}"#
            )
        };
        let oci = "oci.image.manifest.v1+json";
        let judge = |manifest: String, id| Wanted::judge(Image { manifest, config: config.clone() }, id);
        assert_eq!(judge(manifest(oci, id, &[layer]), id).unwrap().layers, [(layer, 5)]);
        assert!(judge(manifest("docker.distribution.manifest.v2+json", id, &[layer]), id).is_ok());
        for (what, manifest, id) in [
            ("another id", manifest(oci, id, &[layer]), other),
            ("another config", manifest(oci, other, &[layer]), id),
            ("another layer", manifest(oci, id, &[other]), id),
            ("a layer too many", manifest(oci, id, &[layer, layer]), id),
            ("no layer", manifest(oci, id, &[]), id),
            ("an index", manifest("oci.image.index.v1+json", id, &[layer]), id),
            ("nonsense", "[]".to_owned(), id),
        ] {
            assert!(judge(manifest, id).is_err(), "{what}");
        }
    }
}
