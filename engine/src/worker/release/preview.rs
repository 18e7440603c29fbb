//! What undoing would do, told before it is done.

use std::collections::{BTreeMap, BTreeSet};

use charly_ir::message::{Change, Claim, Detail, StepDiff};
use charly_ir::plan::Scope;

use super::{REMAINS, Release, ReleaseOptions, idle_folders};
use crate::ledger::{Book, Entry, Resource, State, StepKey};
use crate::resource;
use crate::tree::Node;
use crate::worker::detail;

/// Returns what undoing steps would do, for people.
pub(crate) fn preview(book: &Book, steps: &[Release], options: ReleaseOptions) -> Vec<StepDiff> {
    let Some(first) = steps.first() else { return Vec::new() };
    let mut claims = book.claims_of(&first.key.deploy);
    let remains: BTreeMap<StepKey, &Resource> = book.remains_of(&first.key.deploy).collect();
    let mut entries = book.entries.clone();
    let mut diffs = Vec::with_capacity(steps.len());
    let mut own_folders = BTreeSet::new();
    for step in steps {
        let Some(record) = book.steps.get(&step.key) else {
            let rest = remains.get(&step.key).and_then(|resource| Some((*resource, book.entries.get(resource)?)));
            diffs.extend(rest.map(|(resource, entry)| StepDiff {
                index: step.index,
                candy: step.key.candy.clone(),
                id: step.key.step.clone(),
                title: REMAINS.to_owned(),
                kind: resource.what().to_owned(),
                scope: Scope::System.to_string(),
                gate: None,
                change: Change::Remove,
                details: farewell(resource, entry),
            }));
            continue;
        };
        let claim = step.key.claim();
        let mut details = Vec::new();
        for resource in claims.remove(&claim).unwrap_or_default().iter().rev() {
            let Some(entry) = entries.get_mut(resource) else { continue };
            // A thing that another step of this very removal gives up later is told of there.
            let is_own_folder = matches!(entry.want, State::Node(Node::Dir { .. })) && was_absent(entry);
            if options.purge && is_own_folder {
                own_folders.insert(resource.subject().to_owned());
            }
            if !entry.drop_claim(&claim) {
                let whole = options.purge && is_own_folder;
                details.extend(
                    farewell(resource, entry).into_iter().map(|detail| if whole { wholly(detail) } else { detail }),
                );
            } else if !entry.all_claims().any(|other| other.deploy == claim.deploy) {
                let note = Some("another deploy still wants it".to_owned());
                details.push(detail(Change::Keep, resource.what(), resource.subject(), note));
            }
        }
        if record.kind == "command" && details.is_empty() {
            details.push(detail(Change::Skip, "command", &record.title, Some("not undoable".to_owned())));
        }
        diffs.push(StepDiff {
            index: step.index,
            candy: step.key.candy.clone(),
            id: step.key.step.clone(),
            title: record.title.clone(),
            kind: record.kind.clone(),
            scope: record.scope.clone(),
            gate: None,
            change: Change::Remove,
            details,
        });
    }
    let candies = steps.iter().map(|step| step.key.candy_claim()).collect();
    preview_folders(book, entries, &candies, &own_folders, &mut diffs);
    diffs
}

/// Folders above what the steps placed go with the last step of their candy.
fn preview_folders(
    book: &Book,
    mut entries: BTreeMap<Resource, Entry>,
    candies: &BTreeSet<Claim>,
    own_folders: &BTreeSet<String>,
    diffs: &mut [StepDiff],
) {
    entries.retain(|_, entry| entry.all_claims().next().is_some());
    let left = Book { entries, ..Book::default() };
    for (path, mut entry) in idle_folders(&left, candies) {
        let owner = entry.implied.first().map(|claim| claim.candy.clone()).unwrap_or_default();
        let goes = candies.iter().fold(true, |_, candy| !entry.drop_claim(candy));
        let made = book.entries.get(&Resource::Path(path.clone())).is_some_and(was_absent);
        let last = diffs.iter_mut().rev().find(|diff| diff.candy == owner);
        if let (true, true, Some(diff)) = (goes, made, last) {
            let folder = detail(Change::Remove, "folder", &path, None);
            diff.details.push(if own_folders.contains(&path) { wholly(folder) } else { folder });
        }
    }
}

fn was_absent(entry: &Entry) -> bool {
    entry.before.state == State::Node(Node::Absent)
}

/// Says of a folder that nothing in it stays.
fn wholly(folder: Detail) -> Detail {
    Detail { note: Some("with all that is in it".to_owned()), ..folder }
}

/// Says what becomes of a thing that nobody claims any more.
pub(super) fn farewell(resource: &Resource, entry: &Entry) -> Vec<Detail> {
    match (resource, &entry.want) {
        (Resource::Command(_), _) => Vec::new(),
        (Resource::Packages(_), _) => resource::preview_packages(entry),
        (Resource::Path(path), State::Node(node)) => {
            vec![detail(Change::Remove, node.what(), path, back_to(entry))]
        }
        _ => vec![detail(Change::Remove, resource.what(), resource.subject(), back_to(entry))],
    }
}

fn back_to(entry: &Entry) -> Option<String> {
    match &entry.before.state {
        State::Node(Node::Absent) | State::Block(_) | State::Anything => None,
        State::Node(node) => Some(format!("the {} that was there before comes back", node.what())),
        _ => None,
    }
}
