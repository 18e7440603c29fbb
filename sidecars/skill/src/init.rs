//! What process 1 of a container has to do: reap orphans and pass signals on.
//!
//! The server runs as a child, so that it only ever has children of its own; orphans of any run become this process's.

use std::{
    ffi::OsString,
    io,
    process::{Command, ExitCode},
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Tells whether this process has those duties.
pub(crate) fn is_needed() -> bool {
    std::process::id() == 1
}

/// Starts this program again with `arguments` and stays its parent until it ends; returns its exit code.
pub(crate) fn supervise(arguments: &[OsString]) -> io::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Handlers first: a signal that comes early then waits.
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        let server = Command::new("/proc/self/exe").args(arguments).spawn()?;
        let server = Pid::from_child(&server);
        loop {
            let passed = tokio::select! {
                _ = children.recv() => {
                    if let Some(code) = reap(server)? {
                        return Ok(code);
                    }
                    continue;
                }
                _ = terminate.recv() => Signal::TERM,
                _ = interrupt.recv() => Signal::INT,
                _ = hangup.recv() => Signal::HUP,
                _ = quit.recv() => Signal::QUIT,
            };
            // The server is only reaped above, so its number still means it.
            let _ = kill_process(server, passed);
        }
    })
}

/// Reaps every child that has ended; returns the server's exit code if it was among them.
fn reap(server: Pid) -> io::Result<Option<ExitCode>> {
    loop {
        match wait(WaitOptions::NOHANG)? {
            Some((pid, status)) if pid == server => return Ok(Some(code_of(status))),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

fn code_of(status: WaitStatus) -> ExitCode {
    let signalled = || status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or_else(signalled).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
