//! Waits until a machine is ready to be worked on.
//!
//! That it answers, and lets us in, is shown by its engine's greeting, which also says what of the machine's start is not over:
//! what a first boot, or one after a kernel was replaced, still does in the background. So a machine that is ready is asked
//! nothing beyond what it is asked anyway, and one that is not is greeted again until it is.

use std::time::{Duration, Instant};

use charly_ir::ready::{Finding, Probe, Seen};
use charly_target_core::target::Run;
use charly_target_core::venue::greeting;
use charly_target_core::wire::ClientError;
use charly_target_core::{EngineVenue as _, Notice, TargetError};
use tokio::time::{sleep, timeout};

use super::error::chain;
use super::venue::{Machine, raised};

/// How long one attempt may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(20);

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// How long all of it may take, whatever holds it up.
const ALL: Duration = Duration::from_secs(1_800);

/// How long a machine that has greeted may fail to do so again.
const SILENT: Duration = Duration::from_secs(120);

/// Returns how long what a probe looks at may take in all.
fn limit(probe: Probe) -> Duration {
    Duration::from_secs(match probe {
        Probe::Start | Probe::PackageLock => 600,
        Probe::CloudInit => 900,
        Probe::UserBus => 90,
    })
}

/// Waits until a machine that has greeted is ready. What went wrong in its start is not this run's to judge.
pub(super) async fn wait(
    machine: &Machine,
    found: Vec<Finding>,
    wanted: &[Probe],
    run: Run<'_>,
) -> Result<(), TargetError> {
    let Run { observer, interrupts } = run;
    let mut waiting = |what: &str| observer.notice(Notice::Waiting { what: what.to_owned() });
    let result = tokio::select! {
        result = settle(machine, wanted, found, &mut waiting) => result,
        () = raised(&interrupts) => Err(NotReady::Refused(ClientError::Interrupted.into())),
    };
    waiting("");
    match result {
        Ok(_) => Ok(()),
        Err(NotReady::Refused(error)) => Err(error),
        Err(NotReady::TooLong(why)) => Err(TargetError::NotReady {
            venue: machine.name().to_owned(),
            what: format!("is not ready: {why}"),
            hint: "nothing was changed; see to it, then run the same command again".to_owned(),
        }),
    }
}

/// Waits until nothing of what is wanted is pending any more, and returns what is left: what went wrong.
///
/// `found` is what the last greeting said, and `waiting` is told what is waited for. The error's text says which probe did not
/// come to its end, and what it saw last.
pub(super) async fn settle(
    machine: &Machine,
    wanted: &[Probe],
    found: Vec<Finding>,
    waiting: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<Finding>, NotReady> {
    let mut found = Ok(found);
    let began = Instant::now();
    let mut held_up_by: Option<(Option<Probe>, Instant)> = None;
    let mut told = String::new();
    loop {
        let (by, limit, what) = match found {
            Ok(mut findings) => {
                findings.retain(|finding| wanted.contains(&finding.probe));
                let Some(pending) = findings.iter().find(|finding| finding.seen == Seen::Pending) else {
                    return Ok(findings);
                };
                (Some(pending.probe), limit(pending.probe), pending.to_string())
            }
            Err(evidence) => (None, SILENT, format!("its next answer ({evidence})")),
        };
        let since = match held_up_by {
            Some((before, since)) if before == by => since,
            _ => Instant::now(),
        };
        held_up_by = Some((by, since));
        if since.elapsed() > limit {
            return Err(NotReady::TooLong(format!("{what} did not end within {} s", limit.as_secs())));
        }
        if began.elapsed() > ALL {
            let what = format!("one thing after another holds it up for {} s, now {what}", ALL.as_secs());
            return Err(NotReady::TooLong(what));
        }
        if what != told {
            waiting(&what);
            told = what;
        }
        sleep(PAUSE).await;
        found = match timeout(ATTEMPT, greeting(machine)).await {
            Ok(Ok(hello)) => Ok(hello.unready),
            Ok(Err(error @ TargetError::Refused { .. })) => return Err(NotReady::Refused(error)),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => {
                machine.disconnect().await;
                Err(format!("none came within {} s", ATTEMPT.as_secs()))
            }
        };
    }
}

/// Why a machine that answers cannot be worked on.
#[derive(Debug)]
pub(super) enum NotReady {
    /// Something takes longer than it may.
    TooLong(String),
    /// It no longer is whom we know, or the user no longer wants it.
    Refused(TargetError),
}
