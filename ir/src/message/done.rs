//! How a request ended.

use serde::{Deserialize, Serialize};

use crate::boot::BootMark;

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
    fn a_problem_keeps_the_chain() {
        let inner = std::io::Error::other(std::fmt::Error);
        let problem = Problem::from_error(&crate::frame::FrameError::from(inner)).hint("look");
        assert_eq!(problem.what, "the stream broke off");
        assert!(!problem.because.is_empty());
    }
}
