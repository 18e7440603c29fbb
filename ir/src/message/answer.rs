//! What an engine answers while it works.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::done::{Done, Problem};
use super::report::Report;
use super::supply::Need;
use crate::boot::BootMark;
use crate::digest::Digest;
use crate::plan::Gate;

/// What an engine says after its [`Hello`](super::Hello).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What is about to change; in [`Mode::Ask`](super::Mode::Ask) the engine waits for an answer.
    Diff(Diff),
    /// What must be sent before the run can go on.
    Need(Need),
    /// Something happened.
    Event(Event),
    /// A file asked for by [`Request::Fetch`](super::Request::Fetch); its bytes follow as chunks.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The answer to an [`Inspect`](super::Inspect) or a [`Deliver`](super::Deliver).
    Report(Report),
    /// The last word.
    Done(Done),
}

/// What an apply or a removal changes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diff {
    /// The steps, in plan order; steps to be undone come last, in the order of undoing.
    pub steps: Vec<StepDiff>,
    /// The gates that the changes need.
    pub gates: BTreeSet<Gate>,
    /// What the reader should know before saying yes.
    pub warnings: Vec<String>,
    /// The files that are brought back afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieves: Vec<Retrieval>,
}

/// A file that is brought back to the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Where it lies on the venue.
    pub path: String,
    /// Where it goes on the controller.
    pub to: String,
}

/// What one step changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDiff {
    /// Its global number.
    pub index: u32,
    /// Its candy.
    pub candy: String,
    /// Its id within the candy.
    pub id: String,
    /// Its sentence.
    pub title: String,
    /// The kind of its action.
    pub kind: String,
    /// On whose behalf it acts, as [`Scope`](crate::plan::Scope) displays it.
    pub scope: String,
    /// The gate it needs.
    pub gate: Option<Gate>,
    /// What becomes of it.
    pub change: Change,
    /// What becomes of each thing it owns; unchanged ones are left out.
    pub details: Vec<Detail>,
}

/// What becomes of a step or a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is as it should be.
    Keep,
    /// It is not there yet.
    Add,
    /// It is there, and differs.
    Change,
    /// It goes away, or back to what was before.
    Remove,
    /// It is passed over, with a reason.
    Skip,
    /// It cannot be told without more rights.
    Unknown,
}

/// What becomes of one thing a step owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What becomes of it.
    pub change: Change,
    /// What sort of thing: `file`, `folder`, `link`, `package`, `unit`, `block`, `command`, `linger` and so on.
    pub what: String,
    /// The thing: a path, a package's name and version, a unit.
    pub subject: String,
    /// Why, or what is special about it.
    pub note: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A former run had ended early; this is what was found and mended.
    Recovered {
        /// The former run.
        run: String,
        /// What it had been doing.
        deploy: String,
        /// What was found, for people.
        what: String,
    },
    /// Steps that change nothing are not announced; these numbers bound the bar.
    RunStarted {
        /// Steps to be carried out or undone.
        steps: u32,
    },
    /// A step begins.
    StepStarted {
        /// Its global number.
        index: u32,
        /// Its candy.
        candy: String,
        /// Its id.
        id: String,
        /// Its sentence.
        title: String,
        /// True where it is being undone.
        undo: bool,
    },
    /// A step's program wrote something. Hostile bytes: whoever shows them strips escapes.
    Output {
        /// The step's global number.
        index: u32,
        /// The bytes, those that are not UTF-8 replaced.
        text: String,
        /// True for standard error.
        stderr: bool,
    },
    /// A step ended.
    StepFinished {
        /// Its global number.
        index: u32,
        /// How.
        outcome: Outcome,
        /// What it changed.
        details: Vec<Detail>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// Bytes arrived or were fetched.
    Bytes {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// A check was evaluated.
    Checked {
        /// Its candy.
        candy: String,
        /// Its id.
        id: String,
        /// Its sentence.
        title: String,
        /// The result.
        result: CheckResult,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The venue is asked to reboot right now: should the stream break off, this is why.
    Rebooting {
        /// The boot under way.
        boot: BootMark,
    },
    /// Something that the reader should know.
    Warning {
        /// A sentence.
        text: String,
    },
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It changed the venue.
    Changed,
    /// All was as it should be.
    Unchanged,
    /// It was passed over.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It failed.
    Failed(Problem),
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// It holds.
    Passed,
    /// It does not.
    Failed {
        /// What was wanted and what was found.
        evidence: String,
    },
    /// It was not evaluated.
    Skipped {
        /// Why.
        reason: String,
    },
}
