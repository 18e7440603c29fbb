//! `vm stop`

use std::time::Duration;

use charly_target_vm::machine::life::Stop;

use super::{done, machines, name};
use crate::context::Context;
use crate::exit::Outcome;

/// Shut a machine down
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    #[command(flatten)]
    how: How,
}

/// How a machine is shut down.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Cut its power where it does not shut down in time
    #[arg(long)]
    force: bool,
    /// How long its shutdown may take
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    shutdown_timeout: u32,
}

impl From<&How> for Stop {
    fn from(how: &How) -> Self {
        Self { patience: Duration::from_secs(how.shutdown_timeout.into()), force: how.force }
    }
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    machines(cx).stop(&name(&args.name)?, (&args.how).into())?;
    done(cx)
}
