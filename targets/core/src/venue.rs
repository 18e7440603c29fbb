//! Whoever can start an engine and carry bytes is a target.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write;

use async_trait::async_trait;
use charly_ir::boot::BootMark;
use charly_ir::facts::Facts;
use charly_ir::message::{
    CheckRequest, Deliver, Diff, Done, Event, Fetch, Hello, Inspect, Mode, Report, Request, Verdict,
};
use charly_ir::plan::Gate;
use charly_ir::ready::{Finding, Probe, Seen};

use crate::supply::Supply;
use crate::target::{
    Compiled, Decision, DeployTarget, Lifecycle, Notice, Observer, Order, Recipe, Removal, Run, Sink, Status,
    TargetError,
};
use crate::wire::{Answer, Client, ClientError};
use crate::{BoxError, Interrupts};

/// A venue with an engine beside its ledger.
#[async_trait]
pub trait EngineVenue: Send + Sync + Debug {
    /// Returns the name the user calls it by.
    fn name(&self) -> &str;

    /// Starts an engine and carries bytes both ways until the client is done, has failed, or the stream ends.
    async fn carry(&self, client: &mut Client<'_>) -> Result<(), TargetError>;

    /// Waits until the venue is back from a reboot it was asked for, and none of the wanted probes finds it unready.
    ///
    /// Returns only once it is proven that there was one: its mark differs from `before`.
    async fn back(&self, before: &BootMark, wanted: &[Probe], run: Run<'_>) -> Result<(), TargetError> {
        let _ = (before, wanted, run);
        Err(TargetError::Unsupported { venue: self.name().to_owned(), what: "be waited for while it reboots".into() })
    }

    /// Waits until none of the wanted probes finds anything pending. `found` is what its greeting said of them.
    async fn settle(&self, found: Vec<Finding>, wanted: &[Probe], run: Run<'_>) -> Result<(), TargetError> {
        let _ = (found, wanted, run);
        Err(TargetError::Unsupported { venue: self.name().to_owned(), what: "be waited for while it starts".into() })
    }

    /// Returns the verbs of a venue that can be started and stopped.
    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        None
    }
}

#[async_trait]
impl<V: EngineVenue> DeployTarget for V {
    fn name(&self) -> &str {
        EngineVenue::name(self)
    }

    async fn facts(&self) -> Result<Facts, TargetError> {
        Ok(greeting(self).await?.facts)
    }

    async fn status(&self) -> Result<Status, TargetError> {
        let Hello { facts, deploys, .. } = greeting(self).await?;
        Ok(Status { facts, deploys })
    }

    async fn plan(&self, recipe: &dyn Recipe, observer: &mut dyn Observer) -> Result<Answer, TargetError> {
        let begin = |hello: &Hello| {
            let Compiled { mut apply, supply } = recipe.compile(hello)?;
            apply.mode = Mode::DryRun;
            Ok(Order { request: Request::Apply(Box::new(apply)), supply, sink: None })
        };
        converse(self, begin, Run { observer, interrupts: Interrupts::default() }).await
    }

    /// Where the venue is not ready, or the plan reboots it, this waits for it and goes on, as any other controller could.
    async fn add(&self, recipe: &dyn Recipe, run: Run<'_>) -> Result<Answer, TargetError> {
        let Run { observer, interrupts } = run;
        let mut granted: Option<BTreeSet<Gate>> = None;
        loop {
            // What goes on after a reboot was told before it.
            let is_first = granted.is_none();
            let mut watcher = Watcher { observer: &mut *observer, granted: granted.take(), rebooting: None };
            let mode = watcher.granted.clone().map(|gates| Mode::Go { gates });
            let (mut wanted, mut found) = (Vec::new(), Vec::new());
            let begin = |hello: &Hello| {
                let Compiled { mut apply, supply } = recipe.compile(hello)?;
                wanted = Probe::ALL.into_iter().filter(|probe| probe.concerns(&apply.plan)).collect();
                found.clone_from(&hello.unready);
                found.retain(|finding| wanted.contains(&finding.probe));
                if apply.mode != Mode::DryRun && found.iter().any(|finding| finding.seen == Seen::Pending) {
                    return Err(NotYet.into());
                }
                if let Some(mode) = mode {
                    apply.mode = mode;
                }
                Ok(Order { request: Request::Apply(Box::new(apply)), supply, sink: None })
            };
            let answer = converse(self, begin, Run { observer: &mut watcher, interrupts: interrupts.clone() }).await;
            if let Err(TargetError::Conversation(ClientError::Order(error))) = &answer
                && error.is::<NotYet>()
            {
                granted = watcher.granted;
                let run = Run { observer: &mut *observer, interrupts: interrupts.clone() };
                self.settle(found, &wanted, run).await?;
                continue;
            }
            if is_first {
                for finding in found {
                    let text = format!("something went wrong when it started: {finding}");
                    watcher.event(Event::Warning { text });
                }
            }
            let before = match (&answer, watcher.rebooting) {
                (Ok(Answer { done: Done { verdict: Verdict::Rebooting { boot }, .. }, .. }), _) => boot.clone(),
                // The machine was faster than its engine's last word.
                (Err(TargetError::Conversation(ClientError::BrokeOff { .. } | ClientError::Lost)), Some(boot)) => boot,
                _ => return answer,
            };
            granted = watcher.granted;
            self.back(&before, &wanted, Run { observer: &mut *observer, interrupts: interrupts.clone() }).await?;
        }
    }

    async fn del(&self, removal: &Removal<'_>, run: Run<'_>) -> Result<Answer, TargetError> {
        converse(self, |hello| Ok(Order::question(Request::Remove(removal(hello)?))), run).await
    }

    async fn check(&self, recipe: &dyn Recipe, run: Run<'_>) -> Result<Answer, TargetError> {
        let begin = |hello: &Hello| {
            let candies = recipe.compile(hello)?.apply.plan.candies;
            let checks = candies.into_iter().flat_map(|candy| {
                let name = candy.name;
                candy.checks.into_iter().map(move |check| (name.clone(), check))
            });
            Ok(Order::question(Request::Check(CheckRequest { checks: checks.collect() })))
        };
        converse(self, begin, run).await
    }

    async fn inspect(&self, question: Inspect) -> Result<Report, TargetError> {
        let run = Run { observer: &mut Unobserved, interrupts: Interrupts::default() };
        let answer = converse(self, |_| Ok(Order::question(Request::Inspect(question))), run).await?;
        match (answer.report, answer.done.verdict) {
            (Some(report), _) => Ok(report),
            (None, Verdict::Invalid(problem) | Verdict::Failed(problem) | Verdict::Refused(problem)) => {
                Err(TargetError::Answer(problem))
            }
            (None, _) => Err(ClientError::OutOfTurn { what: "its last word before its answer" }.into()),
        }
    }

    async fn deliver(&self, image: Deliver, supply: Box<dyn Supply>, run: Run<'_>) -> Result<Answer, TargetError> {
        converse(self, |_| Ok(Order { request: Request::Deliver(image), supply, sink: None }), run).await
    }

    async fn fetch(&self, file: Fetch, into: Box<dyn Write + Send>, run: Run<'_>) -> Result<Answer, TargetError> {
        let order = Order { sink: Some(Sink::new(into)), ..Order::question(Request::Fetch(file)) };
        converse(self, |_| Ok(order), run).await
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        EngineVenue::lifecycle(self)
    }
}

/// Holds one conversation.
async fn converse<V: EngineVenue + ?Sized>(
    venue: &V,
    begin: impl FnOnce(&Hello) -> Result<Order, BoxError> + Send,
    run: Run<'_>,
) -> Result<Answer, TargetError> {
    let mut client = Client::new(begin, run.observer, run.interrupts);
    venue.carry(&mut client).await?;
    Ok(client.finish()?)
}

/// Passes on what happens, and remembers what a run needs to go on after a reboot.
struct Watcher<'a> {
    observer: &'a mut dyn Observer,
    /// What was allowed when it was asked for.
    granted: Option<BTreeSet<Gate>>,
    rebooting: Option<BootMark>,
}

impl Observer for Watcher<'_> {
    fn diff(&mut self, diff: &Diff) {
        // What goes on after a reboot was shown before it.
        if self.granted.is_none() {
            self.observer.diff(diff);
            self.granted = Some(diff.gates.clone());
        }
    }

    fn decide(&mut self, diff: &Diff) -> Decision {
        let decision = self.observer.decide(diff);
        if let Decision::Proceed(gates) = &decision {
            self.granted = Some(gates.clone());
        }
        decision
    }

    fn event(&mut self, event: Event) {
        if let Event::Rebooting { boot } = &event {
            self.rebooting = Some(boot.clone());
        }
        self.observer.event(event);
    }

    fn cancelling(&mut self, count: u32) {
        self.observer.cancelling(count);
    }

    fn notice(&mut self, notice: Notice) {
        self.observer.notice(notice);
    }
}

/// Reads an engine's greeting and asks nothing.
pub async fn greeting<V: EngineVenue + ?Sized>(venue: &V) -> Result<Hello, TargetError> {
    let (mut observer, mut heard) = (Unobserved, None);
    let begin = |hello: &Hello| {
        heard = Some(hello.clone());
        Err(Enough.into())
    };
    let mut client = Client::new(begin, &mut observer, Interrupts::default());
    let carried = venue.carry(&mut client).await;
    let ended = client.finish();
    match (heard, carried, ended) {
        (Some(hello), _, _) => Ok(hello),
        (None, Err(error), _) => Err(error),
        (None, Ok(()), Err(error)) => Err(error.into()),
        (None, Ok(()), Ok(answer)) => Ok(answer.hello),
    }
}

/// Ends a conversation that has heard what it wanted.
#[derive(Debug, thiserror::Error)]
#[error("nothing is asked")]
struct Enough;

/// Ends a conversation with a venue that has to be waited for first.
#[derive(Debug, thiserror::Error)]
#[error("it is not ready yet")]
struct NotYet;

/// Watches a conversation in which nothing happens.
struct Unobserved;

impl Observer for Unobserved {
    fn diff(&mut self, _: &Diff) {}

    fn decide(&mut self, _: &Diff) -> Decision {
        Decision::Abort
    }

    fn event(&mut self, _: Event) {}

    fn cancelling(&mut self, _: u32) {}
}
