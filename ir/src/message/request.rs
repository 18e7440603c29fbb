//! What a controller asks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::done::Problem;
use super::greeting::Layer;
use super::supply::{Deliver, Image, Manifest};
use crate::check::Check;
use crate::digest::Digest;
use crate::plan::{Gate, InstallPlan};
use crate::text::Text;

/// What a controller says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Make the venue hold a plan.
    Apply(Box<Apply>),
    /// Take candies, or all of a deploy, away.
    Remove(Remove),
    /// Evaluate checks.
    Check(CheckRequest),
    /// Tell what is known.
    Inspect(Inspect),
    /// Make container storage hold an image.
    Deliver(Deliver),
    /// Bring a file back, waiting for it to appear.
    Fetch(Fetch),
    /// Answer to [`Reply::Diff`](super::Reply::Diff): go on, with these gates open.
    Proceed {
        /// The gates.
        gates: BTreeSet<Gate>,
    },
    /// Answer to [`Reply::Diff`](super::Reply::Diff): end, with nothing touched.
    Abort,
    /// Answer to [`Reply::Need`](super::Reply::Need): what a download or repository step places.
    Manifest(Manifest),
    /// Answer to [`Reply::Need`](super::Reply::Need): the chunks that follow are this blob.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Where in it the chunks begin: what lies before is there already.
        #[serde(default)]
        from: u64,
    },
    /// Answer to [`Reply::Need`](super::Reply::Need): the image, but for its layers.
    Image(Image),
    /// Answer to [`Reply::Need`](super::Reply::Need): it cannot be had.
    Missing {
        /// Why, for people.
        problem: Problem,
    },
    /// End at the next step boundary; a second one kills what runs.
    Cancel,
    /// The controller is still there: across a network, its silence for [`SILENCE_S`](super::SILENCE_S) means that it has gone.
    Alive,
}

/// Make the venue hold a plan, as one deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    /// The deploy's name.
    pub deploy: String,
    /// Names this run in journals; unique, `[0-9a-z-]`.
    pub run: String,
    /// The layers the deploy is asked to hold.
    pub layers: Vec<Layer>,
    /// Everything that is to be there.
    pub plan: InstallPlan,
    /// How to go about it.
    pub mode: Mode,
    /// Steps, as `candy/step` or by id alone, whose commands run again though they are satisfied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rerun: Vec<String>,
    /// Refuses steps that cannot be undone.
    #[serde(default)]
    pub undoable_only: bool,
    /// Passes over steps that this engine cannot carry out.
    #[serde(default)]
    pub skip_incompatible: bool,
    /// What a reboot step does.
    pub reboot: RebootPolicy,
    /// The values of secrets the plan refers to. Never written but to the files that steps declare, never echoed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretValue>,
    /// Bounds a command that sets no limit of its own, in seconds.
    pub command_timeout_s: u32,
    /// Blobs that the controller sends unasked, right after this, in this order. Only in [`Mode::Go`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<Digest>,
    /// What `sudo` is told, where it asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_password: Option<SecretValue>,
}

/// Take candies, or all of a deploy, away. No recipe is needed: the ledger knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remove {
    /// The deploy's name.
    pub deploy: String,
    /// Names this run in journals.
    pub run: String,
    /// The layers to take away, by candy name. Empty: everything.
    pub layers: Vec<String>,
    /// How to go about it.
    pub mode: Mode,
    /// Leaves repositories in place.
    #[serde(default)]
    pub keep_repo_changes: bool,
    /// Leaves services running and enabled.
    #[serde(default)]
    pub keep_services: bool,
    /// Removes data made since the add, too.
    #[serde(default)]
    pub purge: bool,
    /// What `sudo` is told, where it asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_password: Option<SecretValue>,
}

/// Bring a file back, waiting for it to appear.
///
/// It is read with the login user's rights. What that user may not read is read by root, if root's ledger has it as an
/// artifact of the deploy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// The deploy's name.
    pub deploy: String,
    /// The file's path on the venue, tokens included.
    pub path: Text,
    /// How long to wait for it, in seconds.
    pub wait_s: u32,
    /// What `sudo` is told, where it asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_password: Option<SecretValue>,
}

/// The largest file that is brought back, in bytes.
pub const MAX_FETCHED: u64 = 256 << 20;

/// How far to go, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Say what would be done.
    DryRun,
    /// Say what would be done, then wait for [`Request::Proceed`].
    Ask,
    /// Go on unless a gate beyond these is needed; then end as refused with nothing touched.
    Go {
        /// The open gates.
        gates: BTreeSet<Gate>,
    },
}

/// What a reboot step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootPolicy {
    /// Reboots; the controller comes back and asks again.
    Perform,
    /// Ends the run there; resumable.
    Stop,
    /// Goes on without, with a warning.
    Skip,
}

/// A secret's value, which no debug output shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(String);

/// Evaluate checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The checks of each candy, by its name.
    pub checks: Vec<(String, Check)>,
}

/// Tell what is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inspect {
    /// Everything a deploy owns.
    Show {
        /// Its name.
        deploy: String,
    },
    /// Who owns a path, package or unit.
    Why {
        /// The path, package or unit.
        subject: String,
    },
    /// Where the venue differs from what a deploy placed.
    Drift {
        /// Its name.
        deploy: String,
    },
}

impl SecretValue {
    /// Takes a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one place that must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_secret() {
        assert!(!format!("{:?}", SecretValue::new("hunter2")).contains("hunter2"));
    }
}
