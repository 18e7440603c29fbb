//! `vm autostart`

use super::{done, machines, name};
use crate::context::Context;
use crate::exit::Outcome;

/// Start a machine with this one, by a unit of the user's own systemd, or no longer
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Whether it is started
    #[arg(value_enum)]
    switch: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    machines(cx).autostart(&name(&args.name)?, args.switch == Switch::On)?;
    done(cx)
}
