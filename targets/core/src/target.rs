//! What `charly bundle` dispatches on.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::io::Write;

use async_trait::async_trait;
use charly_ir::facts::Facts;
use charly_ir::message::{
    Apply, Deliver, DeploySummary, Diff, Event, Fetch, Hello, Inspect, Problem, Remove, Report, Request,
};
use charly_ir::plan::Gate;

use crate::supply::{Nothing, Supply};
use crate::wire::{Answer, ClientError};
use crate::{BoxError, Interrupts};

/// A place that can hold deploys.
///
/// An error means that there is no answer. How a run ended, failed steps included, is the answer's
/// [`Verdict`](charly_ir::message::Verdict).
#[async_trait]
pub trait DeployTarget: Send + Sync + Debug {
    /// Returns the name the user calls it by.
    fn name(&self) -> &str;

    /// Asks the venue what it is.
    async fn facts(&self) -> Result<Facts, TargetError>;

    /// Asks the venue what it is and what it holds.
    async fn status(&self) -> Result<Status, TargetError>;

    /// Says what [`add`](Self::add) would do.
    async fn plan(&self, recipe: &dyn Recipe, observer: &mut dyn Observer) -> Result<Answer, TargetError>;

    /// Makes the venue hold what a recipe asks for.
    async fn add(&self, recipe: &dyn Recipe, run: Run<'_>) -> Result<Answer, TargetError>;

    /// Takes a deploy, or part of it, away.
    async fn del(&self, removal: &Removal<'_>, run: Run<'_>) -> Result<Answer, TargetError>;

    /// Evaluates the checks of a recipe's candies.
    async fn check(&self, recipe: &dyn Recipe, run: Run<'_>) -> Result<Answer, TargetError>;

    /// Answers a question from the venue's ledger.
    async fn inspect(&self, question: Inspect) -> Result<Report, TargetError>;

    /// Makes the venue's container storage hold an image; the answer's report says what that took.
    async fn deliver(&self, image: Deliver, supply: Box<dyn Supply>, run: Run<'_>) -> Result<Answer, TargetError>;

    /// Brings a file back from the venue.
    async fn fetch(&self, file: Fetch, into: Box<dyn Write + Send>, run: Run<'_>) -> Result<Answer, TargetError>;

    /// Returns the verbs of a place that can be started and stopped.
    fn lifecycle(&self) -> Option<&dyn Lifecycle>;
}

/// The verbs of a place that can be started and stopped.
#[async_trait]
pub trait Lifecycle: Send + Sync + Debug {
    /// Starts it; fine where it runs already.
    async fn start(&self) -> Result<(), TargetError>;

    /// Stops it; fine where it does not run.
    async fn stop(&self) -> Result<(), TargetError>;

    /// Stops and starts it.
    async fn restart(&self) -> Result<(), TargetError>;

    /// Writes its log, and what is still to come where `follow` is set.
    async fn logs(&self, follow: bool, into: &mut (dyn Write + Send)) -> Result<(), TargetError>;

    /// Opens a shell on it, with the user's terminal, or runs one command there. Returns its exit status.
    async fn shell(&self, command: Option<&[String]>) -> Result<i32, TargetError>;

    /// Brings it to what is declared now, keeping its data.
    async fn update(&self, observer: &mut dyn Observer) -> Result<(), TargetError>;

    /// Makes it anew from what is declared, and holds what it held.
    async fn rebuild(&self, observer: &mut dyn Observer) -> Result<(), TargetError>;
}

/// What a venue is and holds.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it is.
    pub facts: Facts,
    /// What it holds of the deploying user's.
    pub deploys: Vec<DeploySummary>,
}

/// Says what is to be taken away, once it is known what a venue holds.
pub type Removal<'a> = dyn Fn(&Hello) -> Result<Remove, BoxError> + Send + Sync + 'a;

/// What a deploy is to hold, compiled once the venue is known.
pub trait Recipe: Send + Sync {
    /// Compiles for a venue. Pure but for reading sources: the venue may be asked more than once.
    fn compile(&self, hello: &Hello) -> Result<Compiled, BoxError>;
}

/// A recipe compiled for one venue.
#[derive(Debug)]
pub struct Compiled {
    /// What is to be there, and how to go about it.
    pub apply: Apply,
    /// The bytes that the plan names.
    pub supply: Box<dyn Supply>,
}

/// Watches a run and answers for its user.
pub trait Observer: Send {
    /// Sees what is about to change.
    fn diff(&mut self, diff: &Diff);

    /// Answers whether to go on, where the run was to ask.
    fn decide(&mut self, diff: &Diff) -> Decision;

    /// Sees what happens.
    fn event(&mut self, event: Event);

    /// Learns that the engine was told to end at the next step boundary (1), or to kill what runs (2).
    fn cancelling(&mut self, count: u32);

    /// Sees what the controller does or waits for.
    fn notice(&mut self, notice: Notice) {
        let _ = notice;
    }
}

/// What the controller does or waits for, outside of any step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The venue has no engine of this digest yet, and is given one.
    Delivering {
        /// Bytes sent so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Blobs are on their way.
    Sending {
        /// Bytes sent so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The controller waits for something; an empty text says that it does no longer.
    Waiting {
        /// For what.
        what: String,
    },
    /// The venue is back from a reboot.
    Back {
        /// How long it was gone, in milliseconds.
        took_ms: u64,
    },
}

/// The answer to what is about to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on, with these gates open.
    Proceed(BTreeSet<Gate>),
    /// End, with nothing touched.
    Abort,
}

/// Who watches a run, and how it is stopped.
pub struct Run<'a> {
    /// The watcher.
    pub observer: &'a mut dyn Observer,
    /// Raised by the user to stop it.
    pub interrupts: Interrupts,
}

/// What is asked of one engine.
#[derive(Debug)]
pub struct Order {
    /// The request.
    pub request: Request,
    /// What the engine may need for it.
    pub supply: Box<dyn Supply>,
    /// Where a file goes that it brings back.
    pub sink: Option<Sink>,
}

/// Where a file goes that comes back from a venue.
pub struct Sink(pub(crate) Box<dyn Write + Send>);

/// Why there is no answer from a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The venue cannot be reached, or no engine can be started there.
    #[error("`{venue}` cannot be reached")]
    Unreachable {
        /// The target's name.
        venue: String,
        /// Why.
        source: BoxError,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The venue cannot be worked on as it is: it is not ready yet, or not again after a reboot.
    #[error("`{venue}` {what}")]
    NotReady {
        /// The target's name.
        venue: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The conversation with its engine did not come to its end.
    #[error(transparent)]
    Conversation(#[from] ClientError),
    /// Whoever must confirm did not: a password, a host key.
    #[error("{what}")]
    Refused {
        /// What was refused.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The venue answered that it cannot tell.
    #[error("{}", .0.what)]
    Answer(Problem),
    /// The target cannot do this.
    #[error("`{venue}` cannot {what}")]
    Unsupported {
        /// The target's name.
        venue: String,
        /// What was asked.
        what: String,
    },
}

impl Order {
    /// Asks for something that needs nothing further.
    pub fn question(request: Request) -> Self {
        Self { request, supply: Box::new(Nothing), sink: None }
    }
}

impl Sink {
    /// Takes where to write.
    pub fn new(into: Box<dyn Write + Send>) -> Self {
        Self(into)
    }
}

impl Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("interrupts", &self.interrupts).finish_non_exhaustive()
    }
}
