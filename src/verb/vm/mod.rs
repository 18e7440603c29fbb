//! Virtual machines.

mod autostart;
mod build;
mod clone;
mod console;
mod cp_box;
mod create;
pub(crate) mod deployed;
pub(crate) mod destroy;
pub(crate) mod disposition;
mod import;
mod list;
mod reap;
mod restart;
mod show;
mod snapshot;
pub(crate) mod source;
mod ssh;
mod start;
mod stop;

use std::time::Duration;

use charly_ir::message::Problem;
use charly_target_vm::machine::{Autostart, BadName, MachineError, Machines, Name, Settings, Stage, State, Step};
use clap::Subcommand;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Line, Printer};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Build(build::Args),
    Create(create::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Destroy(destroy::Args),
    List(list::Args),
    Show(show::Args),
    Ssh(ssh::Args),
    Console(console::Args),
    /// Take, list, go back to and delete snapshots of a machine's disk
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    Clone(clone::Args),
    Import(import::Args),
    Autostart(autostart::Args),
    Reap(reap::Args),
    CpBox(cp_box::Args),
}

impl Verb {
    pub(crate) fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Build(args) => build::run(cx, &args),
            Self::Create(args) => create::run(cx, &args),
            Self::Start(args) => start::run(cx, &args),
            Self::Stop(args) => stop::run(cx, &args),
            Self::Restart(args) => restart::run(cx, &args),
            Self::Destroy(args) => destroy::run(cx, &args),
            Self::List(args) => list::run(cx, &args),
            Self::Show(args) => show::run(cx, &args),
            Self::Ssh(args) => ssh::run(cx, &args),
            Self::Console(args) => console::run(cx, &args),
            Self::Snapshot(verb) => verb.run(cx),
            Self::Clone(args) => clone::run(cx, &args),
            Self::Import(args) => import::run(cx, &args),
            Self::Autostart(args) => autostart::run(cx, &args),
            Self::Reap(args) => reap::run(cx, &args),
            Self::CpBox(args) => cp_box::run(cx, &args),
        }
    }
}

/// How long a machine that somebody's deploy needs is waited for. Without KVM, a start takes a minute or two, a
/// first one or a busy host's more.
const START: Duration = Duration::from_secs(900);

/// How long a machine is waited for.
#[derive(Debug, clap::Args)]
struct Wait {
    /// Do not wait until one can log in
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so long
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

impl Wait {
    /// Waits until one can log in to a machine, and says how to come in.
    fn ready(&self, cx: &Context, machines: &Machines, state: &State) -> Outcome {
        if !self.no_wait {
            let at_most = Duration::from_secs(self.timeout.into());
            machines.await_ready(state, at_most, &cx.interrupts, &mut tell(cx.printer))?;
            let name = &state.name;
            cx.printer.say(format_args!("`{name}` is ready; log in with `charly vm ssh {name}`"));
        }
        done(cx)
    }
}

/// Starts a machine that does not run, and waits until it answers.
pub(crate) fn running(cx: &Context, name: &Name) -> Result<(), Failure> {
    let machines = machines(cx);
    let state = machines.get(name)?;
    let state = match machines.stage(&state)? {
        Stage::Ready => return Ok(()),
        Stage::Booting => state,
        Stage::HalfMade | Stage::Built | Stage::Stopped | Stage::Paused | Stage::Crashed => {
            machines.start(name, &mut tell(cx.printer))?
        }
    };
    machines.await_ready(&state, START, &cx.interrupts, &mut tell(cx.printer))?;
    Ok(())
}

/// Returns all machines of the user.
pub(crate) fn machines(cx: &Context) -> Machines {
    // Where a service is started, the user's own variables are not.
    let kept = [
        ("XDG_STATE_HOME", &cx.state, ".local/state"),
        ("XDG_DATA_HOME", &cx.data, ".local/share"),
        ("XDG_CACHE_HOME", &cx.cache, ".cache"),
    ];
    let elsewhere = kept.into_iter().filter_map(|(variable, own, usual)| {
        let base = own.parent()?.to_path_buf();
        (base != cx.home.join(usual)).then_some((variable, base))
    });
    Machines::new(Settings {
        folder: cx.state.join("vm"),
        bases: cx.data.join("base"),
        work: cx.cache.join("vm"),
        home: cx.home.clone(),
        autostart: Autostart {
            units: cx.units.clone(),
            program: std::env::current_exe().unwrap_or_else(|_| "charly".into()),
            environment: elsewhere.collect(),
        },
    })
}

/// Reads a machine's name, with or without the prefix that `bundle` knows machines by.
pub(crate) fn name(text: &str) -> Result<Name, Failure> {
    let text = text.strip_prefix("vm:").unwrap_or(text);
    text.parse().map_err(|bad: BadName| Failure::invalid(bad.to_string()).hint(BadName::HINT))
}

/// Says what a making or a start is at.
pub(crate) fn tell(printer: Printer) -> impl FnMut(Step) {
    move |step| match step {
        Step::Fetching(url) => printer.say(format_args!("looking for {url}")),
        Step::Bootstrapping(what) => {
            printer.say(format_args!("bootstrapping {what}, once; this takes a minute or two"));
        }
        Step::Disk => printer.say("making its disk"),
        Step::Starting => printer.say("starting it"),
        Step::Slow(why) => printer.say(format_args!("warning: it runs in software emulation, slowly: {why}")),
        Step::NotPasst(why) => printer.say(format_args!("warning: QEMU itself carries its network: {why}")),
        Step::Port(port) => printer.say(format_args!("its port was taken; it is now {port}")),
        Step::Booting => printer.say("waiting until one can log in"),
    }
}

/// Ends a verb that did what was asked.
fn done(cx: &Context) -> Outcome {
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    }
    Ok(Exit::Done)
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        let exit = match &error {
            MachineError::Invalid { .. } => Exit::Invalid,
            MachineError::Refused { .. } => Exit::Refused,
            MachineError::Control { .. } => Exit::Unreachable,
            MachineError::Interrupted => Exit::Interrupted,
            MachineError::Failed { .. }
            | MachineError::File { .. }
            | MachineError::Missing { .. }
            | MachineError::Program { .. }
            | MachineError::Fetch(_) => Exit::Failed,
        };
        let problem = Problem::from_error(&error);
        Self::new(
            exit,
            match error.hint() {
                Some(hint) => problem.hint(hint),
                None => problem,
            },
        )
    }
}
