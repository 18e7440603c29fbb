//! What ledgers hold, and the records by which it changes.

use charly_ir::boot::BootMark;
use charly_ir::message::{Claim, DeployState, Layer};
use charly_ir::{Digest, Text};
use serde::{Deserialize, Serialize};

use super::name::{DeployId, Resource};
use crate::tree::Node;

/// What is known of one thing that deploys own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place among all first claims of this ledger. What is claimed later may stand on what was claimed before, so it
    /// is undone before it.
    pub seq: u64,
    /// Who asks for it, in the order they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// The candies that need it as a folder above what they ask for, and do not mind its mode; such claims name no step.
    /// These and `claims` are never both empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<Claim>,
    /// What was there before the first claim.
    pub before: Before,
    /// What the claims want.
    pub want: State,
    /// What was found just before the effect; absent once the effect is known to have been carried out to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<State>,
}

impl Entry {
    /// Returns all claims, those that ask first.
    pub fn all_claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().chain(&self.implied)
    }

    /// Drops one claim; tells whether any is left.
    pub fn drop_claim(&mut self, claim: &Claim) -> bool {
        self.claims.retain(|other| other != claim);
        self.implied.retain(|other| other != claim);
        !(self.claims.is_empty() && self.implied.is_empty())
    }
}

/// What was there before the first claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its state.
    pub state: State,
    /// Whether the content of the file it was is kept in the ledger, under its digest.
    #[serde(default)]
    pub kept: bool,
}

/// The state of a thing, found or wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A path's.
    Node(Node),
    /// A file whose content is secret: its digest is one that only this ledger's key can make.
    Secret {
        /// The keyed digest.
        keyed: Digest,
        /// The permission bits.
        mode: u32,
        /// The owner's number.
        uid: u32,
        /// The group's number.
        gid: u32,
    },
    /// Whatever a command leaves at a path.
    Anything,
    /// A block's.
    Block(BlockState),
    /// A unit's.
    Unit(UnitState),
    /// A switch's.
    On(bool),
    /// The capabilities' bytes in base64, or none.
    Caps(Option<String>),
    /// What a package transaction found and did, as the package module writes it.
    Packages(serde_json::Value),
    /// That a command with this digest ran.
    Ran(Digest),
}

/// A block's text, or what is in its stead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockState {
    /// The lines between the fences.
    Text(String),
    /// The file has no such block.
    Missing,
    /// The file has no such block, and its last line no end, which is how the file is to be left again.
    MissingUnended,
    /// There is no file.
    NoFile,
}

/// Whether a unit starts at boot and runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// Whether it is there at all.
    pub exists: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// Whether it runs.
    pub active: bool,
}

/// One deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRecord {
    /// The layers it was asked to hold.
    pub layers: Vec<Layer>,
    /// The candies that came of them, dependencies first. Those on their way out come last.
    pub candies: Vec<CandyRecord>,
    /// Whether all of it is there.
    pub state: DeployState,
    /// When it was last written, in seconds since 1970.
    pub updated_s: u64,
}

/// One candy of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandyRecord {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The candies of the same deploy that it requires.
    pub requires: Vec<String>,
    /// The ids of all its steps in order, those of the other ledger's scope too.
    pub steps: Vec<String>,
    /// The digest of its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The files that it has brought back to controllers: root reads no others for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Text>,
}

/// One step of one deploy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// The deploy.
    pub deploy: DeployId,
    /// The candy.
    pub candy: String,
    /// The step's id.
    pub step: String,
}

/// What is known of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The kind of its action.
    pub kind: String,
    /// Its sentence.
    pub title: String,
    /// On whose behalf it acts, as displayed.
    pub scope: String,
    /// The digest of the action it was last begun with.
    pub digest: Digest,
    /// Whether it was carried out to its end.
    pub done: bool,
    /// A body to run before the step is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_removal: Option<Box<charly_ir::plan::Command>>,
    /// Of a reboot that is not done: the boot that it is to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<Owed>,
}

/// A reboot that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The boot under way when it came to be owed. Another boot under way means that there was one.
    pub boot: BootMark,
    /// Whether all steps before it were carried out, so that a boot since then is the one that was asked for.
    pub reached: bool,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A run begins. Always the first record, and there once.
    Begin {
        /// The format of the records that follow.
        format: u32,
        /// The charly that wrote them.
        charly: String,
        /// The run.
        run: String,
        /// Its deploy.
        deploy: DeployId,
        /// `apply` or `remove`.
        what: String,
    },
    /// A deploy is this.
    Deploy {
        /// Which.
        id: DeployId,
        /// What it is.
        record: DeployRecord,
    },
    /// A deploy is no more.
    DropDeploy(DeployId),
    /// A step is this.
    Step {
        /// Which.
        key: StepKey,
        /// What it is.
        record: Box<StepRecord>,
    },
    /// A step is no more.
    DropStep(StepKey),
    /// A thing is owned like this; written before its state is changed.
    Own {
        /// The global number of the step, by which two journals of one run are merged.
        step: u32,
        /// The thing.
        resource: Resource,
        /// What is known of it.
        entry: Box<Entry>,
    },
    /// A step was carried out to its end, and what it did to these things is durable.
    Done {
        /// Which.
        key: StepKey,
        /// Its things.
        resources: Vec<Resource>,
    },
    /// A thing is owned by nobody any more.
    Forget(Resource),
}
