//! The lab by hand: the verbs of the crate on a command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use charly_lab::fault::{Fault, Proxy};
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
    /// Carry connections to an address over a worse network; prints where to connect, and what has passed on each line of input
    Proxy {
        /// Where to: an address and a port
        #[arg(long)]
        to: SocketAddr,
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Delay there and back, in milliseconds
        #[arg(long, default_value_t = 0)]
        rtt: u32,
        /// Bytes a second in each direction
        #[arg(long)]
        bandwidth: Option<u64>,
        /// Harm to do once: `to-server` or `to-client`, `:`, `close`, `reset`, `stall` or `corrupt`, `@` and the bytes before it
        #[arg(long)]
        fault: Vec<Fault>,
    },
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
    // The proxy needs nothing of what guests do.
    if let Verb::Proxy { to, listen, rtt, bandwidth, fault } = verb {
        let proxy = fault.into_iter().fold(Proxy::listen(listen, to)?.with_rtt_ms(rtt), Proxy::with_fault);
        let proxy = match bandwidth {
            Some(bytes) => proxy.with_bandwidth(bytes),
            None => proxy,
        };
        return Ok(serve(&proxy)?);
    }
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
        // Done above.
        Verb::Proxy { .. } => {}
    }
    Ok(())
}

/// Keeps a proxy until the input ends, and prints its counts as often as it is asked.
fn serve(proxy: &Proxy) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", proxy.address())?;
    for line in io::stdin().lines() {
        line?;
        writeln!(out, "{}", proxy.counts())?;
    }
    Ok(())
}

/// Prints what an ssh of one's own needs: host, port and key.
fn describe(out: &mut impl Write, guest: &Guest) -> io::Result<()> {
    writeln!(out, "{} {} {}", guest.address(), guest.port(), guest.key().display())
}
