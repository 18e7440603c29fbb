//! Makes things be as steps want them, intents first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use charly_ir::Digest;
use charly_ir::message::{Apply, Change, Claim, Detail, Event, Outcome};
use charly_ir::plan::Action;

use super::assess::{Task, Wanted};
use super::release::release_dropped;
use super::{Sink, Spool, Tally, WorkError};
use crate::ledger::{Before, BlockState, Entry, Ledger, Owed, Record, Resource, State, StepRecord};
use crate::resource::{self, Effect, Source, path};
use crate::tree::{self, Content, Node, TreeError};
use crate::venue::Venue;

/// The most steps that share a flush: so many, and a crash costs no more than them.
const GROUP: usize = 512;
/// From so many files on, one flush of the file system is cheaper than one of each.
const SYNC_EACH: usize = 8;

/// Carries out steps in order, up to the first that fails. Returns the step that failed, with why.
pub(crate) fn converge(
    venue: &Venue,
    ledger: &mut Ledger,
    apply: &Apply,
    tasks: &[&Task],
    spool: &Spool,
    sink: Sink<'_>,
    tally: &mut Tally,
) -> Result<(), (u32, WorkError)> {
    let deploy = tasks.first().map(|task| task.key.deploy.clone());
    let claims = deploy.map(|deploy| ledger.book().claims_of(&deploy)).unwrap_or_default();
    let mut work = Work { venue, ledger, apply, spool, sink, tally, claims };
    let mut due = tasks.iter().copied().filter(|task| task.due).peekable();
    while let Some(first) = due.next() {
        if venue.cancel.is_requested() {
            return Err((first.index, WorkError::Cancelled));
        }
        if !first.is_quiet() {
            work.alone(first).map_err(|error| (first.index, error))?;
            continue;
        }
        let mut group = vec![first];
        let mut paths: BTreeSet<&Resource> = first.asked().collect();
        while let Some(next) = due.peek() {
            let disjoint = next.asked().all(|resource| !paths.contains(resource));
            if group.len() == GROUP || !next.is_quiet() || !disjoint || venue.cancel.is_requested() {
                break;
            }
            paths.extend(next.asked());
            group.extend(due.next());
        }
        work.together(&group)?;
    }
    Ok(())
}

struct Work<'a, 'b> {
    venue: &'a Venue,
    ledger: &'a mut Ledger,
    apply: &'a Apply,
    spool: &'a Spool,
    sink: &'a mut (dyn FnMut(Event) + 'b),
    tally: &'a mut Tally,
    /// What each step of the deploy claimed before this run.
    claims: BTreeMap<Claim, Vec<Resource>>,
}

impl Work<'_, '_> {
    /// Carries out steps that place files, folders and links alone: one flush for all intents, one for all effects.
    fn together(&mut self, group: &[&Task]) -> Result<(), (u32, WorkError)> {
        let first = group.first().map_or(0, |task| task.index);
        for task in group {
            self.intend(task, &task.wants).map_err(|error| (task.index, error))?;
        }
        self.ledger.flush().map_err(|error| (first, error.into()))?;
        let mut placed = Placements::default();
        let mut done = Vec::new();
        let mut failure = None;
        for task in group {
            let started = Instant::now();
            let effects = task.wants.iter().filter(|wanted| !wanted.met);
            match effects.map(|wanted| self.place(task, wanted, &mut placed)).collect::<Result<Vec<()>, _>>() {
                Ok(_) => done.push((*task, started.elapsed())),
                Err(error) => {
                    failure = Some((task.index, error));
                    break;
                }
            }
        }
        placed.sync(self.venue).map_err(|error| (first, error.into()))?;
        for (task, took) in done {
            self.announce(task);
            self.finish(task, took).map_err(|error| (task.index, error))?;
        }
        match failure {
            None => Ok(()),
            Some((index, error)) => {
                if let Some(task) = group.iter().find(|task| task.index == index) {
                    self.announce(task);
                }
                Err((index, error))
            }
        }
    }

    /// Carries out one step, each of its things under an intent of its own.
    fn alone(&mut self, task: &Task) -> Result<(), WorkError> {
        let started = Instant::now();
        self.announce(task);
        self.ledger.at_step(&format!("{}/{}", task.key.candy, task.key.step))?;
        if task.change == Change::Skip {
            let reason = task.details.first().and_then(|detail| detail.note.clone()).unwrap_or_default();
            self.report(task, Outcome::Skipped { reason }, Vec::new(), started.elapsed());
            return Ok(());
        }
        if task.wants.is_empty() {
            // What it leaves is in its record alone, such as a hook for the removal.
            self.intend(task, &[])?;
        }
        for wanted in &task.wants {
            self.intend(task, std::slice::from_ref(wanted))?;
            self.ledger.flush()?;
            if wanted.met {
                continue;
            }
            let mut placed = Placements::default();
            match &wanted.want.resource {
                Resource::Path(_) => self.place(task, wanted, &mut placed)?,
                _ => self.effect(task, wanted)?,
            }
            placed.sync(self.venue)?;
        }
        if task.refresh {
            self.refresh(task)?;
        }
        self.finish(task, started.elapsed())
    }

    /// Writes down that a step is about to make things so, and what is there before.
    fn intend(&mut self, task: &Task, wants: &[Wanted]) -> Result<(), WorkError> {
        let known = self.ledger.book().steps.get(&task.key);
        let digest = task.step.digest();
        if known.is_none_or(|known| known.done || known.digest != digest) {
            self.ledger.append(task.begun(digest, None))?;
        }
        for wanted in wants {
            self.claim(task, wanted)?;
        }
        Ok(())
    }

    fn claim(&mut self, task: &Task, wanted: &Wanted) -> Result<(), WorkError> {
        let claim = if wanted.implied { task.key.candy_claim() } else { task.key.claim() };
        let (resource, want) = (&wanted.want.resource, &wanted.want.state);
        let old = self.ledger.book().entries.get(resource).cloned();
        let open_books =
            old.as_ref().is_some_and(|entry| entry.found.is_some() && matches!(resource, Resource::Packages(_)));
        let found = if open_books || wanted.met && old.is_some() {
            old.as_ref().and_then(|entry| entry.found.clone())
        } else {
            Some(resource::found(self.venue, resource, want, &task.step)?)
        };
        let mut entry = if let Some(old) = &old {
            old.clone()
        } else {
            let state = found.clone().unwrap_or(State::Anything);
            let kept = self.keep_former(resource, &state, want)?;
            let before = Before { state, kept };
            let seq = self.ledger.next_seq();
            Entry { seq, claims: vec![], implied: vec![], before, want: want.clone(), found: None }
        };
        if old.is_some() && !wanted.met {
            self.keep_edited(resource, &entry, found.as_ref())?;
        }
        let claims = if wanted.implied { &mut entry.implied } else { &mut entry.claims };
        if !claims.contains(&claim) {
            claims.push(claim);
        }
        // What asks for nothing in particular does not change what others ask for.
        let yields = wanted.implied || *want == State::Anything;
        if !yields || old.is_none() {
            entry.want = want.clone();
        }
        entry.found = found;
        if old.as_ref() != Some(&entry) {
            self.ledger.append(Record::Own { step: task.index, resource: resource.clone(), entry: Box::new(entry) })?;
        }
        Ok(())
    }

    /// Keeps the content of a file that is about to be replaced for the first time.
    fn keep_former(&mut self, resource: &Resource, found: &State, want: &State) -> Result<bool, WorkError> {
        let (Resource::Path(path), State::Node(node @ Node::File { .. })) = (resource, found) else { return Ok(false) };
        if matches!(want, State::Node(want) if want.agrees(node)) {
            return Ok(false);
        }
        let mut file = tree::open_file(&self.venue.root, path)?;
        let Node::File { digest, .. } = node else { return Ok(false) };
        if self.ledger.keep(&mut file)? == *digest {
            return Ok(true);
        }
        let source = std::io::Error::other("it changed while it was read");
        Err(TreeError::new("keep the content of", path, source).into())
    }

    /// Keeps a copy of a file that was edited since it was placed. Secrets are not copied.
    fn keep_edited(&mut self, resource: &Resource, entry: &Entry, found: Option<&State>) -> Result<(), WorkError> {
        let (Resource::Path(path), State::Node(want)) = (resource, &entry.want) else { return Ok(()) };
        let Some(State::Node(found @ Node::File { .. })) = found else { return Ok(()) };
        if entry.found.is_some() || found.agrees(want) {
            return Ok(());
        }
        let copy = self.ledger.keep_edited(path, &mut tree::open_file(&self.venue.root, path)?)?;
        let text = format!("`{path}` was edited since it was placed; your copy is {}", copy.display());
        (self.sink)(Event::Warning { text });
        Ok(())
    }

    /// Places one file, folder or link.
    fn place(&mut self, task: &Task, wanted: &Wanted, placed: &mut Placements) -> Result<(), WorkError> {
        let Resource::Path(path) = &wanted.want.resource else { return Ok(()) };
        let node = match &wanted.want.state {
            State::Node(node) => node.clone(),
            State::Secret { mode, uid, gid, .. } => resource::secret_node(&wanted.want.source, *mode, *uid, *gid),
            _ => return Ok(()),
        };
        if wanted.implied && self.venue.root.is_folder(path) {
            return Ok(());
        }
        let unread = |source| TreeError::new("write", path, source);
        let (mut bytes, mut judged): (Option<Box<dyn Read + '_>>, _) = (None, None);
        match &wanted.want.source {
            Source::Bytes(given) => bytes = Some(Box::new(given.as_slice())),
            Source::Blob { digest, .. } => match self.spool.file(digest) {
                Some(file) => judged = Some((file.map_err(unread)?, *digest)),
                None => bytes = Some(self.spool.open(digest).map_err(unread)?),
            },
            Source::None => {}
        }
        let file = crate::identity::acting_as(self.venue, &task.step.scope, || {
            let content = match (&judged, &mut bytes) {
                (Some((file, digest)), _) => {
                    Some(Content::Judged { file, digest: *digest, spare: self.spool.spare(digest) })
                }
                (None, Some(bytes)) => Some(Content::Bytes(&mut **bytes)),
                (None, None) => None,
            };
            Ok(path::converge(self.venue, path, &node, content)?)
        })?;
        placed.files.extend(file);
        placed.folders.insert(tree::parent(path).to_owned());
        Ok(())
    }

    /// Makes one thing so that is no path.
    fn effect(&mut self, task: &Task, wanted: &Wanted) -> Result<(), WorkError> {
        let limit = Duration::from_secs(u64::from(self.apply.command_timeout_s));
        let mut effect = Effect {
            venue: self.venue,
            ledger: self.ledger,
            apply: self.apply,
            task,
            spool: self.spool,
            sink: self.sink,
            limit,
        };
        resource::converge(&mut effect, &wanted.want)
    }

    /// Lets services that run already take up what this run changed.
    fn refresh(&self, task: &Task) -> Result<(), WorkError> {
        let unit_file =
            task.wants.iter().any(|wanted| matches!(wanted.want.resource, Resource::Path(_)) && !wanted.met);
        let custom = matches!(task.step.action, Action::ServiceCustom(_));
        for wanted in &task.wants {
            if let Resource::Unit { user, name } = &wanted.want.resource {
                resource::reload_units(self.venue, *user)?;
                resource::refresh_unit(self.venue, *user, name, unit_file || custom)?;
            }
        }
        Ok(())
    }

    /// Writes down that a step is done, and gives up what it claimed and no longer asks for.
    fn finish(&mut self, task: &Task, took: Duration) -> Result<(), WorkError> {
        let resources = task.wants.iter().map(|wanted| wanted.want.resource.clone()).collect();
        self.ledger.append(Record::Done { key: task.key.clone(), resources })?;
        if let Action::RepoChange(repo) = &task.step.action {
            self.venue.desk.mark_stale(self.venue, repo.manager);
        }
        let claimed = self.claims.get(&task.key.claim()).map(Vec::as_slice).unwrap_or_default();
        release_dropped(self.venue, self.ledger, task, claimed, self.tally)?;
        let changed = task.refresh || task.wants.iter().any(|wanted| !wanted.met && !wanted.idle);
        if changed {
            self.tally.changed += 1;
        }
        let outcome = if changed { Outcome::Changed } else { Outcome::Unchanged };
        self.report(task, outcome, task.details.clone(), took);
        Ok(())
    }

    fn announce(&mut self, task: &Task) {
        (self.sink)(Event::StepStarted {
            index: task.index,
            candy: task.key.candy.clone(),
            id: task.key.step.clone(),
            title: task.step.title.clone(),
            undo: false,
        });
    }

    fn report(&mut self, task: &Task, outcome: Outcome, details: Vec<Detail>, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        (self.sink)(Event::StepFinished { index: task.index, outcome, details, took_ms });
    }
}

/// Writes down that reboots are owed, before anything that makes them so; or that all before them was `reached`. Durable when
/// it returns.
pub(crate) fn owe(venue: &Venue, ledger: &mut Ledger, tasks: &[&Task], reached: bool) -> Result<(), WorkError> {
    if tasks.is_empty() {
        return Ok(());
    }
    for task in tasks {
        let owed = Owed { boot: venue.facts.boot.clone(), reached };
        ledger.append(task.begun(task.step.digest(), Some(owed)))?;
    }
    Ok(ledger.flush()?)
}

impl Task {
    /// Returns the record of the step as one that is not carried out to its end.
    fn begun(&self, digest: Digest, owed: Option<Owed>) -> Record {
        let on_removal = match &self.step.action {
            Action::RemovalHook(command) => Some(Box::new(command.clone())),
            _ => None,
        };
        let record = StepRecord {
            kind: self.step.action.kind().to_owned(),
            title: self.step.title.clone(),
            scope: self.step.scope.to_string(),
            digest,
            done: false,
            on_removal,
            owed,
        };
        Record::Step { key: self.key.clone(), record: Box::new(record) }
    }

    /// Tells whether the step places files, folders and links alone, so that it can share its flushes.
    fn is_quiet(&self) -> bool {
        let quiet = |wanted: &Wanted| matches!(wanted.want.resource, Resource::Path(_));
        self.change != Change::Skip && !self.refresh && !self.wants.is_empty() && self.wants.iter().all(quiet)
    }

    /// What the step itself asks for, folders above left out: those are shared freely.
    fn asked(&self) -> impl Iterator<Item = &Resource> {
        self.wants.iter().filter(|wanted| !wanted.implied).map(|wanted| &wanted.want.resource)
    }
}

/// What was placed and is not durable yet.
#[derive(Debug, Default)]
struct Placements {
    files: Vec<File>,
    folders: BTreeSet<String>,
}

impl Placements {
    fn sync(self, venue: &Venue) -> Result<(), TreeError> {
        let error = |source: std::io::Error| TreeError::new("make durable what was written below", "/", source);
        let Self { files, folders } = self;
        let folders = folders.iter().map(String::as_str);
        if files.len() > SYNC_EACH || folders.len() > SYNC_EACH {
            return venue.root.sync_all(folders).map_err(error);
        }
        files.iter().try_for_each(File::sync_all).and_then(|()| venue.root.sync_names(folders)).map_err(error)
    }
}

/// Tells whether a block's file was made for the block.
pub(super) fn made_file(entry: &Entry) -> bool {
    entry.before.state == State::Block(BlockState::NoFile)
}
