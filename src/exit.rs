//! How the program ends.

use std::process::ExitCode;

use anyhow::Error;
use charly_ir::message::{Problem, Verdict};
use charly_plans::diagnostic::{Diagnostic, Diagnostics};
use charly_target_core::TargetError;
use charly_target_core::registry::RegistryError;
use charly_target_core::wire::ClientError;
use serde::Serialize;

/// The exit codes. There are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// A step or a check failed, or an undo is pending; the venue is consistent and the run resumable.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The configuration or the plan is wrong, or names nothing that exists; nothing was touched.
    Invalid = 3,
    /// The venue cannot be reached; nothing was forgotten.
    Unreachable = 4,
    /// A gate, a lock, a host key or a confirmation is in the way; nothing was touched.
    Refused = 5,
    /// Interrupted; the same command resumes.
    Interrupted = 130,
}

impl Exit {
    /// Returns it in a word or two, for tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage | Self::Invalid => "invalid",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// Orders ends from good to bad, for a run that has several.
    pub(crate) fn severity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage | Self::Invalid => 2,
            Self::Unreachable => 3,
            Self::Failed => 4,
            Self::Interrupted => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// What there is to say.
    pub(crate) cause: Cause,
}

/// What there is to say about a failure.
#[derive(Debug)]
pub(crate) enum Cause {
    /// An error, with the chain of its sources.
    Problem(Problem),
    /// Mistakes in documents.
    Findings(Vec<Diagnostic>),
    /// Whoever read the output has gone.
    NobodyReads,
}

/// What a verb returns.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Ends with a problem.
    pub(crate) fn new(exit: Exit, problem: Problem) -> Self {
        Self { exit, cause: Cause::Problem(problem) }
    }

    /// Ends because something named does not exist, or makes no sense.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, Problem::new(what))
    }

    /// Ends because of an error that is none of the venue's doing.
    pub(crate) fn error(exit: Exit, error: impl Into<Error>) -> Self {
        Self::new(exit, problem(&error.into()))
    }

    /// Returns what there is to say, where it is one thing.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        match &self.cause {
            Cause::Problem(problem) => Some(problem),
            Cause::Findings(_) | Cause::NobodyReads => None,
        }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Cause::Problem(problem) = &mut self.cause {
            problem.hint = Some(hint.into());
        }
        self
    }
}

fn problem(error: &Error) -> Problem {
    let mut problem = Problem::new(error.to_string());
    problem.because = error.chain().skip(1).map(ToString::to_string).collect();
    problem
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        let exit = match &error {
            TargetError::Conversation(ClientError::Interrupted) => Exit::Interrupted,
            TargetError::Conversation(ClientError::Order(_))
            | TargetError::Unsupported { .. }
            | TargetError::Answer(_) => Exit::Invalid,
            TargetError::Unreachable { .. } | TargetError::Conversation(_) => Exit::Unreachable,
            TargetError::NotReady { .. } => Exit::Failed,
            TargetError::Refused { .. } => Exit::Refused,
        };
        match error {
            TargetError::Conversation(ClientError::Order(source)) => match source.downcast::<Diagnostics>() {
                Ok(findings) => (*findings).into(),
                Err(source) => match source.downcast::<Told>() {
                    Ok(told) => told.0,
                    Err(source) => Self::error(exit, anyhow::anyhow!(source)),
                },
            },
            TargetError::Answer(problem) => Self::new(exit, problem),
            TargetError::Refused { what, hint } => Self::new(exit, Problem::new(what).hint(hint)),
            TargetError::NotReady { ref hint, .. } | TargetError::Unreachable { hint: Some(ref hint), .. } => {
                let hint = hint.clone();
                Self::error(exit, error).hint(hint)
            }
            error => {
                let hint = match &error {
                    TargetError::Conversation(ClientError::BrokeOff { .. } | ClientError::Lost) => {
                        Some("the same command goes on where the run ended")
                    }
                    TargetError::Conversation(ClientError::NoEngine { .. }) => Some(
                        "the user's login shell there must run `sh`, see what it does by hand; an engine that was damaged there is sent anew with `--engine scp`",
                    ),
                    _ => None,
                };
                let failure = Self::error(exit, error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(findings: Diagnostics) -> Self {
        findings.into_iter().collect::<Vec<_>>().into()
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self { exit: Exit::Invalid, cause: Cause::Findings(findings) }
    }
}

impl From<Diagnostic> for Failure {
    fn from(finding: Diagnostic) -> Self {
        vec![finding].into()
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::error(Exit::Invalid, error)
    }
}

/// Carries a failure through an interface that takes errors.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Failure);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no request could be made")
    }
}

impl std::error::Error for Told {}

/// Turns the last word of a run into how the program ends.
pub(crate) fn of_verdict(verdict: &Verdict) -> Outcome {
    let fail = |exit, problem: &Problem| Err(Failure::new(exit, problem.clone()));
    match verdict {
        Verdict::Ok => Ok(Exit::Done),
        Verdict::Failed(problem) => fail(Exit::Failed, problem),
        Verdict::Invalid(problem) => fail(Exit::Invalid, problem),
        Verdict::Refused(problem) => fail(Exit::Refused, problem),
        Verdict::Cancelled => {
            fail(Exit::Interrupted, &Problem::new("interrupted").hint("the same command goes on where the run ended"))
        }
        Verdict::Rebooting { .. } => fail(
            Exit::Failed,
            &Problem::new("the machine reboots before the run can go on")
                .hint("run the same command again once it is back"),
        ),
        Verdict::RebootDue => fail(
            Exit::Failed,
            &Problem::new("a reboot is due before the run can go on").hint("reboot, then run the same command again"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_its_code() {
        let problem = || Problem::new("x");
        for (verdict, want) in [
            (Verdict::Ok, Exit::Done),
            (Verdict::Failed(problem()), Exit::Failed),
            (Verdict::Invalid(problem()), Exit::Invalid),
            (Verdict::Refused(problem()), Exit::Refused),
            (Verdict::Cancelled, Exit::Interrupted),
            (Verdict::RebootDue, Exit::Failed),
        ] {
            let got = of_verdict(&verdict).unwrap_or_else(|failure| failure.exit);
            assert_eq!(got, want, "{verdict:?}");
        }
    }

    #[test]
    fn every_error_of_a_target_has_its_code() {
        let unreachable = TargetError::Unreachable { venue: "v".into(), source: "x".into(), hint: None };
        let order = |source: charly_target_core::BoxError| TargetError::from(ClientError::Order(source));
        let told = Told(Failure::new(Exit::Refused, Problem::new("x")));
        for (error, want) in [
            (unreachable, Exit::Unreachable),
            (ClientError::NoEngine { evidence: String::new() }.into(), Exit::Unreachable),
            (ClientError::Interrupted.into(), Exit::Interrupted),
            (order(Box::new(Diagnostics::from(Diagnostic::error("x")))), Exit::Invalid),
            (order(Box::new(told)), Exit::Refused),
            (TargetError::Refused { what: "x".into(), hint: "y".into() }, Exit::Refused),
        ] {
            let text = error.to_string();
            assert_eq!(Failure::from(error).exit, want, "{text}");
        }
    }
}
