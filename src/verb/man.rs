//! `man`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::exit::{Exit, Failure, Outcome};

/// Write the manual pages into a folder
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The folder
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let written = std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.folder))
        .with_context(|| format!("the manual pages cannot be written to `{}`", args.folder.display()));
    written.map_err(|error| Failure::error(Exit::Failed, error))?;
    Ok(Exit::Done)
}
