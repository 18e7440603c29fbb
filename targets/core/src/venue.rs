//! Whoever can start an engine and carry bytes is a target.

use std::fmt::Debug;
use std::io::Write;

use async_trait::async_trait;
use charly_ir::facts::Facts;
use charly_ir::message::{CheckRequest, Diff, Event, Hello, Inspect, Mode, Report, Request, Verdict};
use charly_ir::text::Text;

use crate::target::{
    Compiled, Decision, DeployTarget, Lifecycle, Observer, Order, Recipe, Removal, Run, Sink, Status, TargetError,
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

    async fn add(&self, recipe: &dyn Recipe, run: Run<'_>) -> Result<Answer, TargetError> {
        let begin = |hello: &Hello| {
            let Compiled { apply, supply } = recipe.compile(hello)?;
            Ok(Order { request: Request::Apply(Box::new(apply)), supply, sink: None })
        };
        converse(self, begin, run).await
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

    async fn fetch(
        &self,
        path: &Text,
        wait_s: u32,
        into: Box<dyn Write + Send>,
        run: Run<'_>,
    ) -> Result<Answer, TargetError> {
        let begin = |_: &Hello| {
            let request = Request::Fetch { path: path.clone(), wait_s };
            Ok(Order { sink: Some(Sink::new(into)), ..Order::question(request) })
        };
        converse(self, begin, run).await
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

/// Reads an engine's greeting and asks nothing.
async fn greeting<V: EngineVenue + ?Sized>(venue: &V) -> Result<Hello, TargetError> {
    let (mut observer, mut heard) = (Unobserved, None);
    let begin = |hello: &Hello| {
        heard = Some(hello.clone());
        Err(Enough.into())
    };
    let mut client = Client::new(begin, &mut observer, Interrupts::default());
    let carried = venue.carry(&mut client).await;
    drop(client);
    match (heard, carried) {
        (Some(hello), _) => Ok(hello),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(ClientError::NoEngine { evidence: String::new() }.into()),
    }
}

/// Ends a conversation that has heard what it wanted.
#[derive(Debug, thiserror::Error)]
#[error("nothing is asked")]
struct Enough;

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
