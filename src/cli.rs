//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Format;
use crate::verb;

/// One recipe for a machine's software, and a way back.
///
/// Candies are small recipes. A deploy is what a place is to hold of them: this machine is the deploy `local`.
#[derive(Debug, Parser)]
#[command(name = "charly", version, max_term_width = 100, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The exit codes, as `--help` shows them.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a step or check failed or an undo is pending; the same command resumes
  2    the command line makes no sense
  3    the configuration or plan is wrong, or names nothing that exists; nothing was touched
  4    the venue cannot be reached; nothing was forgotten
  5    refused: a gate, a lock, a host key, a confirmation
  130  interrupted; the same command resumes";

/// What every verb takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that is there or not")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Work in the project in DIR
    #[arg(short = 'C', long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Print for people, or one JSON document a line
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Answer every question with yes
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Show every step, detail and line of output
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Show nothing but errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Look up branches and tags of other repositories again
    #[arg(long, global = true)]
    pub(crate) refresh: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add, take away and look at deploys
    #[command(subcommand)]
    Bundle(verb::bundle::Verb),
    /// List, show, validate and begin candies
    #[command(subcommand)]
    Candy(verb::candy::Verb),
    /// Make, start, stop, copy and delete virtual machines
    #[command(subcommand)]
    Vm(verb::vm::Verb),
    /// Build container images, look at them, hand them on
    #[command(subcommand)]
    Box(verb::boxes::Verb),
    Update(verb::update::Args),
    SshConfig(verb::ssh_config::Args),
    Validate(verb::validate::Args),
    Check(verb::check::Args),
    Why(verb::why::Args),
    Drift(verb::drift::Args),
    Doctor(verb::doctor::Args),
    /// Run programs for callers who may hold no credentials
    #[command(subcommand)]
    Skill(verb::skill::Verb),
    Completions(verb::completions::Args),
    Man(verb::man::Args),
    #[command(hide = true)]
    Inside(verb::boxes::Inside),
}

/// Tells whether a word is a verb of `bundle`, which people write without it.
pub(crate) fn is_bundle_verb(word: &str) -> bool {
    let mut verbs = Cli::command();
    verbs.find_subcommand_mut("bundle").is_some_and(|bundle| bundle.find_subcommand(word).is_some())
}

impl Verb {
    /// Does it. What serves or only prints asks for no context: a server's user may have no home.
    pub(crate) fn run(self, context: impl FnOnce() -> Result<Context, Failure>) -> Outcome {
        match self {
            Self::Bundle(verb) => verb.run(&context()?),
            Self::Candy(verb) => verb.run(&context()?),
            Self::Vm(verb) => verb.run(&context()?),
            Self::Box(verb) => verb.run(&context()?),
            Self::Inside(args) => verb::boxes::inside(&args),
            Self::Update(args) => verb::update::run(&context()?, args),
            Self::SshConfig(args) => verb::ssh_config::run(&context()?, &args),
            Self::Validate(args) => verb::validate::run(&context()?, &args),
            Self::Check(args) => verb::check::run(&context()?, &args),
            Self::Why(args) => verb::why::run(&context()?, &args),
            Self::Drift(args) => verb::drift::run(&context()?, &args),
            Self::Doctor(args) => verb::doctor::run(&context()?, &args),
            Self::Skill(verb) => verb.run(),
            Self::Completions(args) => verb::completions::run(&context()?, &args),
            Self::Man(args) => verb::man::run(&args),
        }
    }
}
