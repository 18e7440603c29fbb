//! Several layers as one.
//!
//! The one does to whatever is below it what the several did: what they take away is taken away still, unless they are all there
//! is. Folders and what has no content come first, sorted; then the files, in the order in which the layers have them, so that
//! each layer is read once and nothing is held; hard links last.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use super::tree::implied;
use super::{Entry, Kind, Layer, LayerError, LayerReader, LayerWriter};

/// Layers on top of each other, with where each thing comes from.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) items: BTreeMap<String, Item>,
    /// What is gone of the layers below.
    gone: BTreeSet<String>,
    /// Folders of which nothing is left that the layers below have in them.
    opaque: BTreeSet<String>,
}

/// One thing, and where it comes from. Hard links are files here: all names of a file have the same content.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    /// Which layer says so, and for files which name it has the content under.
    pub(crate) content: Option<(usize, String)>,
}

/// Writes one layer that says what several say on top of each other. They are the whole image, or have others below.
pub fn merge<W: Write + Send, R: Read>(
    said: &[Vec<Entry>],
    open: &mut dyn FnMut(usize) -> Result<LayerReader<R>, LayerError>,
    is_whole: bool,
    mut out: LayerWriter<W>,
) -> Result<(W, Layer), LayerError> {
    let merged = Merged::of(said);
    let mut names: BTreeMap<(usize, &str), Vec<&Item>> = BTreeMap::new();
    let mut plain: BTreeMap<&str, Entry> = BTreeMap::new();
    for (path, item) in &merged.items {
        if let Some((layer, content)) = &item.content {
            names.entry((*layer, content)).or_default().push(item);
            continue;
        }
        let is_opaque = !is_whole && item.entry.kind == Kind::Dir && merged.opaque.contains(path);
        let kind = if is_opaque { Kind::OpaqueDir } else { item.entry.kind.clone() };
        plain.insert(path, Entry { kind, ..item.entry.clone() });
    }
    if is_whole {
        // What held only whiteouts is there all the same.
        for (path, at) in merged.gone.iter().flat_map(|path| path.match_indices('/').map(move |(at, _)| (path, at))) {
            plain.entry(&path[..at]).or_insert_with(|| implied(&path[..at]));
        }
    } else {
        let whiteout = |path: &String| Entry { kind: Kind::Whiteout, mode: 0, ..implied(path) };
        plain.extend(merged.gone.iter().map(|path| (path.as_str(), whiteout(path))));
    }
    for entry in plain.values() {
        out.append(entry, &mut io::empty())?;
    }
    for layer in 0..said.len() {
        if names.range((layer, "")..(layer + 1, "")).next().is_none() {
            continue;
        }
        let mut reader = open(layer)?;
        while let Some(entry) = reader.next_entry()? {
            if let (Kind::File { size }, Some(items)) = (&entry.kind, names.get(&(layer, entry.path.as_str()))) {
                // What an archive has twice the last one counts of, here as there.
                let first = Entry { kind: Kind::File { size: *size }, ..items[0].entry.clone() };
                out.append(&first, &mut reader)?;
            }
        }
    }
    for items in names.values() {
        for other in &items[1..] {
            let kind = Kind::Hardlink { target: items[0].entry.path.clone() };
            out.append(&Entry { kind, ..other.entry.clone() }, &mut io::empty())?;
        }
    }
    out.finish()
}

impl Merged {
    /// Merges what [`list`](super::list()) says of each layer, the lowest first.
    pub(crate) fn of(said: &[Vec<Entry>]) -> Self {
        let mut merged = Self::default();
        for (layer, entries) in said.iter().enumerate() {
            for entry in entries {
                merged.apply(entry, layer, entries);
            }
        }
        merged
    }

    fn apply(&mut self, entry: &Entry, layer: usize, entries: &[Entry]) {
        let path = &entry.path;
        if entry.kind == Kind::Whiteout {
            self.remove_below(path);
            self.items.remove(path);
            self.opaque.remove(path);
            self.make_folders(path);
            self.gone.insert(path.clone());
            return;
        }
        self.make_folders(path);
        let was_gone = self.gone.remove(path);
        match entry.kind {
            Kind::OpaqueDir => {
                self.remove_below(path);
                self.opaque.insert(path.clone());
            }
            Kind::Dir => {
                let was_file = self.items.get(path).is_some_and(|item| item.entry.kind != Kind::Dir);
                // Below what hid it there may be a folder of that name with things in it.
                if was_gone || was_file {
                    self.opaque.insert(path.clone());
                }
            }
            _ => {
                self.remove_below(path);
                self.opaque.remove(path);
            }
        }
        self.items.insert(path.clone(), Item::of(entry, layer, entries));
    }

    fn make_folders(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            let was_file = self.items.get(folder).is_some_and(|item| item.entry.kind != Kind::Dir);
            if self.gone.remove(folder) || was_file {
                self.opaque.insert(folder.to_owned());
                self.items.insert(folder.to_owned(), Item { entry: implied(folder), content: None });
            }
        }
    }

    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            *self = Self::default();
            return;
        }
        // `0` follows `/`.
        let range = format!("{path}/")..format!("{path}0");
        for path in self.items.range(range.clone()).map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.items.remove(&path);
        }
        for set in [&mut self.gone, &mut self.opaque] {
            for path in set.range(range.clone()).cloned().collect::<Vec<_>>() {
                set.remove(&path);
            }
        }
    }
}

impl Item {
    fn of(entry: &Entry, layer: usize, entries: &[Entry]) -> Self {
        let mut real = entry;
        while let Kind::Hardlink { target } = &real.kind
            && let Ok(at) = entries.binary_search_by(|entry| entry.path.cmp(target))
            // A link to a link comes after it in the archive, so they cannot go round; a forged list ends here.
            && entries[at].path != entry.path
        {
            real = &entries[at];
        }
        let content = matches!(real.kind, Kind::File { .. }).then(|| (layer, real.path.clone()));
        let kind = if real.kind == Kind::OpaqueDir { Kind::Dir } else { real.kind.clone() };
        Self { entry: Entry { path: entry.path.clone(), kind, ..real.clone() }, content }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use proptest::prelude::*;

    use super::super::{Compression, Limits, Tree, list};
    use super::*;

    fn written(entries: &[Entry]) -> Vec<u8> {
        let mut writer = LayerWriter::new(Vec::new(), Compression::None, NonZero::<usize>::MIN);
        for entry in entries {
            let size = if let Kind::File { size } = entry.kind { size } else { 0 };
            writer.append(entry, &mut io::repeat(b'x').take(size)).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn said(bytes: &[u8]) -> Option<Vec<Entry>> {
        let mut reader = LayerReader::new(bytes, "l", Limits::default()).unwrap();
        list(&mut reader, &mut |_, _| Ok(())).ok()
    }

    fn merged(layers: &[Vec<u8>], is_whole: bool) -> Vec<u8> {
        let said: Vec<_> = layers.iter().map(|layer| said(layer).unwrap()).collect();
        let out = LayerWriter::new(Vec::new(), Compression::None, NonZero::<usize>::MIN);
        let mut open = |layer: usize| LayerReader::new(&layers[layer][..], "l", Limits::default());
        merge(&said, &mut open, is_whole, out).unwrap().0
    }

    /// What there is by path, with every name of a file looking like the file.
    fn looks(layers: &[Vec<Entry>]) -> Vec<Entry> {
        let mut tree = Tree::default();
        for (number, entries) in layers.iter().enumerate() {
            for entry in entries {
                let item = Item::of(entry, number, entries);
                let kind = if entry.kind == Kind::OpaqueDir { Kind::OpaqueDir } else { item.entry.kind.clone() };
                tree.apply(Entry { kind, ..item.entry });
            }
        }
        tree.iter().cloned().collect()
    }

    fn any_layer() -> impl Strategy<Value = Vec<Entry>> {
        let kind = prop_oneof![
            4 => (1..9_u64).prop_map(|size| Kind::File { size }),
            3 => Just(Kind::Dir),
            1 => Just(Kind::Symlink { target: "a".into() }),
            1 => Just(Kind::Hardlink { target: "a".into() }),
            3 => Just(Kind::Whiteout),
            2 => Just(Kind::OpaqueDir),
        ];
        let one = ("[abc](/[ab]){0,3}", kind, 0..0o1000_u32).prop_map(|(path, kind, mode)| Entry {
            kind,
            mode,
            ..implied(&path)
        });
        prop::collection::vec(one, 0..10)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// On anything, one layer does what the several do.
        #[test]
        fn one_layer_does_what_the_several_do(base in any_layer(), over in prop::collection::vec(any_layer(), 1..4)) {
            let over: Vec<_> = over.iter().map(|entries| written(entries)).filter(|bytes| said(bytes).is_some()).collect();
            let Some(base) = said(&written(&base)) else {
                return Ok(());
            };
            let several: Vec<_> = over.iter().map(|bytes| said(bytes).unwrap()).collect();
            let whole = said(&merged(&over, true)).unwrap();
            prop_assert_eq!(looks(&[whole]), looks(&several));
            let one = said(&merged(&over, false)).unwrap();
            let mut all = vec![base.clone()];
            all.extend(several);
            prop_assert_eq!(looks(&[base, one]), looks(&all));
        }
    }

    #[test]
    fn a_link_outlives_what_it_was_made_to() {
        let file = |path: &str, size| Entry { kind: Kind::File { size }, mode: 0o600, ..implied(path) };
        let link = |path: &str| Entry { kind: Kind::Hardlink { target: "f".into() }, mode: 0o600, ..implied(path) };
        let layers = [
            written(&[file("f", 3), link("k"), link("a")]),
            written(&[Entry { kind: Kind::Whiteout, ..implied("f") }, file("z", 1)]),
        ];
        let got = said(&merged(&layers, true)).unwrap();
        let kept = Entry { kind: Kind::Hardlink { target: "a".into() }, ..link("k") };
        assert_eq!(got, [file("a", 3), kept, file("z", 1)]);
    }
}
