//! What a venue's ledgers and storage know.

use serde::{Deserialize, Serialize};

use super::greeting::DeploySummary;

/// The answer to an [`Inspect`](super::Inspect) or a [`Deliver`](super::Deliver).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// What a deploy owns.
    Show {
        /// The deploy.
        deploy: DeploySummary,
        /// What it owns.
        resources: Vec<Owned>,
    },
    /// Who owns the subject; empty where nobody does.
    Why {
        /// The claims.
        owned: Vec<Owned>,
    },
    /// Where the venue differs.
    Drift {
        /// The differences.
        drifted: Vec<Drifted>,
        /// How many things were compared.
        compared: u32,
        /// How many more only root may look at.
        #[serde(default)]
        hidden: u32,
    },
    /// Container storage holds an image; the answer to a [`Deliver`](super::Deliver).
    Delivered(Delivered),
}

/// What became of an image that container storage was to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// What it is called there.
    pub name: String,
    /// How many layers it has.
    pub layers: u32,
    /// How many of them were sent.
    pub sent_layers: u32,
    /// The bytes of those, uncompressed.
    pub sent_bytes: u64,
    /// Whether the image was there before, and whole.
    pub was_there: bool,
    /// Images that were taken away because their layers were damaged, by name where they had one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

/// A thing and who claims it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// What sort of thing.
    pub what: String,
    /// The thing.
    pub subject: String,
    /// What was there before charly, in a word or two.
    pub before: String,
    /// Who claims it.
    pub claims: Vec<Claim>,
}

/// A claim on a thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// The deploy.
    pub deploy: String,
    /// Its candy.
    pub candy: String,
    /// The candy's step.
    pub step: String,
}

/// A thing that is not as it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifted {
    /// What sort of thing.
    pub what: String,
    /// The thing.
    pub subject: String,
    /// How it differs.
    pub how: String,
    /// Who claims it.
    pub claims: Vec<Claim>,
}
