//! `charly skill`: the skill server, for machines that have charly already.

use charly_skill::cli::{Process, ServeArgs, run as serve};
use clap::Subcommand;

use crate::exit::{Exit, Failure, Outcome};

/// What can be done with skills.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run programs for callers who may hold no credentials
    ///
    /// The same server as the program `charly-skill`.
    Serve(Box<ServeArgs>),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(self) -> Outcome {
        let Self::Serve(args) = self;
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
        let (arguments, environment) = (std::env::args_os().skip(1).collect(), std::env::vars_os().collect());
        let process = Process { arguments, environment };
        match serve(*args, process, &mut std::io::stdout()) {
            Ok(code) if code == std::process::ExitCode::SUCCESS => Ok(Exit::Done),
            Ok(_) => Ok(Exit::Failed),
            Err(error) => Err(Failure::error(Exit::Failed, error)),
        }
    }
}
