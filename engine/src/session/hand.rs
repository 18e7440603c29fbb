//! One side of a venue under way: its ledger, its plan's steps, what was sent for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use charly_ir::Digest;
use charly_ir::message::{Apply, Change, Claim, Event, Manifest, Need, StepDiff};
use charly_ir::plan::Gate;
use serde::{Deserialize, Serialize};

use super::hands::Party;
use crate::ledger::{
    Book, DeployId, DeployRecord, Holder, Interrupted, Ledger, LedgerError, Probe, Record, Resource, StepKey,
};
use crate::tree;
use crate::venue::Venue;
use crate::worker::{self, Arrival, Assessment, DueReboot, Release, ReleaseOptions, Spool, Tally, WorkError};

/// What a look at a plan showed on one side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Looked {
    /// Its steps, in plan order.
    pub diffs: Vec<StepDiff>,
    /// Numbers of the steps that have something to be done.
    pub due: BTreeSet<u32>,
    /// Reboots that are not done.
    pub reboots: BTreeMap<u32, DueReboot>,
    /// Numbers of due steps that cannot be undone.
    pub not_undoable: Vec<u32>,
    /// What must be sent.
    pub need: Need,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// One side of a venue, in this process.
#[derive(Debug)]
pub(crate) struct Hand {
    pub venue: Venue,
    ledger: Keeping,
    manifests: BTreeMap<u32, Manifest>,
    assessment: Assessment,
    spool: Spool,
    incoming: Option<PathBuf>,
    arrival: Option<Arrival>,
    wanted: BTreeSet<Digest>,
}

/// A ledger that is only read, or one that may be written.
#[derive(Debug)]
enum Keeping {
    Reading(Book),
    Writing(Box<Ledger>),
}

impl Hand {
    /// Reads the side's ledger, without the right to change it.
    pub(crate) fn reading(venue: Venue) -> Result<Self, LedgerError> {
        let book = Ledger::read(&venue.root.outside(&venue.ledger_path()))?;
        Ok(Self::new(venue, Keeping::Reading(book)))
    }

    /// Takes the right to change the side's ledger.
    pub(crate) fn writing(venue: Venue, holder: Holder, probe: Option<Probe>) -> Result<Self, WorkError> {
        let ledger = Ledger::open(&venue.root.outside(&venue.ledger_path()), holder, probe)?;
        if ledger.interrupted().is_some() {
            // A placement that was cut off may have left its file beside the path.
            for (resource, entry) in &ledger.book().entries {
                if let (Resource::Path(path), Some(_)) = (resource, &entry.found) {
                    tree::sweep(&venue.root, path)?;
                }
            }
        }
        Ok(Self::new(venue, Keeping::Writing(Box::new(ledger))))
    }

    fn new(venue: Venue, ledger: Keeping) -> Self {
        Self {
            venue,
            ledger,
            manifests: BTreeMap::new(),
            assessment: Assessment::default(),
            spool: Spool::default(),
            incoming: None,
            arrival: None,
            wanted: BTreeSet::new(),
        }
    }

    /// Returns the ledger's state.
    pub(crate) fn book(&self) -> &Book {
        match &self.ledger {
            Keeping::Reading(book) => book,
            Keeping::Writing(ledger) => ledger.book(),
        }
    }

    fn writable(&mut self) -> Result<&mut Ledger, WorkError> {
        match &mut self.ledger {
            Keeping::Writing(ledger) => Ok(ledger),
            Keeping::Reading(_) => Err(WorkError::Plan("the ledger was opened for reading alone".to_owned())),
        }
    }

    fn end_blob(&mut self) -> Result<(), WorkError> {
        match self.arrival.take_if(|arrival| arrival.is_whole()) {
            Some(arrival) => self.spool.finish(arrival).map_err(|error| spool_error(&error)),
            None => Ok(()),
        }
    }
}

impl Party for Hand {
    fn interrupted(&mut self) -> Option<Interrupted> {
        match &self.ledger {
            Keeping::Reading(_) => None,
            Keeping::Writing(ledger) => ledger.interrupted().cloned(),
        }
    }

    fn deploy(&mut self, deploy: &DeployId) -> Result<Option<DeployRecord>, WorkError> {
        Ok(self.book().deploys.get(deploy).cloned())
    }

    fn supply(&mut self, manifest: &Manifest) -> Result<(), WorkError> {
        self.manifests.insert(manifest.step, manifest.clone());
        Ok(())
    }

    fn look(&mut self, deploy: &DeployId, apply: &Apply) -> Result<Looked, WorkError> {
        let key = || match &self.ledger {
            // Without a ledger that may be written there may be no key; then no secret is known to be there.
            Keeping::Reading(_) => Ok(vec![0; 32]),
            Keeping::Writing(ledger) => Ok(ledger.key()?),
        };
        self.assessment = worker::assess(&self.venue, self.book(), deploy, apply, &self.manifests, &key)?;
        let mut need = self.assessment.need();
        self.wanted = need.blobs.iter().copied().collect();
        self.spool.expect_once(self.assessment.wanted_once());
        if let Keeping::Writing(ledger) = &self.ledger
            && need.manifests.is_empty()
        {
            ledger.keep_incoming(&self.wanted);
        }
        need = Need { manifests: need.manifests, ..self.lacking()? };
        let tasks = &self.assessment.tasks;
        let due = tasks.iter().filter(|task| task.due);
        Ok(Looked {
            diffs: tasks.iter().map(worker::Task::diff).collect(),
            due: due.clone().map(|task| task.index).collect(),
            reboots: tasks.iter().filter_map(|task| Some((task.index, task.reboot?))).collect(),
            not_undoable: due.filter(|task| task.is_not_undoable()).map(|task| task.index).collect(),
            need,
            warnings: self.assessment.warnings.clone(),
        })
    }

    fn lacking(&mut self) -> Result<Need, WorkError> {
        let lacking = self.wanted.iter().filter(|digest| !self.spool.has(digest));
        let blobs: Vec<_> = lacking.copied().collect();
        let have = match &self.ledger {
            Keeping::Reading(_) => BTreeMap::new(),
            Keeping::Writing(ledger) => {
                blobs.iter().map(|digest| (*digest, ledger.arrived(*digest))).filter(|(_, have)| *have > 0).collect()
            }
        };
        Ok(Need { blobs, have, ..Need::default() })
    }

    fn begin_blob(&mut self, digest: Digest, size: u64, from: u64) -> Result<(), WorkError> {
        self.arrival = None;
        if !self.wanted.contains(&digest) {
            return Ok(());
        }
        let Keeping::Writing(ledger) = &self.ledger else { return Ok(()) };
        if Spool::is_large(size) && self.incoming.is_none() {
            self.incoming = Some(ledger.incoming()?);
        }
        let arrival =
            Spool::begin(digest, size, from, self.incoming.as_deref()).map_err(|error| spool_error(&error))?;
        self.arrival = Some(arrival);
        self.end_blob()
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<(), WorkError> {
        if let Some(arrival) = &mut self.arrival {
            arrival.write(bytes).map_err(|error| spool_error(&error))?;
        }
        self.end_blob()
    }

    fn begin(&mut self, run: &str, deploy: &DeployId, what: &str) -> Result<(), WorkError> {
        let begin = Record::Begin {
            format: crate::ledger::FORMAT,
            charly: env!("CARGO_PKG_VERSION").to_owned(),
            run: run.to_owned(),
            deploy: deploy.clone(),
            what: what.to_owned(),
        };
        Ok(self.writable()?.append(begin)?)
    }

    fn record(&mut self, deploy: &DeployId, record: Option<DeployRecord>) -> Result<(), WorkError> {
        let staying: BTreeSet<String> =
            record.iter().flat_map(|record| &record.candies).map(|candy| candy.name.clone()).collect();
        // A removal that was cut off between a candy's last step and its folders left these behind.
        let mine = |claim: &&Claim| claim.deploy == deploy.to_string() && !staying.contains(&claim.candy);
        let entries = self.book().entries.values();
        let left: BTreeSet<Claim> = entries.flat_map(|entry| &entry.implied).filter(mine).cloned().collect();
        let Self { venue, ledger: Keeping::Writing(ledger), .. } = self else { return Ok(()) };
        if !left.is_empty() {
            worker::release_folders(venue, ledger, left, &mut Tally::default())?;
        }
        let record = match record {
            Some(record) => Record::Deploy { id: deploy.clone(), record },
            None => Record::DropDeploy(deploy.clone()),
        };
        Ok(ledger.append(record)?)
    }

    fn converge(
        &mut self,
        apply: &Apply,
        indices: &BTreeSet<u32>,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), (u32, WorkError)> {
        let Self { venue, ledger, spool, assessment, .. } = self;
        let tasks: Vec<_> = assessment.tasks.iter().filter(|task| indices.contains(&task.index)).collect();
        let Keeping::Writing(ledger) = ledger else { return Ok(()) };
        worker::converge(venue, ledger, apply, &tasks, spool, sink, tally)
    }

    fn owe(&mut self, reboots: &BTreeSet<u32>, reached: bool) -> Result<(), WorkError> {
        let Self { venue, ledger, assessment, .. } = self;
        let tasks: Vec<_> = assessment.tasks.iter().filter(|task| reboots.contains(&task.index)).collect();
        let Keeping::Writing(ledger) = ledger else { return Ok(()) };
        worker::owe(venue, ledger, &tasks, reached)
    }

    fn reboot(self: Box<Self>) -> Result<(), WorkError> {
        let nothing = || WorkError::Plan("this venue has nothing that reboots it".to_owned());
        let reboot = self.venue.reboot.clone().ok_or_else(nothing)?;
        self.close()?;
        reboot.ask()
    }

    fn steps_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError> {
        let book = self.book();
        let known = book.steps.keys().filter(|key| key.deploy == *deploy).cloned();
        let claimed = book.claims_of(deploy).into_keys().map(|Claim { candy, step, .. }| StepKey {
            deploy: deploy.clone(),
            candy,
            step,
        });
        Ok(known.chain(claimed).collect())
    }

    fn remains_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError> {
        Ok(self.book().remains_of(deploy).map(|(key, _)| key).collect())
    }

    fn preview(&mut self, steps: &[Release], options: ReleaseOptions) -> Result<Vec<StepDiff>, WorkError> {
        Ok(worker::preview(self.book(), steps, options))
    }

    fn release(
        &mut self,
        steps: &[Release],
        options: ReleaseOptions,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), WorkError> {
        let Self { venue, ledger, .. } = self;
        let Keeping::Writing(ledger) = ledger else { return Ok(()) };
        worker::release(venue, ledger, steps, options, sink, tally)
    }

    fn close(self: Box<Self>) -> Result<(), WorkError> {
        match self.ledger {
            Keeping::Reading(_) => Ok(()),
            Keeping::Writing(ledger) => Ok(ledger.close()?),
        }
    }
}

impl Looked {
    /// Returns the gates that what is due needs.
    pub(crate) fn gates(&self) -> BTreeSet<Gate> {
        let due = self.diffs.iter().filter(|diff| self.due.contains(&diff.index));
        due.filter(|diff| diff.change != Change::Keep).filter_map(|diff| diff.gate).collect()
    }

    /// Returns the reboots that are needed, and shows no others: those that are owed, and those before which something
    /// changes now.
    pub(crate) fn settle_reboots(&mut self) -> BTreeSet<u32> {
        let (mut needed, mut changes) = (BTreeSet::new(), false);
        for diff in &mut self.diffs {
            match self.reboots.get(&diff.index) {
                Some(DueReboot::Passed) => changes = false,
                Some(DueReboot::IfChanged) if !changes => diff.change = Change::Keep,
                Some(DueReboot::IfChanged | DueReboot::Owed) => drop(needed.insert(diff.index)),
                None => changes |= matches!(diff.change, Change::Add | Change::Change),
            }
        }
        needed
    }

    /// Takes what another side found, too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.diffs.extend(other.diffs);
        self.diffs.sort_by_key(|diff| diff.index);
        self.due.extend(other.due);
        self.reboots.extend(other.reboots);
        self.not_undoable.extend(other.not_undoable);
        merge_needs(&mut self.need, other.need);
        self.warnings.extend(other.warnings);
    }
}

/// Takes what another side lacks, too. What both lack is sent once, from where the one that has less goes on.
pub(crate) fn merge_needs(need: &mut Need, other: Need) {
    let Need { manifests, blobs, have, image: _ } = other;
    need.manifests.extend(manifests);
    for digest in blobs {
        let theirs = have.get(&digest).copied().unwrap_or(0);
        let ours = need.have.get(&digest).copied().unwrap_or(0);
        let both = if need.blobs.contains(&digest) {
            ours.min(theirs)
        } else {
            need.blobs.push(digest);
            theirs
        };
        if both > 0 {
            need.have.insert(digest, both);
        } else {
            need.have.remove(&digest);
        }
    }
}

fn spool_error(error: &std::io::Error) -> WorkError {
    let problem = charly_ir::message::Problem::new("cannot take what the controller sends")
        .because(error.to_string())
        .hint("see that the venue has room left, then run the same command again");
    WorkError::Program(Box::new(problem))
}
