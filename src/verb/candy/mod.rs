//! Candies.

mod list;
mod new;
mod show;
mod validate;

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Validate(validate::Args),
    List(list::Args),
    Show(show::Args),
    New(new::Args),
}

impl Verb {
    pub(crate) fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Validate(args) => validate::run(cx, &args),
            Self::List(args) => list::run(cx, &args),
            Self::Show(args) => show::run(cx, &args),
            Self::New(args) => new::run(cx, &args),
        }
    }
}
