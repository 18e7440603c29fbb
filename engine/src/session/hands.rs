//! The sides of a venue, wherever each is carried out.

use std::collections::BTreeSet;

use charly_ir::Digest;
use charly_ir::message::{Apply, Event, Manifest, Need, StepDiff};

use super::hand::{Looked, merge_needs};
use crate::ledger::{DeployId, DeployRecord, Interrupted, StepKey};
use crate::venue::Side;
use crate::worker::{Release, ReleaseOptions, Tally, WorkError};

/// One side of a venue, in this process or in root's.
pub(crate) trait Party {
    fn interrupted(&mut self) -> Option<Interrupted>;
    fn deploy(&mut self, deploy: &DeployId) -> Result<Option<DeployRecord>, WorkError>;
    fn steps_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError>;
    /// Returns the steps of a deploy that are gone but for data.
    fn remains_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError>;
    fn look(&mut self, deploy: &DeployId, apply: &Apply) -> Result<Looked, WorkError>;
    fn supply(&mut self, manifest: &Manifest) -> Result<(), WorkError>;
    /// Returns the blobs that it still lacks of those that a look found wanted.
    fn lacking(&mut self) -> Result<Need, WorkError>;
    fn begin_blob(&mut self, digest: Digest, size: u64, from: u64) -> Result<(), WorkError>;
    fn blob(&mut self, bytes: &[u8]) -> Result<(), WorkError>;
    fn begin(&mut self, run: &str, deploy: &DeployId, what: &str) -> Result<(), WorkError>;
    fn record(&mut self, deploy: &DeployId, record: Option<DeployRecord>) -> Result<(), WorkError>;
    fn preview(&mut self, steps: &[Release], options: ReleaseOptions) -> Result<Vec<StepDiff>, WorkError>;
    fn converge(
        &mut self,
        apply: &Apply,
        indices: &BTreeSet<u32>,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), (u32, WorkError)>;
    /// Writes down that reboots are owed, for changes that are about to be made or, where `reached`, were made.
    fn owe(&mut self, reboots: &BTreeSet<u32>, reached: bool) -> Result<(), WorkError>;
    /// Ends the run, and asks the venue to reboot.
    fn reboot(self: Box<Self>) -> Result<(), WorkError>;
    fn release(
        &mut self,
        steps: &[Release],
        options: ReleaseOptions,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), WorkError>;
    fn close(self: Box<Self>) -> Result<(), WorkError>;
}

/// The parties to one run: the user's always, root's where the run concerns it.
pub(crate) struct Hands {
    parties: Vec<(Side, Box<dyn Party>)>,
}

impl Hands {
    /// Takes the parties, the user's first: locks are taken in that order everywhere.
    pub(crate) fn new(parties: Vec<(Side, Box<dyn Party>)>) -> Self {
        Self { parties }
    }

    /// Does something with each party.
    pub(crate) fn each<T, E>(&mut self, mut work: impl FnMut(&mut dyn Party) -> Result<T, E>) -> Result<Vec<T>, E> {
        self.parties.iter_mut().map(|(_, party)| work(party.as_mut())).collect()
    }

    /// Returns the party of a side.
    pub(crate) fn of(&mut self, side: Side) -> Option<&mut (dyn Party + 'static)> {
        self.parties.iter_mut().find(|(there, _)| *there == side).map(|(_, party)| party.as_mut())
    }

    /// Compares a plan with the venue, on all sides.
    pub(crate) fn look(&mut self, deploy: &DeployId, apply: &Apply) -> Result<Looked, WorkError> {
        let mut all = Looked::default();
        for looked in self.each(|party| party.look(deploy, apply))? {
            all.merge(looked);
        }
        Ok(all)
    }

    /// Returns the blobs that any side still lacks.
    pub(crate) fn lacking(&mut self) -> Result<Need, WorkError> {
        let mut all = Need::default();
        for need in self.each(|party| party.lacking())? {
            merge_needs(&mut all, need);
        }
        Ok(all)
    }

    /// Returns what a deploy is: as the user's ledger has it, else as root's does.
    pub(crate) fn deploy(&mut self, deploy: &DeployId) -> Result<Option<DeployRecord>, WorkError> {
        Ok(self.each(|party| party.deploy(deploy))?.into_iter().flatten().next())
    }

    /// Returns all steps that a deploy has, and whose they are.
    pub(crate) fn steps_of(&mut self, deploy: &DeployId) -> Result<Vec<(Side, StepKey)>, WorkError> {
        let mut all = Vec::new();
        for (side, party) in &mut self.parties {
            all.extend(party.steps_of(deploy)?.into_iter().map(|key| (*side, key)));
        }
        Ok(all)
    }

    /// Returns the steps of a deploy that are gone but for data, and whose they were.
    pub(crate) fn remains_of(&mut self, deploy: &DeployId) -> Result<Vec<(Side, StepKey)>, WorkError> {
        let mut all = Vec::new();
        for (side, party) in &mut self.parties {
            all.extend(party.remains_of(deploy)?.into_iter().map(|key| (*side, key)));
        }
        Ok(all)
    }

    /// Ends the run on all sides, but for the one that can ask for a reboot.
    pub(crate) fn close_to_reboot(mut self) -> Result<Option<Box<dyn Party>>, WorkError> {
        let last = self.parties.pop();
        self.close()?;
        Ok(last.map(|(_, party)| party))
    }

    /// Ends the run on all sides.
    pub(crate) fn close(self) -> Result<(), WorkError> {
        self.parties.into_iter().try_for_each(|(_, party)| party.close())
    }
}
