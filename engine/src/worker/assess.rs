//! Compares what steps want with the venue and the ledger, touching nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use charly_ir::Digest;
use charly_ir::message::{Apply, Change, Claim, Detail, Manifest, Need, StepDiff};
use charly_ir::plan::{Action, Op, Repo, RepoSource, Scope, Step};
use serde::{Deserialize, Serialize};

use super::WorkError;
use super::lower::{Lowered, lower};
use crate::ledger::{Book, DeployId, Entry, Resource, State, StepKey};
use crate::resource::{self, Source, Want, path};
use crate::tree::{self, Node};
use crate::venue::{Side, Venue};

/// What a plan comes down to on one side of a venue.
#[derive(Debug, Default)]
pub(crate) struct Assessment {
    /// This side's steps, in plan order.
    pub tasks: Vec<Task>,
    /// What the reader should know before saying yes.
    pub warnings: Vec<String>,
}

/// One step, compared.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its global number.
    pub index: u32,
    /// Its name in the ledger.
    pub key: StepKey,
    /// The step.
    pub step: Step,
    /// What it wants, folders above included, in the order they are made.
    pub wants: Vec<Wanted>,
    /// What becomes of it.
    pub change: Change,
    /// What becomes of its things; unchanged ones are left out.
    pub details: Vec<Detail>,
    /// Whether there is anything to be done, be it only to write a claim down.
    pub due: bool,
    /// Whether the controller must fetch something before more can be told.
    pub needs_manifest: bool,
    /// Who owns what it places: user and group.
    pub owner: (u32, u32),
    /// Whether a service that runs already must take up files that this run changes.
    pub refresh: bool,
    /// Of a reboot that is not done: what is known of it.
    pub reboot: Option<DueReboot>,
}

/// What is known of a reboot that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DueReboot {
    /// It is needed if something before it changes now.
    IfChanged,
    /// It is needed in any case: something before it changed in an earlier run, and there was no boot since.
    Owed,
    /// All before it was carried out, and there was a boot since: it only is to be written down.
    Passed,
}

/// A thing that a step wants, compared.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The thing.
    pub want: Want,
    /// True for a folder above what the step asks for.
    pub implied: bool,
    /// Whether the venue has it so.
    pub met: bool,
    /// Whether the ledger alone is to learn of it: the venue had it so before anybody claimed it.
    pub idle: bool,
}

/// Tells which side carries a step out.
pub(crate) fn locate(scope: &Scope) -> Side {
    if scope.is_system() { Side::System } else { Side::User }
}

/// Compares this side's steps of a plan with the venue. With `manifests`, what fetching steps place is known.
pub(crate) fn assess(
    venue: &Venue,
    book: &Book,
    deploy: &DeployId,
    apply: &Apply,
    manifests: &BTreeMap<u32, Manifest>,
    key: &dyn Fn() -> Result<Vec<u8>, WorkError>,
) -> Result<Assessment, WorkError> {
    let mine = |scope: &Scope| locate(scope) == venue.side;
    let mut all = Vec::new();
    for (index, (candy, step)) in (0_u32..).zip(apply.plan.steps()) {
        if mine(&step.scope) && step.venue != charly_ir::plan::Venue::Skip {
            let key = StepKey { deploy: deploy.clone(), candy: candy.name.clone(), step: step.id.clone() };
            all.push((index, key, step));
        }
    }
    let current: BTreeSet<Claim> = all.iter().map(|(_, key, _)| key.claim()).collect();
    let mut assessor = Assessor {
        venue,
        book,
        apply,
        deploy: deploy.to_string(),
        claims: book.claims_of(deploy),
        current,
        planned: BTreeMap::new(),
        key,
        warnings: Vec::new(),
        folders: RefCell::default(),
    };
    let mut tasks = Vec::with_capacity(all.len());
    for (index, key, step) in all {
        tasks.push(assessor.task(index, key, step, manifests.get(&index))?);
    }
    mark_refreshes(&mut tasks);
    Ok(Assessment { tasks, warnings: assessor.warnings })
}

/// A service that runs already would not notice that this run changes files of its candy.
fn mark_refreshes(tasks: &mut [Task]) {
    let changes_files = |task: &&Task| {
        let path =
            |wanted: &Wanted| matches!(wanted.want.resource, Resource::Path(_)) && !wanted.met && !wanted.implied;
        let is_known = task.change != Change::Unknown;
        task.due && is_known && (task.needs_manifest || task.wants.iter().any(path))
    };
    let candies: BTreeSet<String> = tasks.iter().filter(changes_files).map(|task| task.key.candy.clone()).collect();
    for task in tasks {
        let unit = task.wants.iter().any(|wanted| matches!(wanted.want.resource, Resource::Unit { .. }) && wanted.met);
        if unit && candies.contains(&task.key.candy) {
            task.refresh = true;
            task.due = true;
            if task.change == Change::Keep {
                task.change = Change::Change;
                let note = Some("it takes up the candy's changed files".to_owned());
                task.details.push(detail(Change::Change, "service", &task.step.title, note));
            }
        }
    }
}

struct Assessor<'a> {
    venue: &'a Venue,
    book: &'a Book,
    apply: &'a Apply,
    deploy: String,
    /// What each step of this deploy claims already.
    claims: BTreeMap<Claim, Vec<Resource>>,
    /// The claims of the plan's own steps; others of this deploy are on their way out.
    current: BTreeSet<Claim>,
    /// What steps before the one looked at want.
    planned: BTreeMap<Resource, (State, Claim, bool)>,
    key: &'a dyn Fn() -> Result<Vec<u8>, WorkError>,
    warnings: Vec<String>,
    /// Folders seen to be there.
    folders: RefCell<BTreeSet<String>>,
}

impl Assessor<'_> {
    fn task(&mut self, index: u32, key: StepKey, step: &Step, manifest: Option<&Manifest>) -> Result<Task, WorkError> {
        let owner = crate::identity::owner_of(self.venue, &step.scope)?;
        let mut task = Task {
            index,
            key,
            step: step.clone(),
            wants: Vec::new(),
            change: Change::Keep,
            details: Vec::new(),
            due: false,
            needs_manifest: false,
            owner,
            refresh: false,
            reboot: None,
        };
        let secrets = |name: &str| self.secret(name);
        match lower(self.venue, owner, &task.key, step, manifest, &secrets)? {
            Lowered::Wants(wants) => self.compare(&mut task, wants)?,
            Lowered::NeedsManifest => self.compare_unfetched(&mut task)?,
            Lowered::Unsupported(reason) => {
                task.change = Change::Skip;
                task.details.push(detail(Change::Skip, task.step.action.kind(), &task.step.title, Some(reason)));
            }
            Lowered::Nothing => task.due = !self.is_done(&task),
            Lowered::Reboot => {
                task.reboot = self.reboot(&task);
                task.due = task.reboot.is_some();
                task.change = match task.reboot {
                    Some(DueReboot::IfChanged | DueReboot::Owed) => Change::Add,
                    Some(DueReboot::Passed) | None => Change::Keep,
                };
            }
        }
        Ok(task)
    }

    fn secret(&self, name: &str) -> Result<(Vec<u8>, Digest), WorkError> {
        let value = self.apply.secrets.get(name);
        let value = value.ok_or_else(|| WorkError::Plan(format!("the secret `{name}` was not given")))?;
        let bytes = value.expose().as_bytes().to_vec();
        let keyed = resource::keyed_digest(&(self.key)()?, &bytes);
        Ok((bytes, keyed))
    }

    fn reboot(&self, task: &Task) -> Option<DueReboot> {
        if self.is_done(task) {
            return None;
        }
        let owed = self.book.steps.get(&task.key).and_then(|record| record.owed.as_ref());
        Some(owed.map_or(DueReboot::IfChanged, |owed| match self.venue.facts.boot.differs_from(&owed.boot) {
            false => DueReboot::Owed,
            true if owed.reached => DueReboot::Passed,
            true => DueReboot::IfChanged,
        }))
    }

    fn is_done(&self, task: &Task) -> bool {
        let record = self.book.steps.get(&task.key);
        record.is_some_and(|record| record.done && record.digest == task.step.digest())
    }

    fn compare(&mut self, task: &mut Task, wants: Vec<Want>) -> Result<(), WorkError> {
        let claim = task.key.claim();
        let mut all_met = true;
        for want in wants {
            if self.is_folder_by_link(&want) {
                continue;
            }
            for parent in self.parents(&want, task.owner) {
                all_met &= self.compare_one(task, &claim, parent, true)?;
            }
            all_met &= self.compare_one(task, &claim, want, false)?;
        }
        let asked: BTreeSet<_> = task.wants.iter().map(|wanted| &wanted.want.resource).collect();
        let dropped =
            self.claims.get(&claim).is_some_and(|claimed| claimed.iter().any(|resource| !asked.contains(resource)));
        task.due = !all_met || dropped || !self.is_done(task);
        task.change = summarize(task, self.book.steps.contains_key(&task.key));
        Ok(())
    }

    /// Compares one thing, and tells whether both venue and ledger have it as wanted.
    fn compare_one(&mut self, task: &mut Task, claim: &Claim, want: Want, implied: bool) -> Result<bool, WorkError> {
        let entry = self.book.entries.get(&want.resource);
        self.judge_claims(claim, &want, entry, implied)?;
        let mut idle = false;
        let (met, change, note) = match &want.resource {
            // Whatever mode a folder above has, it is not this step's to judge.
            Resource::Path(path) if implied && self.is_folder(path) => (true, Change::Keep, None),
            Resource::Packages(_) => {
                let met = self.look_at_packages(task, entry, &mut idle)?;
                (met, Change::Add, None)
            }
            _ => self.look(task, &want, entry)?,
        };
        let claimed = entry.is_some_and(|entry| {
            let claimed =
                if implied { entry.implied.contains(&task.key.candy_claim()) } else { entry.claims.contains(claim) };
            let agrees = implied || want.state == State::Anything || entry.want == want.state;
            claimed && entry.found.is_none() && agrees
        });
        let told = self.planned.get(&want.resource).is_some_and(|(.., yields)| *yields || implied);
        if !met && !told && !matches!(want.resource, Resource::Packages(_)) {
            task.details.push(detail(change, what(&want), want.resource.subject(), note));
        }
        if self.planned.get(&want.resource).is_none_or(|(.., yields)| *yields && !implied) {
            self.planned.insert(want.resource.clone(), (want.state.clone(), claim.clone(), implied));
        }
        if !task.wants.iter().any(|wanted| wanted.want.resource == want.resource) {
            task.wants.push(Wanted { want, implied, met, idle });
        }
        Ok(met && claimed)
    }

    /// Looks at the venue: whether the thing is as wanted, and if not what would become of it and why.
    fn look(
        &self,
        task: &Task,
        want: &Want,
        entry: Option<&Entry>,
    ) -> Result<(bool, Change, Option<String>), WorkError> {
        if let Resource::Command(_) = &want.resource {
            return Ok(self.look_at_command(task));
        }
        let looked = match resource::look(self.venue, want, self.key) {
            Err(WorkError::Tree(error)) if self.venue.is_blind_for(&error) => {
                return Ok((false, Change::Unknown, Some("only root can tell".to_owned())));
            }
            looked => looked?,
        };
        let Some(difference) = looked.difference else { return Ok((true, Change::Keep, None)) };
        if looked.absent {
            let gone = entry.is_some_and(|entry| entry.found.is_none()).then(|| "it was removed since".to_owned());
            return Ok((false, Change::Add, gone));
        }
        let edited = entry.is_some_and(|entry| {
            entry.found.is_none() && entry.want == want.state && matches!(want.resource, Resource::Path(_))
        });
        let note = if edited { format!("edited since: {difference}; a copy is kept") } else { difference };
        Ok((false, Change::Change, Some(note)))
    }

    /// Packages are there when none that the step names is missing and the books on them are closed. `idle` is set where
    /// nothing but the books is missing.
    fn look_at_packages(&self, task: &mut Task, entry: Option<&Entry>, idle: &mut bool) -> Result<bool, WorkError> {
        let closed = entry.is_some_and(|entry| entry.found.is_none()) && self.is_done(task);
        let looked = resource::look_at_packages(self.venue, &task.step)?;
        *idle = entry.is_none() && looked.is_settled;
        let met = closed && looked.details.is_empty();
        task.details.extend(looked.details);
        Ok(met)
    }

    fn look_at_command(&self, task: &Task) -> (bool, Change, Option<String>) {
        let asked = |name: &String| *name == task.key.step || *name == format!("{}/{}", task.key.candy, task.key.step);
        if self.apply.rerun.iter().any(asked) {
            return (false, Change::Change, Some("asked for by --rerun".to_owned()));
        }
        let digest = task.step.digest();
        let record = self.book.steps.get(&task.key);
        let done = record.is_some_and(|record| record.done);
        match record {
            Some(record) if record.digest != digest && done => {
                return (false, Change::Change, Some("it reads differently now".to_owned()));
            }
            Some(record) if record.digest == digest && done => {}
            // What a ledger knows is later than the image that the machine was made of.
            record if record.is_none_or(|record| record.digest == digest) && self.venue.ran_in_image(&task.step) => {}
            _ => return (false, Change::Add, None),
        }
        let paths = match &task.step.action {
            Action::Op(Op::Command(command)) => command.uninstall.iter().chain(&command.creates).collect(),
            Action::Op(Op::Download(download)) => download.uninstall.iter().collect::<Vec<_>>(),
            Action::RepoChange(Repo { source: RepoSource::Copr { path, .. }, .. }) => vec![path],
            _ => Vec::new(),
        };
        for path in paths {
            let path = self.venue.resolve(path);
            if !matches!(path::observe(self.venue, &path), Ok(node) if node != Node::Absent) {
                let change = if done { Change::Change } else { Change::Add };
                return (false, change, Some(format!("`{path}` is gone")));
            }
        }
        (true, Change::Keep, None)
    }

    /// Judges a fetching step before anything is fetched: if the ledger says what it placed, and all of that is there, there
    /// is nothing to fetch.
    fn compare_unfetched(&mut self, task: &mut Task) -> Result<(), WorkError> {
        let claimed = self.claims.get(&task.key.claim()).cloned().unwrap_or_default();
        let mut wants = Vec::new();
        let mut met = self.is_done(task) && !claimed.is_empty();
        for resource in claimed {
            let Some(entry) = self.book.entries.get(&resource) else { continue };
            let want = Want { resource, state: entry.want.clone(), source: Source::None };
            met &= entry.found.is_none() && self.look(task, &want, Some(entry))?.0;
            wants.push(Wanted { want, implied: false, met: true, idle: false });
        }
        if met {
            for wanted in &wants {
                let claim = (wanted.want.state.clone(), task.key.claim(), wanted.implied);
                self.planned.entry(wanted.want.resource.clone()).or_insert(claim);
            }
            task.wants = wants;
            return Ok(());
        }
        task.needs_manifest = true;
        task.due = true;
        task.change = if self.book.steps.contains_key(&task.key) { Change::Change } else { Change::Add };
        if let Action::Op(Op::Download(download)) = &task.step.action {
            let path = self.venue.resolve(&download.to);
            task.details.push(detail(task.change, "download", &path, Some(format!("from {}", download.url))));
        }
        if let Action::Builder(builder) = &task.step.action {
            let path = self.venue.resolve(&builder.to);
            task.details.push(detail(task.change, "build", &path, Some(format!("built with {}", builder.kind))));
        }
        Ok(())
    }

    /// Two deploys may claim one thing only if they want the same state, and so may two steps of one plan.
    fn judge_claims(&self, claim: &Claim, want: &Want, entry: Option<&Entry>, implied: bool) -> Result<(), WorkError> {
        if implied || want.state == State::Anything {
            return Ok(());
        }
        let conflict = |owner: &Claim| WorkError::Conflict {
            what: what(want).to_owned(),
            subject: want.resource.subject().to_owned(),
            owner: format!("{}/{}", deploy_name(&owner.deploy), owner.candy),
        };
        if let Some((state, owner, false)) = self.planned.get(&want.resource)
            && *state != want.state
            && *state != State::Anything
        {
            return Err(conflict(owner));
        }
        let Some(entry) = entry.filter(|entry| entry.want != want.state && entry.want != State::Anything) else {
            return Ok(());
        };
        let stays = |other: &&Claim| *other != claim && (other.deploy != self.deploy || self.current.contains(other));
        // A step of this very plan is judged above, by what it wants now.
        match entry.claims.iter().filter(stays).find(|other| other.deploy != self.deploy) {
            Some(owner) => Err(conflict(owner)),
            None => Ok(()),
        }
    }

    /// Returns the folders above a thing that are charly's business: those that are missing, and those that charly made,
    /// which must stay as long as anything in them does.
    fn parents(&self, want: &Want, owner: (u32, u32)) -> Vec<Want> {
        let path = match &want.resource {
            Resource::Path(path) | Resource::Block { path, .. } if want.state != State::Anything => path,
            _ => return Vec::new(),
        };
        let mut found = Vec::new();
        let mut folder = tree::parent(path);
        while folder != "/" {
            let resource = Resource::Path(folder.to_owned());
            let fresh = State::Node(Node::Dir { mode: 0o755, uid: owner.0, gid: owner.1 });
            let is_dir = |state: &State| matches!(state, State::Node(Node::Dir { .. }));
            if let Some((state, ..)) = self.planned.get(&resource).filter(|(state, ..)| is_dir(state)) {
                found.push(Want::new(resource, state.clone()));
            } else if let Some(entry) = self.book.entries.get(&resource).filter(|entry| is_dir(&entry.want)) {
                found.push(Want::new(resource, entry.want.clone()));
            } else if !self.is_folder(folder) {
                found.push(Want::new(resource, fresh));
            }
            folder = tree::parent(folder);
        }
        found.reverse();
        found
    }

    /// Tells whether a folder is there. Most things lie in few folders, and nothing changes them while things are compared.
    fn is_folder(&self, path: &str) -> bool {
        if self.folders.borrow().contains(path) {
            return true;
        }
        let there = self.venue.root.is_folder(path);
        if there {
            self.folders.borrow_mut().insert(path.to_owned());
        }
        there
    }

    /// A folder asked for where a link leads to one is as good as there: people keep their folders elsewhere.
    fn is_folder_by_link(&self, want: &Want) -> bool {
        let (Resource::Path(path), State::Node(Node::Dir { .. })) = (&want.resource, &want.state) else { return false };
        matches!(path::observe(self.venue, path), Ok(Node::Link { .. })) && self.venue.root.is_folder(path)
    }
}

impl Assessment {
    /// Returns what the controller must send: manifests first, blobs once it is known which.
    pub(crate) fn need(&self) -> Need {
        let mut need = Need::default();
        let mut blobs = BTreeSet::new();
        for task in self.tasks.iter().filter(|task| task.due) {
            if task.needs_manifest {
                need.manifests.push(task.index);
            }
            need.blobs.extend(task.blobs().filter(|digest| blobs.insert(*digest)));
        }
        need
    }

    /// Returns the blobs that one thing alone is made of.
    pub(crate) fn wanted_once(&self) -> BTreeSet<Digest> {
        let (mut once, mut more) = (BTreeSet::new(), BTreeSet::new());
        for digest in self.tasks.iter().filter(|task| task.due).flat_map(Task::blobs) {
            if !once.insert(digest) {
                more.insert(digest);
            }
        }
        &once - &more
    }
}

impl Task {
    /// Returns the blobs that its things are made of, as often as they are.
    fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.wants.iter().filter(|wanted| !wanted.met).filter_map(|wanted| match wanted.want.source {
            Source::Blob { digest, .. } => Some(digest),
            _ => None,
        })
    }

    /// Tells whether nothing but a person can undo the step.
    pub(crate) fn is_not_undoable(&self) -> bool {
        match &self.step.action {
            Action::Op(Op::Command(command)) => command.uninstall.is_empty(),
            Action::Op(Op::Download(download)) => {
                download.extract == charly_ir::plan::Extract::Sh && download.uninstall.is_empty()
            }
            _ => false,
        }
    }

    /// Returns what becomes of the step, for people.
    pub(crate) fn diff(&self) -> StepDiff {
        StepDiff {
            index: self.index,
            candy: self.key.candy.clone(),
            id: self.key.step.clone(),
            title: self.step.title.clone(),
            kind: self.step.action.kind().to_owned(),
            scope: self.step.scope.to_string(),
            gate: self.step.gate,
            change: self.change,
            details: self.details.clone(),
        }
    }
}

fn summarize(task: &Task, known: bool) -> Change {
    if task.wants.iter().all(|wanted| wanted.met || wanted.idle) {
        return Change::Keep;
    }
    if !task.details.is_empty() && task.details.iter().all(|detail| detail.change == Change::Unknown) {
        return Change::Unknown;
    }
    let changes = task.details.iter().any(|detail| detail.change == Change::Change);
    if changes || known && task.wants.iter().any(|wanted| wanted.met && !wanted.implied) {
        Change::Change
    } else {
        Change::Add
    }
}

fn what(want: &Want) -> &'static str {
    match &want.state {
        State::Node(node) => node.what(),
        State::Secret { .. } => "secret file",
        _ => want.resource.what(),
    }
}

pub(crate) fn detail(change: Change, what: &str, subject: &str, note: Option<String>) -> Detail {
    Detail { change, what: what.to_owned(), subject: subject.to_owned(), note }
}

/// Returns a deploy's name without whose it is, as its user knows it.
pub(crate) fn deploy_name(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, name)| name)
}
