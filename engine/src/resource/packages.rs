//! What package steps bring.
//!
//! The resource is the transaction: before it, the ledger holds what there was; after it, what came, and on whose wish. A
//! step that asks for other packages than it did is a second claim beside the first, which is then released.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use charly_ir::facts::PackageManager;
use charly_ir::message::{Change, Detail, Event};
use charly_ir::plan::{Action, Packages, Repo, RepoSource, Step};

use super::{Effect, Report, Undo};
use crate::ledger::{Entry, Ledger, Record, Resource, State};
use crate::packages::{
    Before, Fault, Manager, PackageError, PackageSet, Processes, Teardown, Transaction, install, missing, open,
    plan_release, simulate, snapshot, unmarked,
};
use crate::process::Stream;
use crate::venue::Venue;
use crate::worker::{WorkError, detail};

/// A venue's package managers, opened once, and what was last seen to be installed.
#[derive(Debug, Default)]
pub(crate) struct Desk(RefCell<BTreeMap<PackageManager, Counter>>);

#[derive(Debug)]
struct Counter {
    manager: Box<dyn Manager>,
    seen: Option<PackageSet>,
}

impl Desk {
    /// Takes a manager's indexes for old, as after a repository changed.
    pub(crate) fn mark_stale(&self, venue: &Venue, kind: PackageManager) {
        self.with(venue, kind, |counter| counter.manager.mark_stale());
    }

    fn with<T>(&self, venue: &Venue, kind: PackageManager, work: impl FnOnce(&mut Counter) -> T) -> T {
        let mut counters = self.0.borrow_mut();
        let counter = counters.entry(kind).or_insert_with(|| Counter {
            manager: open(kind, &venue.root.outside("/"), Box::new(Processes)),
            seen: None,
        });
        work(counter)
    }
}

/// What a look at a step's packages showed.
#[derive(Debug, Default)]
pub(crate) struct LookedAtPackages {
    /// What it would bring.
    pub details: Vec<Detail>,
    /// Whether all is there, as asked for and by the marks: an installation would do nothing.
    pub is_settled: bool,
}

/// Says what a step would bring. With what is there nothing is run but a look at the manager's books.
pub(crate) fn look(venue: &Venue, step: &Step) -> Result<LookedAtPackages, WorkError> {
    let request = &*request(venue, step)?;
    if venue.facts.package_manager != Some(request.manager) {
        let what = format!("the venue has no {}, which `{}` needs", request.manager.name(), step.title);
        return Err(WorkError::Plan(what));
    }
    venue.desk.with(venue, request.manager, |counter| {
        let now = match &counter.seen {
            Some(now) => now.clone(),
            None => counter.seen.insert(counter.manager.snapshot().map_err(unfit)?).clone(),
        };
        let names = missing(request, &now);
        let brings = |details| Ok(LookedAtPackages { details, is_settled: false });
        if names.is_empty() {
            let is_settled = unmarked(request, &now).is_empty();
            return Ok(LookedAtPackages { details: Vec::new(), is_settled });
        }
        // A look builds nothing and fetches nothing.
        let later = match step.action {
            Action::Builder(_) if request.files.is_empty() => Some("built"),
            Action::RepoChange(_) => Some("fetched"),
            _ => None,
        };
        if let Some(later) = later {
            let note = || Some(format!("what it brings shows once it is {later}"));
            return brings(names.iter().map(|name| detail(Change::Add, "package", name, note())).collect());
        }
        match simulate(counter.manager.as_mut(), request, &now, None) {
            Ok(simulation) => {
                simulation.check(&request.exclude).map_err(unfit)?;
                brings(simulation.details())
            }
            // Indexes that were never fetched, or are too old: the run itself fetches them, and a look must not.
            Err(PackageError {
                fault: Fault::Unknown { .. } | Fault::Unmet | Fault::Offline | Fault::Stale, ..
            }) => {
                let note = || Some("what it brings shows once the indexes are fetched".to_owned());
                brings(names.iter().map(|name| detail(Change::Add, "package", name, note())).collect())
            }
            Err(error) => Err(unfit(error)),
        }
    })
}

/// Notes what there is before an installation. An interrupted manager is repaired first, and indexes are fetched if need be.
pub(super) fn before(venue: &Venue, step: &Step) -> Result<serde_json::Value, WorkError> {
    let request = &*request(venue, step)?;
    venue.desk.with(venue, request.manager, |counter| {
        let mut quiet = |_: Stream, _: &[u8]| {};
        let manager = counter.manager.as_mut();
        let now = snapshot(manager, &mut quiet).map_err(failed)?;
        let simulation = simulate(manager, request, &now, Some(&mut quiet)).map_err(failed)?;
        simulation.check(&request.exclude).map_err(failed)?;
        let before = Before::take(&venue.root.outside("/"), request, &now, &simulation).map_err(failed)?;
        serde_json::to_value(before).map_err(|error| WorkError::Plan(error.to_string()))
    })
}

/// Installs what is missing, and closes the books on it.
pub(super) fn converge(effect: &mut Effect<'_>, resource: &Resource) -> Result<(), WorkError> {
    let request = &*request(effect.venue, &effect.task.step)?;
    let entry = effect.ledger.book().entries.get(resource).cloned();
    let mut entry = entry.ok_or_else(|| WorkError::Plan("a package step without its intent".to_owned()))?;
    let before = read_before(entry.found.as_ref().unwrap_or(&entry.before.state))?;
    let old = read_transaction(&entry.want);
    let (venue, root) = (effect.venue, effect.venue.root.outside("/"));
    let index = effect.task.index;
    let mut new = venue.desk.with(venue, request.manager, |counter| {
        counter.seen = None;
        let mut output = streamed(index, effect.sink);
        let manager = counter.manager.as_mut();
        let now = snapshot(manager, &mut output).map_err(failed)?;
        install(manager, request, &now, &mut output).map_err(failed)?;
        let now = manager.snapshot().map_err(failed)?;
        before.finish(manager, &root, &now).map_err(failed)
    })?;
    match old {
        Some(old) if old.is_remainder() => {
            venue
                .desk
                .with(venue, request.manager, |counter| new.absorb(&old, counter.manager.as_mut()))
                .map_err(failed)?;
        }
        Some(old) => {
            let purge = false;
            let heir = Some(&mut new);
            tear_down(venue, effect.ledger, resource, request.manager, &old, heir, purge, index, effect.sink)?;
        }
        None => {}
    }
    entry.want = written(new)?;
    Ok(effect.ledger.append(Record::Own { step: index, resource: resource.clone(), entry: Box::new(entry) })?)
}

/// Takes away what came, but for what others want or need.
pub(super) fn restore(undo: &mut Undo<'_>, resource: &Resource, entry: &Entry) -> Result<Report, WorkError> {
    let kind = undo.venue.facts.package_manager;
    let kind = kind.ok_or_else(|| WorkError::Plan("the venue has no package manager any more".to_owned()))?;
    let venue = undo.venue;
    let tx = match (&entry.found, read_transaction(&entry.want)) {
        (None, Some(tx)) => tx,
        (found, former) => {
            // Cut off before the books were closed: what came is told by what was there before.
            let before = read_before(found.as_ref().unwrap_or(&entry.before.state))?;
            venue
                .desk
                .with(venue, kind, |counter| {
                    let mut output = streamed(undo.index, undo.sink);
                    let now = snapshot(counter.manager.as_mut(), &mut output)?;
                    let mut tx = before.finish(counter.manager.as_mut(), &venue.root.outside("/"), &now)?;
                    if let Some(former) = former {
                        tx.absorb(&former, counter.manager.as_mut())?;
                    }
                    Ok(tx)
                })
                .map_err(failed)?
        }
    };
    if tx.is_remainder() && !undo.purge {
        return Ok(Report { kept: tx.left, details: Vec::new(), remainder: Some(entry.want.clone()) });
    }
    tear_down(venue, undo.ledger, resource, kind, &tx, None, undo.purge, undo.index, undo.sink)
}

/// Returns what undoing a transaction takes away, as far as the ledger alone can tell.
pub(crate) fn preview(entry: &Entry) -> Vec<Detail> {
    let Some(tx) = read_transaction(&entry.want) else { return Vec::new() };
    if tx.is_remainder() {
        return tx.left.iter().map(|left| detail(Change::Remove, "data", &left.subject, None)).collect();
    }
    let gone = |(name, package): (&String, &crate::packages::Installed)| {
        detail(Change::Remove, "package", &format!("{name} {}", package.version), None)
    };
    tx.installed.iter().map(gone).collect()
}

/// Tells which packages are not there any more.
pub(super) fn drift(venue: &Venue, want: &State) -> Result<Option<String>, WorkError> {
    let (Some(tx), Some(kind)) = (read_transaction(want), venue.facts.package_manager) else { return Ok(None) };
    let now = venue.desk.with(venue, kind, |counter| counter.manager.snapshot().map_err(failed))?;
    let gone: Vec<_> = tx.wanted.iter().filter(|name| now.resolve(name).is_none()).cloned().collect();
    Ok((!gone.is_empty()).then(|| format!("not installed any more: {}", gone.join(", "))))
}

/// Tells whether a transaction brought a package or was asked for it.
pub(super) fn brought(state: &State, name: &str) -> bool {
    read_transaction(state).is_some_and(|tx| tx.installed.contains_key(name) || tx.wanted.contains(name))
}

/// Releases a transaction beside all others, and hands on what they want or need. `heir` is one that the ledger does not
/// hold yet.
#[expect(clippy::too_many_arguments, reason = "the release's whole circumstances, told in two places")]
fn tear_down(
    venue: &Venue,
    ledger: &mut Ledger,
    resource: &Resource,
    kind: PackageManager,
    tx: &Transaction,
    heir: Option<&mut Transaction>,
    purge: bool,
    index: u32,
    sink: &mut dyn FnMut(Event),
) -> Result<Report, WorkError> {
    let entries = ledger.book().entries.iter();
    let mut others: Vec<(Resource, Entry, Transaction)> = entries
        .filter(|(other, _)| *other != resource)
        .filter_map(|(other, entry)| Some((other.clone(), entry.clone(), read_transaction(&entry.want)?)))
        .collect();
    let paths = ledger.book().entries.keys().filter_map(|resource| match resource {
        Resource::Path(path) => Some(PathBuf::from(path.trim_start_matches('/'))),
        _ => None,
    });
    let claimed: BTreeSet<PathBuf> = paths.collect();
    let root = venue.root.outside("/");
    let torn = {
        // The heir is the first: what both it and another want is the new claim of the very same step.
        let beside: Vec<&Transaction> = heir.as_deref().into_iter().chain(others.iter().map(|(.., tx)| tx)).collect();
        venue.desk.with(venue, kind, |counter| {
            counter.seen = None;
            let manager = counter.manager.as_mut();
            let mut output = streamed(index, sink);
            let now = snapshot(manager, &mut output).map_err(failed)?;
            let plan = plan_release(tx, &beside, &now);
            let teardown = Teardown { root: &root, tx, plan: &plan, others: &beside, claimed: &claimed };
            let survey = teardown.survey(manager).map_err(failed)?;
            teardown.run(manager, &now, &survey, purge, &mut output).map_err(failed)
        })?
    };
    let offset = usize::from(heir.is_some());
    if let Some(heir) = heir {
        heir.inherit(tx, &torn.transfers, 0);
    }
    for (place, (other, entry, transaction)) in others.iter_mut().enumerate() {
        let former = transaction.clone();
        transaction.inherit(tx, &torn.transfers, place + offset);
        if *transaction != former {
            entry.want = written(transaction.clone())?;
            ledger.append(Record::Own { step: index, resource: other.clone(), entry: Box::new(entry.clone()) })?;
        }
    }
    let details = torn.removed.iter().map(|name| detail(Change::Remove, "package", name, None)).collect();
    let remainder = torn.remainder.map(written).transpose()?;
    Ok(Report { kept: torn.kept, details, remainder })
}

fn request<'s>(venue: &Venue, step: &'s Step) -> Result<Cow<'s, Packages>, WorkError> {
    match &step.action {
        Action::SystemPackages(request) => Ok(Cow::Borrowed(request)),
        Action::Builder(builder) => Ok(Cow::Owned(Packages {
            manager: PackageManager::Pacman,
            install: builder.packages.clone(),
            exclude: Vec::new(),
            options: Vec::new(),
            modules: Vec::new(),
            files: package_files(venue, &venue.resolve(&builder.to)),
        })),
        Action::RepoChange(Repo { manager, source: RepoSource::Package { url, package }, .. }) => {
            Ok(Cow::Owned(Packages {
                manager: *manager,
                install: vec![package.clone()],
                exclude: Vec::new(),
                options: Vec::new(),
                modules: Vec::new(),
                files: vec![url.clone()],
            }))
        }
        other => Err(WorkError::Plan(format!("a `{}` step brings no packages", other.kind()))),
    }
}

/// Returns the files of packages in a folder; none where it is not there yet.
fn package_files(venue: &Venue, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(venue.root.outside(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<_> =
        names.filter(|name| name.contains(".pkg.tar")).map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    files
}

fn read_before(state: &State) -> Result<Before, WorkError> {
    let State::Packages(value) = state else {
        return Err(WorkError::Plan("the ledger does not say what packages there were before".to_owned()));
    };
    serde_json::from_value(value.clone()).map_err(|error| WorkError::Plan(format!("the ledger's packages: {error}")))
}

fn written(tx: Transaction) -> Result<State, WorkError> {
    serde_json::to_value(tx).map(State::Packages).map_err(|error| WorkError::Plan(error.to_string()))
}

fn read_transaction(state: &State) -> Option<Transaction> {
    let State::Packages(value) = state else { return None };
    serde_json::from_value(value.clone()).ok()
}

fn streamed(index: u32, sink: &mut dyn FnMut(Event)) -> impl FnMut(Stream, &[u8]) {
    move |stream, bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        sink(Event::Output { index, text, stderr: stream == Stream::Stderr });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unfit(error: PackageError) -> WorkError {
    WorkError::Unfit(Box::new(error.problem()))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: PackageError) -> WorkError {
    WorkError::Program(Box::new(error.problem()))
}
