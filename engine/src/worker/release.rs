//! The way back: gives up what steps claim, and puts back what was there before.

use std::collections::BTreeSet;
use std::time::Instant;

use charly_ir::message::{Change, Detail, Event, Kept, Outcome, Problem, StepDiff};

use serde::{Deserialize, Serialize};

use super::assess::{Task, detail};
use super::converge::made_file;
use super::{Sink, Tally, WorkError};
use crate::ledger::{BlockState, Book, Entry, Ledger, Record, Resource, State, StepKey};
use crate::resource::path::{self, Restored};
use crate::resource::{self, Undo};
use crate::tree::{self, Node};
use crate::venue::Venue;

/// A step to be undone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Release {
    /// Its number in this run.
    pub index: u32,
    /// Its name in the ledger.
    pub key: StepKey,
}

/// How to undo.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct ReleaseOptions {
    /// Leaves repositories in place.
    pub keep_repo_changes: bool,
    /// Leaves services running and enabled.
    pub keep_services: bool,
    /// Removes data made since the add, too.
    pub purge: bool,
}

/// Undoes steps in the order given. What fails stays claimed, and the rest goes on.
pub(crate) fn release(
    venue: &Venue,
    ledger: &mut Ledger,
    steps: &[Release],
    options: ReleaseOptions,
    sink: Sink<'_>,
    tally: &mut Tally,
) -> Result<(), WorkError> {
    let Some(deploy) = steps.first().map(|step| step.key.deploy.clone()) else { return Ok(()) };
    let mut claims = ledger.book().claims_of(&deploy);
    let mut folders = Vec::new();
    let mut aftercare = Aftercare::default();
    for step in steps {
        if venue.cancel.is_requested() {
            return Err(WorkError::Cancelled);
        }
        let Some(record) = ledger.book().steps.get(&step.key).cloned() else { continue };
        let started = Instant::now();
        sink(Event::StepStarted {
            index: step.index,
            candy: step.key.candy.clone(),
            id: step.key.step.clone(),
            title: record.title.clone(),
            undo: true,
        });
        ledger.at_step(&format!("undo {}/{}", step.key.candy, step.key.step))?;
        let resources = claims.remove(&step.key.claim()).unwrap_or_default();
        let mut undoing = Undoing {
            venue,
            ledger,
            step,
            options,
            tally,
            folders: &mut folders,
            aftercare: &mut aftercare,
            details: Vec::new(),
        };
        let keep = options.keep_repo_changes && record.kind == "repo-change";
        let result = undoing.step(record.on_removal.as_deref(), &resources, keep, sink);
        let details = undoing.details;
        let outcome = match result {
            Ok(()) => {
                ledger.append(Record::DropStep(step.key.clone()))?;
                tally.removed += 1;
                Outcome::Changed
            }
            Err(error @ (WorkError::Ledger(_) | WorkError::Cancelled)) => return Err(error),
            Err(error) => {
                let problem = error.problem();
                tally.pending.push(problem.clone());
                Outcome::Failed(problem)
            }
        };
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink(Event::StepFinished { index: step.index, outcome, details, took_ms });
    }
    give_up_folders(venue, ledger, folders, tally)?;
    aftercare.give(venue)
}

/// Returns what undoing steps would do, for people.
pub(crate) fn preview(book: &Book, steps: &[Release]) -> Vec<StepDiff> {
    let Some(first) = steps.first() else { return Vec::new() };
    let mut claims = book.claims_of(&first.key.deploy);
    let mut entries = book.entries.clone();
    let mut diffs = Vec::with_capacity(steps.len());
    for step in steps {
        let Some(record) = book.steps.get(&step.key) else { continue };
        let claim = step.key.claim();
        let mut details = Vec::new();
        for resource in claims.remove(&claim).unwrap_or_default().iter().rev() {
            let Some(entry) = entries.get_mut(resource) else { continue };
            // A thing that another step of this very removal gives up later is told of there.
            if !entry.drop_claim(&claim) {
                details.extend(farewell(resource, entry));
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
    diffs
}

/// Says what becomes of a thing that nobody claims any more.
fn farewell(resource: &Resource, entry: &Entry) -> Vec<Detail> {
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

/// Gives up what a step claims and no longer asks for.
pub(super) fn release_dropped(
    venue: &Venue,
    ledger: &mut Ledger,
    task: &Task,
    tally: &mut Tally,
) -> Result<(), WorkError> {
    let claim = task.key.claim();
    let asked = |resource: &Resource| task.wants.iter().any(|wanted| wanted.want.resource == *resource);
    let entries = ledger.book().entries.iter();
    let mut dropped: Vec<_> = entries
        .filter(|(resource, entry)| entry.all_claims().any(|other| *other == claim) && !asked(resource))
        .map(|(resource, entry)| (entry.seq, resource.clone()))
        .collect();
    if dropped.is_empty() {
        return Ok(());
    }
    dropped.sort();
    let resources: Vec<_> = dropped.into_iter().map(|(_, resource)| resource).collect();
    let step = Release { index: task.index, key: task.key.clone() };
    let (mut folders, options) = (Vec::new(), ReleaseOptions::default());
    let mut aftercare = Aftercare::default();
    let mut undoing = Undoing {
        venue,
        ledger,
        step: &step,
        options,
        tally,
        folders: &mut folders,
        aftercare: &mut aftercare,
        details: Vec::new(),
    };
    undoing.resources(&resources, false, &mut |_| {})?;
    give_up_folders(venue, ledger, folders, tally)?;
    aftercare.give(venue)
}

/// What services need after files of theirs were put back.
#[derive(Debug, Default)]
struct Aftercare {
    /// Managers that must read unit files anew: the machine's, the user's.
    reload: BTreeSet<bool>,
    /// Units that run on, and take up what was put back.
    refresh: BTreeSet<(bool, String)>,
}

impl Aftercare {
    fn note(&mut self, resource: &Resource, entry: &Entry) {
        match (resource, &entry.before.state) {
            (Resource::Path(path), _) if path.starts_with("/etc/systemd/system/") => {
                self.reload.insert(false);
            }
            (Resource::Path(path), _) if path.contains("/.config/systemd/user/") => {
                self.reload.insert(true);
            }
            (Resource::Unit { user, name }, State::Unit(before)) if before.active => {
                self.refresh.insert((*user, name.clone()));
            }
            _ => {}
        }
    }

    fn give(self, venue: &Venue) -> Result<(), WorkError> {
        let Self { reload, refresh } = self;
        for user in &reload {
            resource::reload_units(venue, *user)?;
        }
        for (user, name) in refresh {
            // One whose drop-in went has to start anew; any other takes its files up as it can.
            resource::refresh_unit(venue, user, &name, reload.contains(&user))?;
        }
        Ok(())
    }
}

struct Undoing<'a> {
    venue: &'a Venue,
    ledger: &'a mut Ledger,
    step: &'a Release,
    options: ReleaseOptions,
    tally: &'a mut Tally,
    /// Folders that were not empty when their turn came.
    folders: &'a mut Vec<String>,
    aftercare: &'a mut Aftercare,
    details: Vec<Detail>,
}

impl Undoing<'_> {
    fn step(
        &mut self,
        hook: Option<&charly_ir::plan::Command>,
        resources: &[Resource],
        keep: bool,
        sink: Sink<'_>,
    ) -> Result<(), WorkError> {
        if let Some(hook) = hook {
            resource::run_hook(self.venue, self.step.index, hook, sink)?;
        }
        self.resources(resources, keep, sink)
    }

    /// Gives up things, last claimed first. Effects are durable before the ledger forgets them.
    fn resources(&mut self, resources: &[Resource], keep: bool, sink: Sink<'_>) -> Result<(), WorkError> {
        let claim = self.step.key.claim();
        let mut forgotten = Vec::new();
        let mut failure = None;
        for resource in resources.iter().rev() {
            let Some(mut entry) = self.ledger.book().entries.get(resource).cloned() else { continue };
            if entry.drop_claim(&claim) {
                self.hand_over(resource, entry)?;
                continue;
            }
            let services = matches!(resource, Resource::Unit { .. } | Resource::Linger(_));
            if keep || self.options.keep_services && services {
                let reason = "asked for by --keep".to_owned();
                self.tally.kept.push(Kept { subject: resource.subject().to_owned(), reason });
                forgotten.push(resource.clone());
                continue;
            }
            match self.restore(resource, &entry, sink) {
                Ok(true) => forgotten.push(resource.clone()),
                Ok(false) => {}
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        sync(self.venue, &forgotten)?;
        for resource in forgotten {
            self.ledger.append(Record::Forget(resource))?;
        }
        self.ledger.flush()?;
        failure.map_or(Ok(()), Err)
    }

    /// Leaves a thing to the claims that remain. A folder that nobody asks for any more, but that is needed above something,
    /// goes back to what it was; one that was made for this gets the mode that such folders have.
    fn hand_over(&mut self, resource: &Resource, mut entry: Entry) -> Result<(), WorkError> {
        if let (true, Resource::Path(path), State::Node(Node::Dir { uid, gid, .. })) =
            (entry.claims.is_empty(), resource, &entry.want)
        {
            if let State::Node(before @ Node::Dir { .. }) = &entry.before.state {
                path::converge(self.venue, path, before, None)?;
                return Ok(self.ledger.append(Record::Forget(resource.clone()))?);
            }
            let node = Node::Dir { mode: 0o755, uid: *uid, gid: *gid };
            path::converge(self.venue, path, &node, None)?;
            entry.want = State::Node(node);
        }
        let (step, resource) = (self.step.index, resource.clone());
        Ok(self.ledger.append(Record::Own { step, resource, entry: Box::new(entry) })?)
    }

    /// Puts a thing back. Tells whether the ledger may forget it now.
    fn restore(&mut self, resource: &Resource, entry: &Entry, sink: Sink<'_>) -> Result<bool, WorkError> {
        self.aftercare.note(resource, entry);
        let note = match resource {
            Resource::Path(path) => match self.restore_path(path, entry)? {
                Restored::Done => None,
                Restored::Kept(why) => Some(why.to_owned()),
                Restored::NotEmpty => {
                    self.folders.push(path.clone());
                    return Ok(false);
                }
            },
            Resource::Block { path, .. } => {
                let kept = resource::block_restore(self.venue, resource, entry)?;
                self.pass_on_file(path, resource, entry)?;
                kept.map(str::to_owned)
            }
            _ => {
                let mut undo = Undo {
                    venue: self.venue,
                    ledger: self.ledger,
                    index: self.step.index,
                    purge: self.options.purge,
                    sink,
                };
                let report = resource::restore(&mut undo, resource, entry)?;
                self.tally.kept.extend(report.kept);
                self.details.extend(report.details);
                return Ok(true);
            }
        };
        match note {
            None => self.details.extend(farewell(resource, entry)),
            Some(reason) => self.tally.kept.push(Kept { subject: resource.subject().to_owned(), reason }),
        }
        Ok(true)
    }

    fn restore_path(&mut self, path: &str, entry: &Entry) -> Result<Restored, WorkError> {
        if let State::Secret { .. } = &entry.want {
            return resource::restore_secret(self.venue, self.ledger, path, entry);
        }
        let mut kept = match (&entry.before.state, entry.before.kept) {
            (State::Node(Node::File { digest, .. }), true) => Some(self.ledger.kept(*digest)?),
            _ => None,
        };
        let content = kept.as_mut().map(|file| file as &mut dyn std::io::Read);
        Ok(path::restore(self.venue, path, entry, content, self.options.purge)?)
    }

    /// A file that was made for a block goes with the last block in it, whichever that is.
    fn pass_on_file(&mut self, path: &str, resource: &Resource, entry: &Entry) -> Result<(), WorkError> {
        if !made_file(entry) || tree::observe(&self.venue.root, path)? == Node::Absent {
            return Ok(());
        }
        let is_heir = |other: &Resource| matches!(other, Resource::Block { path: there, .. } if there == path);
        let heir = self.ledger.book().entries.iter().find(|(other, _)| *other != resource && is_heir(other));
        let Some((heir, mut entry)) = heir.map(|(heir, entry)| (heir.clone(), entry.clone())) else { return Ok(()) };
        entry.before.state = State::Block(BlockState::NoFile);
        Ok(self.ledger.append(Record::Own { step: self.step.index, resource: heir, entry: Box::new(entry) })?)
    }
}

/// Gives up folders that were not empty in their turn, deepest first; what still holds something then stays.
fn give_up_folders(
    venue: &Venue,
    ledger: &mut Ledger,
    mut folders: Vec<String>,
    tally: &mut Tally,
) -> Result<(), WorkError> {
    if folders.is_empty() {
        return Ok(());
    }
    folders.sort();
    folders.reverse();
    for folder in &folders {
        let resource = Resource::Path(folder.clone());
        let Some(entry) = ledger.book().entries.get(&resource).cloned() else { continue };
        if path::restore(venue, folder, &entry, None, false)? == Restored::NotEmpty {
            let reason = "it holds what charly did not make".to_owned();
            tally.kept.push(Kept { subject: folder.clone(), reason });
        }
    }
    let given_up: Vec<_> = folders.into_iter().map(Resource::Path).collect();
    sync(venue, &given_up)?;
    for resource in given_up {
        ledger.append(Record::Forget(resource))?;
    }
    Ok(ledger.flush()?)
}

/// Makes removals durable, which have no file of their own to flush.
fn sync<'a>(venue: &Venue, resources: impl IntoIterator<Item = &'a Resource>) -> Result<(), WorkError> {
    let folders = resources.into_iter().filter_map(|resource| match resource {
        Resource::Path(path) | Resource::Caps(path) | Resource::Block { path, .. } => Some(tree::parent(path)),
        _ => None,
    });
    let folders: BTreeSet<_> = folders.collect();
    let error = |source| tree::TreeError::new("make durable what was removed below", "/", source);
    if folders.len() > 8 {
        return Ok(venue.root.sync_all(folders).map_err(error)?);
    }
    Ok(venue.root.sync_names(folders).map_err(error)?)
}

/// Returns a problem that tells what is still to be undone.
pub(crate) fn pending_problem(deploy: &str, pending: &[Problem]) -> Problem {
    let mut problem = Problem::new(format!("{} of the steps could not be undone", pending.len()));
    for one in pending.iter().take(5) {
        problem = problem.because(one.what.clone());
    }
    problem.hint(format!("mend what is named above, then `charly bundle del {deploy}` goes on where it stopped"))
}
