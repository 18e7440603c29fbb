//! Waits for a machine that was asked to reboot.
//!
//! Three things must be shown, in this order, and a failed attempt shows none of them: it answers, it has booted since, it is
//! ready.

use std::time::{Duration, Instant};

use charly_ir::boot::BootMark;
use charly_ir::ready::{Probe, Seen};
use charly_target_core::target::Run;
use charly_target_core::venue::greeting;
use charly_target_core::wire::ClientError;
use charly_target_core::{EngineVenue as _, Notice, TargetError};
use tokio::time::timeout;

use super::error::chain;
use super::ready::{self, NotReady};
use super::venue::{Machine, raised};

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// An attempt that the end of all patience cuts off sooner than this tells nothing about the machine.
const TELLING: Duration = Duration::from_secs(3);

/// Waits until the machine is back, in another boot than before, and none of the wanted probes finds it unready.
pub(super) async fn wait(
    machine: &Machine,
    before: &BootMark,
    wanted: &[Probe],
    run: Run<'_>,
) -> Result<(), TargetError> {
    let Run { observer, interrupts } = run;
    let began = Instant::now();
    let mut waiting = |what: &str| observer.notice(Notice::Waiting { what: what.to_owned() });
    waiting("it to come back from its reboot");
    machine.disconnect().await;
    let result = tokio::select! {
        result = until_back(machine, before, wanted, began, &mut waiting) => result,
        () = raised(&interrupts) => Err(ClientError::Interrupted.into()),
    };
    waiting("");
    result?;
    observer.notice(Notice::Back { took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) });
    Ok(())
}

async fn until_back(
    machine: &Machine,
    before: &BootMark,
    wanted: &[Probe],
    began: Instant,
    waiting: &mut (dyn FnMut(&str) + Send),
) -> Result<(), TargetError> {
    let limits = machine.settings().limits;
    let failed = |what: String, hint: &str| TargetError::NotReady {
        venue: machine.name().to_owned(),
        what,
        hint: hint.to_owned(),
    };
    let unchanged = || {
        failed(
            format!("is still in the same boot, {} s after it took the reboot", began.elapsed().as_secs()),
            "see what holds it up there, then run the same command again",
        )
    };
    let mut last = String::from("nothing was heard of it");
    let mut unchanged_since: Option<Instant> = None;
    let mut is_unchanged = false;
    while let Some(left) = limits.reboot.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        let answer = timeout(left.min(ready::ATTEMPT), greeting(machine)).await;
        if answer.is_err() && left < TELLING {
            break;
        }
        is_unchanged = matches!(&answer, Ok(Ok(hello)) if !hello.facts.boot.differs_from(before));
        match answer {
            Ok(Ok(hello)) if hello.facts.boot.differs_from(before) => {
                let left = limits.reboot.saturating_sub(began.elapsed());
                let settled = ready::settle(machine, wanted, hello.unready, waiting);
                let why = match timeout(left, settled).await {
                    Ok(Ok(findings)) => match findings.iter().find(|finding| finding.seen == Seen::Failed) {
                        Some(failed) => format!("{failed} failed"),
                        None => return Ok(()),
                    },
                    Ok(Err(NotReady::Refused(error))) => return Err(error),
                    Ok(Err(NotReady::TooLong(why))) => why,
                    Err(_) => format!("it took longer than {} s in all", limits.reboot.as_secs()),
                };
                return Err(failed(
                    format!("came back from its reboot, but is not ready: {why}"),
                    "see to it, then run the same command again: it goes on where the run ended",
                ));
            }
            Ok(Ok(_)) => {
                // It is still going down, or it has not gone at all.
                let since = *unchanged_since.get_or_insert_with(Instant::now);
                if since.elapsed() > limits.unchanged {
                    return Err(unchanged());
                }
            }
            Ok(Err(error @ TargetError::Refused { .. })) => return Err(error),
            Ok(Err(error)) => last = chain(&error),
            Err(_) => "it lets us connect, and then says nothing".clone_into(&mut last),
        }
        machine.disconnect().await;
        tokio::time::sleep(PAUSE).await;
    }
    if is_unchanged {
        return Err(unchanged());
    }
    Err(failed(
        format!("never came back from its reboot within {} s: {last}", limits.reboot.as_secs()),
        "see to it, then run the same command again: it goes on where the run ended",
    ))
}
