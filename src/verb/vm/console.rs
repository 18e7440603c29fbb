//! `vm console`

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::AsFd;

use charly_target_vm::machine::life::CONSOLE_LOG;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{done, machines, name};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::clean;

/// Leaves a console: Ctrl-].
const DETACH: u8 = 0x1d;

/// Attach to a machine's serial console; Ctrl-] leaves it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Print what it said so far, and do not attach
    #[arg(long)]
    log: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = name(&args.name)?;
    let machines = machines(cx);
    let state = machines.get(&name)?;
    if args.log {
        let path = machines.folder().join(name.as_str()).join(CONSOLE_LOG);
        let log = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            log => log.map_err(|error| Failure::error(Exit::Failed, error))?,
        };
        cx.printer.data(clean(&String::from_utf8_lossy(&log)))?;
        return done(cx);
    }
    let console = machines.console(&state)?;
    cx.printer.say(format_args!("attached to `{name}`; Ctrl-] leaves"));
    let carried = carry(console);
    cx.printer.say("");
    carried.map_err(|error| Failure::error(Exit::Failed, error))?;
    done(cx)
}

/// The user's terminal, passing on every key until it is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing is left to be done about a terminal that is gone.
            tcsetattr(io::stdin(), OptionalActions::Now, before).ok();
        }
    }
}

/// Carries bytes both ways until the user leaves, or the machine does.
fn carry(mut console: impl Read + Write + AsFd) -> io::Result<()> {
    let _raw = Raw::enter()?;
    let mut stdin = File::from(rustix::io::dup(io::stdin())?);
    let mut stdout = io::stdout();
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&console, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        let [typed, said] = fds.map(|fd| !fd.revents().is_empty());
        if said {
            match console.read(&mut buffer)? {
                0 => return Ok(()),
                n => stdout.write_all(&buffer[..n]).and_then(|()| stdout.flush())?,
            }
        }
        if typed {
            let n = stdin.read(&mut buffer)?;
            let leave = buffer[..n].iter().position(|byte| *byte == DETACH);
            console.write_all(&buffer[..leave.unwrap_or(n)])?;
            if n == 0 || leave.is_some() {
                return Ok(());
            }
        }
    }
}
