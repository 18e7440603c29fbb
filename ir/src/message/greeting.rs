//! The engine's first word.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::facts::Facts;
use crate::ready::Finding;

/// What an engine says unasked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`](super::PROTOCOL) of the engine.
    pub protocol: u32,
    /// The engine's version, for people.
    pub engine: String,
    /// The venue.
    pub facts: Facts,
    /// What the deploying user's ledgers hold.
    pub deploys: Vec<DeploySummary>,
    /// What of its start is not over, or went wrong; looked for only where the controller is across a network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unready: Vec<Finding>,
}

/// One deploy, as the ledgers on a venue know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploySummary {
    /// Its name.
    pub name: String,
    /// The layers it was asked to hold.
    pub layers: Vec<Layer>,
    /// The candies that came of them, dependencies first.
    pub candies: Vec<CandySummary>,
    /// Whether all of it is there.
    pub state: DeployState,
    /// When the ledger was last written, in seconds since 1970.
    pub updated_s: u64,
    /// Whether root's ledger knows of it, so that changing it needs root.
    #[serde(default)]
    pub system: bool,
}

/// A layer that a deploy was asked to hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Layer {
    /// The reference as it was given.
    pub reference: String,
    /// The name of the candy it stands for.
    pub candy: String,
    /// How it came to be asked for.
    pub origin: Origin,
}

/// How a layer came to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The project or the machine's own file declares it.
    Declared,
    /// Somebody added it.
    ByHand,
}

/// A candy of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandySummary {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The candies of the same deploy that it requires.
    pub requires: Vec<String>,
    /// The number of its steps.
    pub steps: u32,
    /// The digest of its plan when it was last carried out; [`CandyPlan::digest`](crate::plan::CandyPlan::digest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Whether all of a deploy is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployState {
    /// Every step was carried out.
    Complete,
    /// A run ended before its last step; the same command resumes it.
    Interrupted,
    /// Something could not be taken away; the next `del` goes on.
    UndoPending,
}
