//! Requests, replies and events.
//!
//! A session is one conversation: the engine says [`Hello`], the controller makes one [`Request`], replies and events
//! follow until [`Reply::Done`]. Only while an [`Apply`], [`Remove`] or [`Deliver`] is under way does the controller say
//! more: it grants or withdraws, sends what the engine [needs](Need), or cancels.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::boot::BootMark;
use crate::check::Check;
use crate::digest::Digest;
use crate::facts::Facts;
use crate::plan::{Gate, InstallPlan};
use crate::ready::Finding;

/// The number of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// How long a controller across a network may be silent before an engine takes it for gone, in seconds.
pub const SILENCE_S: u64 = 60;

// --- The engine's first word ---

/// What an engine says unasked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the engine.
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

// --- What a controller asks ---

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
    Fetch {
        /// Its path on the venue, tokens included.
        path: crate::text::Text,
        /// How long to wait for it, in seconds.
        wait_s: u32,
    },
    /// Answer to [`Reply::Diff`]: go on, with these gates open.
    Proceed {
        /// The gates.
        gates: BTreeSet<Gate>,
    },
    /// Answer to [`Reply::Diff`]: end, with nothing touched.
    Abort,
    /// Answer to [`Reply::Need`]: what a download or repository step places.
    Manifest(Manifest),
    /// Answer to [`Reply::Need`]: the chunks that follow are this blob.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Where in it the chunks begin: what lies before is there already.
        #[serde(default)]
        from: u64,
    },
    /// Answer to [`Reply::Need`]: the image, but for its layers.
    Image(Image),
    /// Answer to [`Reply::Need`]: it cannot be had.
    Missing {
        /// Why, for people.
        problem: Problem,
    },
    /// End at the next step boundary; a second one kills what runs.
    Cancel,
    /// The controller is still there: across a network, its silence for [`SILENCE_S`] means that it has gone.
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

/// Make container storage hold an image.
///
/// Nothing of it but its id crosses before the engine has found that it is not there as it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deliver {
    /// Its id: the digest of its configuration, which names its layers.
    pub image: Digest,
    /// What it is called there: registry, path and tag.
    pub name: String,
    /// Whether it goes to the login user's own storage, rather than root's.
    pub rootless: bool,
    /// What `sudo` is told, where it asks for a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_password: Option<SecretValue>,
}

/// An image but for its layers, whose digests in the manifest are those of their uncompressed archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The configuration, byte for byte.
    pub config: String,
}

/// What a step that fetches something places, known only after the controller fetched it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The step's global number.
    pub step: u32,
    /// The members, folders before what lies in them.
    pub members: Vec<Member>,
}

/// One thing that a fetching step places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its path below the step's folder; empty for the step's own path.
    ///
    /// A repository has no folder: its member [`Self::REPO_KEY`] is the key, ready to be placed, and [`Self::REPO_FILE`]
    /// the configuration file or the package that its URL gives.
    pub path: String,
    /// What it is.
    pub kind: MemberKind,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberKind {
    /// A regular file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Its permission bits.
        mode: u32,
    },
    /// A folder.
    Dir {
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: String,
    },
}

// --- What an engine answers ---

/// What an engine says after its [`Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What is about to change; in [`Mode::Ask`] the engine waits for an answer.
    Diff(Diff),
    /// What must be sent before the run can go on.
    Need(Need),
    /// Something happened.
    Event(Event),
    /// A file asked for by [`Request::Fetch`]; its bytes follow as chunks.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The answer to an [`Inspect`] or a [`Deliver`].
    Report(Report),
    /// The last word.
    Done(Done),
}

/// What the engine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Need {
    /// Global numbers of steps whose manifests are wanted.
    pub manifests: Vec<u32>,
    /// Blobs that are wanted.
    pub blobs: Vec<Digest>,
    /// Whether the image that is to be delivered is wanted, but for its layers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image: bool,
    /// How many bytes of some of these blobs are there already, from a conversation that was cut off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub have: BTreeMap<Digest, u64>,
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

/// The last word on a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// How it ended.
    pub verdict: Verdict,
    /// Steps that changed the venue.
    pub changed: u32,
    /// Steps that found all as it should be.
    pub unchanged: u32,
    /// Steps undone.
    pub removed: u32,
    /// What was left behind on purpose.
    pub kept: Vec<Kept>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As asked.
    Ok,
    /// A step or a check failed, or an undo is pending; the venue is consistent and the run resumable.
    Failed(Problem),
    /// The request or the plan makes no sense here; nothing was touched.
    Invalid(Problem),
    /// A gate, a lock or another deploy's claim is in the way; nothing was touched.
    Refused(Problem),
    /// The controller cancelled; the same command resumes.
    Cancelled,
    /// The venue reboots; the controller comes back and asks again.
    Rebooting {
        /// The boot before.
        boot: BootMark,
    },
    /// A reboot is due and was not allowed; the same command resumes afterwards.
    RebootDue,
}

/// Something left behind on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// An error, written for its reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub what: String,
    /// Why, from near to far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The answer to an [`Inspect`] or a [`Deliver`].
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
    },
    /// Container storage holds an image; the answer to a [`Deliver`].
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

impl Member {
    /// The path of a repository's key.
    pub const REPO_KEY: &str = "key";
    /// The path of a repository's configuration file or package.
    pub const REPO_FILE: &str = "file";
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

impl Problem {
    /// Says what went wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), because: Vec::new(), hint: None }
    }

    /// Takes an error and the chain of its sources.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let because = std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string);
        Self { what: error.to_string(), because: because.collect(), hint: None }
    }

    /// Adds a reason behind those there are.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.because.push(why.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Done {
    /// Ends a request that counted nothing.
    pub fn verdict(verdict: Verdict) -> Self {
        Self { verdict, changed: 0, unchanged: 0, removed: 0, kept: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_secret() {
        assert!(!format!("{:?}", SecretValue::new("hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_problem_keeps_the_chain() {
        let inner = std::io::Error::other(std::fmt::Error);
        let problem = Problem::from_error(&crate::frame::FrameError::from(inner)).hint("look");
        assert_eq!(problem.what, "the stream broke off");
        assert!(!problem.because.is_empty());
    }
}
