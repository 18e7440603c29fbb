//! What a layer says in the end, path by path.
//!
//! An archive may say things twice, and say of a folder that it is opaque after having filled it. The list has each path once,
//! with the last word on it, sorted; so applying it in order is right.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::io::Read;

use super::{Entry, Kind, LayerError, LayerReader};

/// Lists what a layer says, each path once and sorted. Whoever wants contents is given each file as it passes.
pub fn list<R: Read>(
    reader: &mut LayerReader<R>,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), LayerError>,
) -> Result<Vec<Entry>, LayerError> {
    let mut said: BTreeMap<String, Entry> = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        let refused = |why| LayerError::Refused { layer: reader.name().to_owned(), path: entry.path.clone(), why };
        if let Kind::Hardlink { target } = &entry.kind
            && !said
                .get(target)
                .is_some_and(|entry| !matches!(entry.kind, Kind::Dir | Kind::OpaqueDir | Kind::Whiteout))
        {
            return Err(refused("a hard link to nothing that came before"));
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
    check(&said, reader.name())?;
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

fn has_below(said: &BTreeMap<String, Entry>, path: &str) -> bool {
    let start = format!("{path}/");
    said.range(start.clone()..).next().is_some_and(|(path, _)| path.starts_with(&start))
}

/// Refuses things below what is no folder, and links to what was replaced since.
fn check(said: &BTreeMap<String, Entry>, layer: &str) -> Result<(), LayerError> {
    for (path, entry) in said {
        let refused = |why| LayerError::Refused { layer: layer.to_owned(), path: path.clone(), why };
        let mut above = path.as_str();
        while let Some((folder, _)) = above.rsplit_once('/') {
            match said.get(folder).map(|entry| &entry.kind) {
                // Its own ancestors are looked at for itself.
                Some(Kind::Dir | Kind::OpaqueDir) => break,
                None | Some(Kind::Whiteout) => {}
                Some(_) => return Err(refused("which is below something that is no folder")),
            }
            above = folder;
        }
        let Kind::Hardlink { target } = &entry.kind else {
            continue;
        };
        if !said.get(target).is_some_and(|entry| !matches!(entry.kind, Kind::Dir | Kind::OpaqueDir | Kind::Whiteout)) {
            return Err(refused("a hard link to what the layer replaces later"));
        }
    }
    Ok(())
}
