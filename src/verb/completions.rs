//! `completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::{Exit, Outcome};

/// Print completions for a shell
///
/// For bash: charly completions bash > ~/.local/share/bash-completion/completions/charly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "charly", &mut script);
    cx.printer.data(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
