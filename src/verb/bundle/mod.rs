//! Deploys.

pub(crate) mod add;
mod artifact;
mod del;
mod fleet;
mod from_box;
mod list;
mod plan;
mod show;
mod status;

use clap::Subcommand;

pub(crate) use add::Compile;

use crate::context::Context;
use crate::exit::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Add(add::Args),
    Del(del::Args),
    Plan(plan::Args),
    List(list::Args),
    Show(show::Args),
    Status(status::Args),
    FromBox(from_box::Args),
}

impl Verb {
    pub(crate) fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(args) => add::run(cx, &args),
            Self::Del(args) => del::run(cx, &args),
            Self::Plan(args) => plan::run(cx, &args),
            Self::List(args) => list::run(cx, &args),
            Self::Show(args) => show::run(cx, &args),
            Self::Status(args) => status::run(cx, &args),
            Self::FromBox(args) => from_box::run(cx, &args),
        }
    }
}
