//! The way back: gives up what steps claim, and puts back what was there before.

mod aftercare;
mod preview;

use std::collections::BTreeSet;
use std::time::Instant;

use charly_ir::message::{Claim, Detail, Event, Kept, Outcome, Problem};

use serde::{Deserialize, Serialize};

use self::aftercare::Aftercare;
use self::preview::farewell;
pub(crate) use self::preview::preview;
use super::assess::Task;
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

/// What a step is called that is gone but for data.
const REMAINS: &str = "what it left";

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
    claims.extend(ledger.book().remains_of(&deploy).map(|(key, resource)| (key.claim(), vec![resource.clone()])));
    let candies = steps.iter().map(|step| step.key.candy_claim()).collect();
    let mut undoing = Undoing::new(venue, ledger, options, candies);
    for step in steps {
        if venue.cancel.is_requested() {
            undoing.settle()?;
            return Err(WorkError::Cancelled);
        }
        let resources = claims.remove(&step.key.claim()).unwrap_or_default();
        undoing.step(step, &resources, sink, tally)?;
    }
    undoing.end(tally)
}

/// Gives up what a step claimed and no longer asks for.
pub(super) fn release_dropped(
    venue: &Venue,
    ledger: &mut Ledger,
    task: &Task,
    claimed: &[Resource],
    tally: &mut Tally,
) -> Result<(), WorkError> {
    let asked: BTreeSet<_> = task.wants.iter().map(|wanted| &wanted.want.resource).collect();
    let dropped: Vec<_> = claimed.iter().filter(|resource| !asked.contains(resource)).cloned().collect();
    if dropped.is_empty() {
        return Ok(());
    }
    let candies = BTreeSet::from([task.key.candy_claim()]);
    let mut undoing = Undoing::new(venue, ledger, ReleaseOptions::default(), candies);
    undoing.resources(&task.key.claim(), task.index, &dropped, false, &mut |_| {}, tally)?;
    undoing.end(tally)
}

/// Gives up the folders that candies keep above things of theirs, where no such thing is left.
pub(crate) fn release_folders(
    venue: &Venue,
    ledger: &mut Ledger,
    candies: BTreeSet<Claim>,
    tally: &mut Tally,
) -> Result<(), WorkError> {
    Undoing::new(venue, ledger, ReleaseOptions::default(), candies).end(tally)
}

struct Undoing<'a> {
    venue: &'a Venue,
    ledger: &'a mut Ledger,
    options: ReleaseOptions,
    /// The claims on folders above what the steps placed, one a candy.
    candies: BTreeSet<Claim>,
    /// Folders that were not empty when their turn came.
    folders: Vec<String>,
    /// Folders that steps asked for by name: what was made in them since is data of theirs.
    own_folders: BTreeSet<String>,
    aftercare: Aftercare,
    details: Vec<Detail>,
    /// What is undone and not durable yet.
    unsettled: Vec<Record>,
}

impl<'a> Undoing<'a> {
    /// So many things share a flush when they go.
    const GROUP: usize = 1024;

    fn new(venue: &'a Venue, ledger: &'a mut Ledger, options: ReleaseOptions, candies: BTreeSet<Claim>) -> Self {
        Self {
            venue,
            ledger,
            options,
            candies,
            folders: Vec::new(),
            own_folders: BTreeSet::new(),
            aftercare: Aftercare::default(),
            details: Vec::new(),
            unsettled: Vec::new(),
        }
    }

    /// Undoes one step. An error of its own is told and kept as pending; one of the ledger ends the run.
    fn step(
        &mut self,
        step: &Release,
        resources: &[Resource],
        sink: Sink<'_>,
        tally: &mut Tally,
    ) -> Result<(), WorkError> {
        let book = self.ledger.book();
        let known = book.steps.get(&step.key).cloned();
        if known.is_none() && !book.remains_of(&step.key.deploy).any(|(key, _)| key == step.key) {
            // Claims whose step is forgotten already: a former removal was cut off between the two.
            return self.resources(&step.key.claim(), step.index, resources, false, sink, tally);
        }
        let started = Instant::now();
        sink(Event::StepStarted {
            index: step.index,
            candy: step.key.candy.clone(),
            id: step.key.step.clone(),
            title: known.as_ref().map_or(REMAINS, |record| &record.title).to_owned(),
            undo: true,
        });
        let keep = self.options.keep_repo_changes && known.as_ref().is_some_and(|record| record.kind == "repo-change");
        let result = match known.as_ref().and_then(|record| record.on_removal.as_ref()) {
            Some(hook) => resource::run_hook(self.venue, step.index, hook, sink),
            None => Ok(()),
        };
        let result = result.and_then(|()| self.resources(&step.key.claim(), step.index, resources, keep, sink, tally));
        let outcome = match result {
            Ok(()) => {
                self.unsettled.push(Record::DropStep(step.key.clone()));
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
        let details = std::mem::take(&mut self.details);
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink(Event::StepFinished { index: step.index, outcome, details, took_ms });
        Ok(())
    }

    /// Gives up things, last claimed first.
    fn resources(
        &mut self,
        claim: &Claim,
        index: u32,
        resources: &[Resource],
        keep: bool,
        sink: Sink<'_>,
        tally: &mut Tally,
    ) -> Result<(), WorkError> {
        for resource in resources.iter().rev() {
            let Some(mut entry) = self.ledger.book().entries.get(resource).cloned() else { continue };
            if !matches!(resource, Resource::Path(_)) {
                // Units, packages and hooks see the venue as it is, and each is a long way: alone.
                self.settle()?;
                let (candy, step) = (&claim.candy, &claim.step);
                self.ledger.at_step(&format!("undo {candy}/{step}"))?;
            }
            if let (Resource::Path(path), State::Node(Node::Dir { .. })) = (resource, &entry.want) {
                self.own_folders.insert(path.clone());
            }
            if entry.drop_claim(claim) {
                self.hand_over(index, resource, entry)?;
                continue;
            }
            let services = matches!(resource, Resource::Unit { .. } | Resource::Linger(_));
            if keep || self.options.keep_services && services {
                let reason = "asked for by --keep".to_owned();
                tally.kept.push(Kept { subject: resource.subject().to_owned(), reason });
            } else if !self.restore(index, resource, &entry, sink, tally)? {
                continue;
            }
            self.unsettled.push(Record::Forget(resource.clone()));
            if self.unsettled.len() >= Self::GROUP || !matches!(resource, Resource::Path(_)) {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Makes what was undone durable, and only then lets the ledger forget it.
    fn settle(&mut self) -> Result<(), WorkError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.unsettled);
        let gone = records.iter().filter_map(|record| match record {
            Record::Forget(resource) => Some(resource),
            _ => None,
        });
        sync(self.venue, gone)?;
        for record in records {
            self.ledger.append(record)?;
        }
        Ok(self.ledger.flush()?)
    }

    /// Leaves a thing to the claims that remain. A folder that nobody asks for any more, but that is needed above something,
    /// goes back to what it was; one that was made for this gets the mode that such folders have.
    fn hand_over(&mut self, index: u32, resource: &Resource, mut entry: Entry) -> Result<(), WorkError> {
        if let (true, Resource::Path(path), State::Node(Node::Dir { mode, uid, gid })) =
            (entry.claims.is_empty(), resource, &entry.want)
        {
            if let State::Node(before @ Node::Dir { .. }) = &entry.before.state {
                path::converge(self.venue, path, before, None)?;
                return Ok(self.ledger.append(Record::Forget(resource.clone()))?);
            }
            if *mode != 0o755 {
                let node = Node::Dir { mode: 0o755, uid: *uid, gid: *gid };
                path::converge(self.venue, path, &node, None)?;
                entry.want = State::Node(node);
            }
        }
        let resource = resource.clone();
        Ok(self.ledger.append(Record::Own { step: index, resource, entry: Box::new(entry) })?)
    }

    /// Puts a thing back. Tells whether the ledger may forget it now.
    fn restore(
        &mut self,
        index: u32,
        resource: &Resource,
        entry: &Entry,
        sink: Sink<'_>,
        tally: &mut Tally,
    ) -> Result<bool, WorkError> {
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
                self.pass_on_file(index, path, resource, entry)?;
                kept.map(str::to_owned)
            }
            _ => {
                let (venue, purge) = (self.venue, self.options.purge);
                let mut undo = Undo { venue, ledger: self.ledger, index, purge, sink };
                let report = resource::restore(&mut undo, resource, entry)?;
                tally.kept.extend(report.kept);
                self.details.extend(report.details);
                let Some(want) = report.remainder else { return Ok(true) };
                // Nobody's claim any more: only a purge asks for it, or an add of the same step.
                let entry = Entry { claims: Vec::new(), implied: Vec::new(), want, found: None, ..entry.clone() };
                self.ledger.append(Record::Own { step: index, resource: resource.clone(), entry: Box::new(entry) })?;
                return Ok(false);
            }
        };
        match note {
            None => self.details.extend(farewell(resource, entry)),
            Some(reason) => tally.kept.push(Kept { subject: resource.subject().to_owned(), reason }),
        }
        Ok(true)
    }

    fn restore_path(&self, path: &str, entry: &Entry) -> Result<Restored, WorkError> {
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
    fn pass_on_file(&mut self, index: u32, path: &str, resource: &Resource, entry: &Entry) -> Result<(), WorkError> {
        if !made_file(entry) || tree::observe(&self.venue.root, path)? == Node::Absent {
            return Ok(());
        }
        let is_heir = |other: &Resource| matches!(other, Resource::Block { path: there, .. } if there == path);
        let heir = self.ledger.book().entries.iter().find(|(other, _)| *other != resource && is_heir(other));
        let Some((heir, mut entry)) = heir.map(|(heir, entry)| (heir.clone(), entry.clone())) else { return Ok(()) };
        entry.before.state = State::Block(BlockState::NoFile);
        Ok(self.ledger.append(Record::Own { step: index, resource: heir, entry: Box::new(entry) })?)
    }

    /// Ends the removal: folders that nothing is left in go, and services take up what was put back.
    fn end(mut self, tally: &mut Tally) -> Result<(), WorkError> {
        self.settle()?;
        let mut going: BTreeSet<String> = std::mem::take(&mut self.folders).into_iter().collect();
        for (path, mut entry) in idle_folders(self.ledger.book(), &self.candies) {
            let mut held = true;
            for candy in &self.candies {
                held = entry.drop_claim(candy);
            }
            if held {
                self.hand_over(0, &Resource::Path(path), entry)?;
            } else {
                going.insert(path);
            }
        }
        // Deepest first: what lies in a folder sorts behind it.
        for path in going.iter().rev() {
            let resource = Resource::Path(path.clone());
            let Some(entry) = self.ledger.book().entries.get(&resource).cloned() else { continue };
            // One that was made on the way to something is nobody's state: whatever else lies in it came for another reason.
            let purge = self.options.purge && self.own_folders.contains(path);
            let reason = match path::restore(self.venue, path, &entry, None, purge)? {
                Restored::Done => None,
                Restored::Kept(why) => Some(why),
                Restored::NotEmpty => Some("it holds what charly did not make"),
            };
            tally.kept.extend(reason.map(|reason| Kept { subject: path.clone(), reason: reason.to_owned() }));
            self.unsettled.push(Record::Forget(resource));
        }
        self.settle()?;
        self.aftercare.give(self.venue)
    }
}

/// Returns the folders that candies keep above things of theirs and that hold no such thing any more.
fn idle_folders(book: &Book, candies: &BTreeSet<Claim>) -> Vec<(String, Entry)> {
    let mut idle = Vec::new();
    for (resource, entry) in &book.entries {
        let Resource::Path(path) = resource else { continue };
        let mut keepers = entry.implied.iter().filter(|claim| candies.contains(claim)).peekable();
        if keepers.peek().is_some() && !keepers.any(|keeper| holds_something_of(book, path, keeper)) {
            idle.push((path.clone(), entry.clone()));
        }
    }
    idle
}

/// Tells whether a candy asks for anything below a folder.
fn holds_something_of(book: &Book, folder: &str, candy: &Claim) -> bool {
    let below = format!("{folder}/");
    let is_its =
        |entry: &Entry| entry.claims.iter().any(|claim| claim.deploy == candy.deploy && claim.candy == candy.candy);
    // Entries are sorted by kind, then by path.
    let paths = book.entries.range(Resource::Path(below.clone())..);
    let mut paths = paths.take_while(|(other, _)| matches!(other, Resource::Path(path) if path.starts_with(&below)));
    let blocks = book.entries.range(Resource::Block { path: below.clone(), tag: String::new() }..);
    let is_below =
        |(other, _): &(&Resource, &Entry)| matches!(other, Resource::Block { path, .. } if path.starts_with(&below));
    let mut blocks = blocks.take_while(is_below);
    paths.any(|(_, entry)| is_its(entry)) || blocks.any(|(_, entry)| is_its(entry))
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
        let Problem { what, because, .. } = one;
        problem = problem.because([std::slice::from_ref(what), because].concat().join(": "));
    }
    problem.hint(format!("mend what is named above, then `charly bundle del {deploy}` goes on where it stopped"))
}
