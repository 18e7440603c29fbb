//! Several layers made one, and images compared by what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::num::NonZero;

use charly_ir::Digest;

use super::{Image, Store, StoreError, of_oci};
use crate::layer::merge::{Item, Merged};
use crate::layer::{Compression, Entry, Kind, Layer, LayerError, LayerReader, LayerWriter, Limits, merge};

/// A path where two images differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// How they differ there.
    pub change: Change,
}

/// How two images differ at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, and these things of it differ.
    Changed(Vec<Aspect>),
}

/// What may differ of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// Whether it is a file, a folder or something else.
    Kind,
    /// What a file has in it, or where a link leads.
    Content,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// When it was last changed.
    Time,
    /// Extended attributes.
    Attributes,
}

/// A file of an image: the layer that it is in, and its name there.
type Place = (Digest, String);

impl Store {
    /// Makes one layer of several; it takes away from layers below what they took away, unless they are all there is.
    pub fn merge(
        &self,
        layers: &[Layer],
        is_whole: bool,
        compression: Compression,
        threads: NonZero<usize>,
    ) -> Result<Layer, StoreError> {
        let out = LayerWriter::new(self.layer_sink()?, compression, threads);
        let (sink, layer) = self.merge_into(layers, is_whole, out)?;
        sink.keep(&layer)?;
        Ok(layer)
    }

    /// Writes the one layer elsewhere.
    pub(crate) fn merge_into<W: Write + Send>(
        &self,
        layers: &[Layer],
        is_whole: bool,
        out: LayerWriter<W>,
    ) -> Result<(W, Layer), StoreError> {
        let said: Result<Vec<_>, _> = layers.iter().map(|layer| self.index_of(&layer.digest)).collect();
        let mut failed = None;
        let mut open = |at: usize| {
            let name = layers[at].digest.to_string();
            self.open_blob(&layers[at].digest)
                .map_err(|error| {
                    failed = Some(error);
                    LayerError::Read { layer: name.clone(), source: std::io::ErrorKind::NotFound.into() }
                })
                .and_then(|blob| LayerReader::new(blob, &name, Limits::default()))
        };
        let merged = merge(&said?, &mut open, is_whole, out);
        merged.map_err(|error| failed.unwrap_or(StoreError::Layer(error)))
    }

    /// Tells where two images differ, by path. Contents are read only where nothing else tells.
    pub fn diff(&self, one: &Image, other: &Image) -> Result<Vec<Difference>, StoreError> {
        let (one_layers, one) = self.merged(one)?;
        let (other_layers, other) = self.merged(other)?;
        let place =
            |layers: &[Digest], item: &Item| item.content.as_ref().map(|(layer, path)| (layers[*layer], path.clone()));
        // The files whose contents may be the same or not.
        let mut unsure: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        for (path, item) in &one.items {
            let Some(counterpart) = other.items.get(path).filter(|other| other.entry.kind == item.entry.kind) else {
                continue;
            };
            let places = (place(&one_layers, item), place(&other_layers, counterpart));
            if let (Some(one), Some(other)) = places
                && one != other
            {
                for (layer, path) in [one, other] {
                    unsure.entry(layer).or_default().insert(path);
                }
            }
        }
        let digests = self.digests(&unsure)?;
        let mut differences = Vec::new();
        let paths: BTreeSet<_> = one.items.keys().chain(other.items.keys()).collect();
        // Every image has a root, whether a layer of it says so or not.
        for path in paths.into_iter().filter(|path| !path.is_empty()) {
            let change = match (one.items.get(path), other.items.get(path)) {
                (Some(one), Some(other)) => {
                    let mut aspects = aspects(&one.entry, &other.entry);
                    let (first, second) = (place(&one_layers, one), place(&other_layers, other));
                    if first != second
                        && let (Some(first), Some(second)) = (first, second)
                        && one.entry.kind == other.entry.kind
                        && digests.get(&first) != digests.get(&second)
                    {
                        aspects.insert(Aspect::Content);
                    }
                    if aspects.is_empty() {
                        continue;
                    }
                    Change::Changed(aspects.into_iter().collect())
                }
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
            };
            differences.push(Difference { path: path.clone(), change });
        }
        Ok(differences)
    }

    fn merged(&self, image: &Image) -> Result<(Vec<Digest>, Merged), StoreError> {
        let digests: Vec<_> = image.manifest.layers().iter().map(of_oci).collect::<Result<_, _>>()?;
        let said: Vec<_> = digests.iter().map(|digest| self.index_of(digest)).collect::<Result<_, _>>()?;
        Ok((digests, Merged::of(&said)))
    }

    /// Digests files of layers, reading each layer once.
    fn digests(&self, wanted: &BTreeMap<Digest, BTreeSet<String>>) -> Result<BTreeMap<Place, Digest>, StoreError> {
        let mut digests = BTreeMap::new();
        for (layer, paths) in wanted {
            let name = layer.to_string();
            let mut reader = LayerReader::new(self.open_blob(layer)?, &name, Limits::default())?;
            while let Some(entry) = reader.next_entry()? {
                if matches!(entry.kind, Kind::File { .. }) && paths.contains(&entry.path) {
                    let unread = |source| LayerError::Read { layer: name.clone(), source };
                    let (digest, _) = Digest::of_reader(&mut reader).map_err(unread)?;
                    digests.insert((*layer, entry.path), digest);
                }
            }
        }
        Ok(digests)
    }
}

/// Returns what differs by what the layers say; a file of another size has another content.
fn aspects(one: &Entry, other: &Entry) -> BTreeSet<Aspect> {
    let Entry { path: _, kind, mode, uid, gid, mtime, xattrs } = one;
    let is_same_kind = std::mem::discriminant(kind) == std::mem::discriminant(&other.kind);
    let differs = [
        (Aspect::Kind, !is_same_kind),
        (Aspect::Content, is_same_kind && *kind != other.kind),
        // What a link's bits are depends on who wrote it down, and means nothing.
        (Aspect::Mode, *mode != other.mode && !matches!(kind, Kind::Symlink { .. })),
        (Aspect::Owner, (*uid, *gid) != (other.uid, other.gid)),
        (Aspect::Time, *mtime != other.mtime),
        (Aspect::Attributes, *xattrs != other.xattrs),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
}
