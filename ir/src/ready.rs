//! What of a venue's start is not over, as an engine finds it when it greets.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::{Action, InstallPlan};

/// The most that is told of what a probe goes by.
const EVIDENCE: usize = 300;

/// Something that goes on beside whoever logs in, and that work has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// The machine comes up, or goes down.
    Start,
    /// cloud-init sets a new machine up.
    CloudInit,
    /// Somebody else is at work with the package manager.
    PackageLock,
    /// The user's own manager, which user units are kept by, does not listen yet.
    UserBus,
}

/// What a probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// It is not over.
    Pending,
    /// It is over, and went wrong in what can be done without.
    Degraded,
    /// It is over, and went wrong.
    Failed,
}

/// What one probe found that is not as it is on a machine that has long been up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The probe.
    pub probe: Probe,
    /// What it saw.
    pub seen: Seen,
    /// What it goes by: output of a venue, to be shown with care.
    pub evidence: String,
}

impl Probe {
    /// All of them, in the order in which they are waited for.
    pub const ALL: [Self; 4] = [Self::Start, Self::CloudInit, Self::PackageLock, Self::UserBus];

    /// Tells whether a plan has to wait for it.
    pub fn concerns(self, plan: &InstallPlan) -> bool {
        match self {
            Self::Start | Self::CloudInit => true,
            Self::PackageLock => {
                plan.steps().any(|(_, step)| matches!(step.action, Action::SystemPackages(_) | Action::RepoChange(_)))
            }
            Self::UserBus => plan.steps().any(|(_, step)| {
                let service = matches!(step.action, Action::ServicePackaged(_) | Action::ServiceCustom(_));
                service && !step.scope.is_system()
            }),
        }
    }

    /// Names it as the subject of a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "its start",
            Self::CloudInit => "cloud-init",
            Self::PackageLock => "its package manager",
            Self::UserBus => "the user's own manager",
        }
    }
}

impl fmt::Display for Finding {
    /// Writes a subject for a sentence, with the beginning of the evidence and nothing in it that moves a cursor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let evidence: String = self.evidence.chars().filter(|c| !c.is_control()).take(EVIDENCE).collect();
        write!(f, "{} ({evidence})", self.probe.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_moves_no_cursor() {
        let evidence = format!("a\x1b[31m\r\nb{}", "x".repeat(1000));
        let said = Finding { probe: Probe::CloudInit, seen: Seen::Failed, evidence }.to_string();
        assert!(said.starts_with("cloud-init (a[31mbxxx") && said.len() < 330, "{said}");
    }
}
