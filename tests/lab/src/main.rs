//! The lab by hand: the verbs of the crate on a command line.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use charly_lab::{Guest, Kind, Lab};
use clap::{Parser, ValueEnum};

/// Boots throw-away Debian guests, and lets you see what a test sees.
#[derive(Debug, Parser)]
enum Verb {
    /// Make an image anew, from today's packages
    Build { strength: Strength },
    /// Boot a fresh guest that stays until `down`
    Up { strength: Strength, name: String },
    /// Take a guest down and delete all it left
    Down { name: String },
    /// Drop a guest's network
    Cut { name: String },
    /// Put a guest's network back
    Mend { name: String },
    /// Cut a guest's power; its disk stays
    Pull { name: String },
    /// Start a guest that was pulled or powered off
    Boot { name: String },
    /// Log in to a guest, or run a command in it
    Ssh {
        name: String,
        /// Who to be
        #[arg(short, long, default_value = "deploy")]
        user: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Print a guest's inventory, a line for each item; made for `diff`
    Snapshot { name: String },
    /// List the guests, those of running tests included
    List,
    /// Take down every guest no running test holds, and the package proxy with the last
    Clean,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strength {
    Nspawn,
    Qemu,
}

impl From<Strength> for Kind {
    fn from(strength: Strength) -> Self {
        match strength {
            Strength::Nspawn => Self::Nspawn,
            Strength::Qemu => Self::Qemu,
        }
    }
}

fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut shown = format!("charly-lab: {error}");
            let mut source = error.source();
            while let Some(deeper) = source {
                shown = format!("{shown}: {deeper}");
                source = deeper.source();
            }
            let _ = writeln!(io::stderr(), "{shown}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(reason) = charly_lab::missing() {
        return Err(reason.into());
    }
    let lab = Lab::from_env();
    let mut out = io::stdout().lock();
    match verb {
        Verb::Build { strength } => lab.build(strength.into(), true)?,
        Verb::Up { strength, name } => describe(&mut out, &lab.keep(strength.into(), &name)?)?,
        Verb::Down { name } => lab.find(&name)?.down()?,
        Verb::Cut { name } => lab.find(&name)?.cut()?,
        Verb::Mend { name } => lab.find(&name)?.mend()?,
        Verb::Pull { name } => lab.find(&name)?.pull()?,
        Verb::Boot { name } => lab.find(&name)?.boot()?,
        Verb::Ssh { name, user, command } => {
            return Err(lab.find(&name)?.ssh_command(&user).args(command).exec().into());
        }
        Verb::Snapshot { name } => {
            for (item, value) in lab.find(&name)?.snapshot()?.items() {
                writeln!(out, "{item}: {value}")?;
            }
        }
        Verb::List => {
            for name in lab.list()? {
                writeln!(out, "{name}")?;
            }
        }
        Verb::Clean => lab.clean()?,
    }
    Ok(())
}

/// Prints what an ssh of one's own needs: host, port and key.
fn describe(out: &mut impl Write, guest: &Guest) -> io::Result<()> {
    writeln!(out, "{} {} {}", guest.address(), guest.port(), guest.key().display())
}
