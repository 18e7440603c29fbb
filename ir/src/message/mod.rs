//! Requests, replies and events.
//!
//! A session is one conversation: the engine says [`Hello`], the controller makes one [`Request`], replies and events
//! follow until [`Reply::Done`]. Only while an [`Apply`], [`Remove`] or [`Deliver`] is under way does the controller say
//! more: it grants or withdraws, sends what the engine [needs](Need), or cancels.

mod answer;
mod done;
mod greeting;
mod report;
mod request;
mod supply;

pub use answer::{Change, CheckResult, Detail, Diff, Event, Outcome, Reply, Retrieval, StepDiff};
pub use done::{Done, Kept, Problem, Verdict};
pub use greeting::{CandySummary, DeployState, DeploySummary, Hello, Layer, Origin};
pub use report::{Claim, Delivered, Drifted, Owned, Report};
pub use request::{Apply, CheckRequest, Fetch, Inspect, MAX_FETCHED, Mode, RebootPolicy, Remove, Request, SecretValue};
pub use supply::{Deliver, Image, Manifest, Member, MemberKind, Need};

/// The number of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// How long a controller across a network may be silent before an engine takes it for gone, in seconds.
pub const SILENCE_S: u64 = 60;
