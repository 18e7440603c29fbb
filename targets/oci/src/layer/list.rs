//! What a layer says in the end, path by path.
//!
//! An archive may say things twice, and say of a folder that it is opaque after having filled it. The list has each path once,
//! with the last word on it, sorted; so applying it in order is right.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::{Entry, Kind, LayerError, LayerReader};

/// Lists what a layer says, each path once and sorted. Whoever wants contents is given each file as it passes.
pub fn list<R: Read>(
    reader: &mut LayerReader<R>,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<Vec<Entry>, LayerError> {
    let mut said: BTreeMap<String, Entry> = BTreeMap::new();
    let mut linked = BTreeSet::new();
    while let Some(entry) = reader.next_entry()? {
        let refused = |why| LayerError::Refused { layer: reader.name().to_owned(), path: entry.path.clone(), why };
        if is_below_a_file(&said, &entry.path) {
            return Err(refused("which is below something that is no folder"));
        }
        if entry.kind != Kind::Whiteout && linked.contains(&entry.path) {
            return Err(refused("again after a hard link to it"));
        }
        if let Kind::Hardlink { target } = &entry.kind {
            if !said.get(target).is_some_and(is_file) {
                return Err(refused("a hard link to nothing that came before"));
            }
            linked.insert(target.clone());
        }
        if is_file(&entry) {
            remove_below(&mut said, &entry.path);
        }
        if matches!(entry.kind, Kind::File { .. }) {
            visit(&entry, reader)?;
        }
        match said.entry(entry.path.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
            Slot::Occupied(mut slot) => {
                let merged = merged(slot.get(), entry);
                slot.insert(merged);
            }
        }
    }
    if let Some(path) = linked.into_iter().find(|path| !said.contains_key(path)) {
        let why = "a hard link to which outlives it";
        return Err(LayerError::Refused { layer: reader.name().to_owned(), path, why });
    }
    // A whiteout with things below it is a folder that replaces what was there.
    let names: Vec<_> =
        said.values().filter(|entry| entry.kind == Kind::Whiteout).map(|entry| entry.path.clone()).collect();
    for path in names {
        if has_below(&said, &path)
            && let Some(entry) = said.get_mut(&path)
        {
            entry.kind = Kind::OpaqueDir;
            entry.mode = 0o755;
        }
    }
    Ok(said.into_values().collect())
}

/// Returns what holds after a second word on the same path.
fn merged(first: &Entry, second: Entry) -> Entry {
    match (&first.kind, &second.kind) {
        (Kind::OpaqueDir | Kind::Whiteout, Kind::Dir) => Entry { kind: Kind::OpaqueDir, ..second },
        // The mark itself says nothing of the folder.
        (Kind::Dir | Kind::OpaqueDir, Kind::OpaqueDir | Kind::Whiteout) => {
            Entry { kind: Kind::OpaqueDir, ..first.clone() }
        }
        // What a layer has is not gone by its own whiteout.
        (_, Kind::Whiteout) => first.clone(),
        _ => second,
    }
}

/// Tells whether an entry is of something that a hard link can be made to.
fn is_file(entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::Dir | Kind::OpaqueDir | Kind::Whiteout)
}

fn has_below(said: &BTreeMap<String, Entry>, path: &str) -> bool {
    let start = format!("{path}/");
    said.range(start.clone()..).next().is_some_and(|(path, _)| path.starts_with(&start))
}

fn remove_below(said: &mut BTreeMap<String, Entry>, path: &str) {
    // `0` follows `/`.
    let below = said.range(format!("{path}/")..format!("{path}0"));
    for path in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
        said.remove(&path);
    }
}

fn is_below_a_file(said: &BTreeMap<String, Entry>, path: &str) -> bool {
    let mut above = path;
    while let Some((folder, _)) = above.rsplit_once('/') {
        match said.get(folder) {
            // What it is below itself was looked at when it came.
            Some(entry) if matches!(entry.kind, Kind::Dir | Kind::OpaqueDir) => return false,
            Some(entry) if is_file(entry) => return true,
            _ => above = folder,
        }
    }
    false
}
