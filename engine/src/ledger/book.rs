//! A ledger's state in memory.

use std::collections::BTreeMap;

use charly_ir::message::Claim;

use super::name::{DeployId, Resource, StepName};
use super::record::{DeployRecord, Entry, Record, StepKey, StepRecord};

/// A ledger's state: the snapshots with the journal's records applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    /// The deploys.
    pub deploys: BTreeMap<DeployId, DeployRecord>,
    /// Their steps.
    pub steps: BTreeMap<StepKey, StepRecord>,
    /// The things they own.
    pub entries: BTreeMap<Resource, Entry>,
}

impl Book {
    /// Takes one record. A record says what a thing is, so taking it twice is taking it once.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Begin { .. } => {}
            Record::Deploy { id, record } => {
                self.deploys.insert(id, record);
            }
            Record::DropDeploy(id) => {
                self.deploys.remove(&id);
            }
            Record::Step { key, record } => {
                self.steps.insert(key, *record);
            }
            Record::DropStep(key) => {
                self.steps.remove(&key);
            }
            Record::Own { step: _, resource, entry } => {
                self.entries.insert(resource, *entry);
            }
            Record::Done { key, resources } => {
                if let Some(step) = self.steps.get_mut(&key) {
                    step.done = true;
                    step.owed = None;
                }
                for resource in resources {
                    if let Some(entry) = self.entries.get_mut(&resource) {
                        entry.found = None;
                    }
                }
            }
            Record::Forget(resource) => {
                self.entries.remove(&resource);
            }
        }
    }

    /// Returns the place that the next first claim takes.
    pub fn next_seq(&self) -> u64 {
        self.entries.values().map(|entry| entry.seq + 1).max().unwrap_or(0)
    }

    /// Returns what each step of a deploy asks for, in the order of first claims.
    pub fn claims_of(&self, deploy: &DeployId) -> BTreeMap<Claim, Vec<Resource>> {
        let name = deploy.to_string();
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.seq);
        let mut found: BTreeMap<Claim, Vec<Resource>> = BTreeMap::new();
        for (resource, entry) in entries {
            for claim in entry.claims.iter().filter(|claim| claim.deploy == name) {
                found.entry(claim.clone()).or_default().push(resource.clone());
            }
        }
        found
    }

    /// Returns what steps of a deploy left that are gone: things that nobody claims any more, with whose they were.
    pub fn remains_of(&self, deploy: &DeployId) -> impl Iterator<Item = (StepKey, &Resource)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.all_claims().next().is_none())
            .filter_map(|(resource, _)| {
                let Resource::Packages(StepName { deploy, candy, step }) = resource else { return None };
                Some((StepKey { deploy: deploy.clone(), candy: candy.clone(), step: step.clone() }, resource))
            })
            .filter(move |(key, _)| key.deploy == *deploy)
    }

    /// Tells whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.deploys.is_empty() && self.steps.is_empty() && self.entries.is_empty()
    }
}

impl StepKey {
    /// Returns the claim that the step's candy makes on folders above what its steps place. One for all of them: a folder of
    /// thousands of files would otherwise have thousands of claims.
    pub fn candy_claim(&self) -> Claim {
        Claim { deploy: self.deploy.to_string(), candy: self.candy.clone(), step: String::new() }
    }

    /// Returns the claim that the step makes.
    pub fn claim(&self) -> Claim {
        Claim { deploy: self.deploy.to_string(), candy: self.candy.clone(), step: self.step.clone() }
    }
}
