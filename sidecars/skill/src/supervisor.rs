//! The process that stays beside the server: it takes in what runs leave behind, and ends it when the server is gone.
//!
//! The server runs as its child, so that the server has children of its own only. Orphans of any run become this
//! process's, as they would become process 1's: it reaps them, and when the server ends, killed or not, it kills them,
//! whatever group or session they are in. The server watches it through a pipe in turn, and ends its runs when this
//! process is killed.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs,
    io::{self, pipe},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait},
};
use tokio::signal::unix::{SignalKind, signal};

/// What the server is called among the processes: whoever kills all of the program's own name leaves one of the two.
const NAME: &CStr = c"skill-server";

/// How long killed processes may take to end; only one that waits for a device or a network file system takes longer.
const DEATH: Duration = Duration::from_secs(5);

/// Starts this program again with `arguments` and stays its parent until it ends; returns its exit code.
pub(crate) fn supervise(arguments: &[OsString]) -> io::Result<ExitCode> {
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let (tie, _kept) = pipe()?;
    let code = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Handlers first: a signal that comes early then waits.
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut server = Command::new("/proc/self/exe");
        let server = server.arg0(OsStr::from_bytes(NAME.to_bytes())).args(arguments).stdin(Stdio::from(tie)).spawn()?;
        let server = Pid::from_child(&server);
        loop {
            let passed = tokio::select! {
                _ = children.recv() => {
                    if let Some(code) = reap(server)? {
                        return Ok::<_, io::Error>(code);
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
    })?;
    end_orphans();
    Ok(code)
}

/// Gives this process the server's name; the kernel would call it `exe`.
pub(crate) fn take_name() {
    let _ = rustix::thread::set_name(NAME);
}

/// Reaps every child that has ended; returns the server's exit code if it was among them.
fn reap(server: Pid) -> io::Result<Option<ExitCode>> {
    let mut code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == server => code = Some(code_of(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(code),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills and reaps every child, and those that become children by that, until there is none.
fn end_orphans() {
    let end = Instant::now() + DEATH;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(_) => return,
        }
        if Instant::now() > end {
            return tracing::warn!("processes of runs do not end");
        }
        for child in children_of(rustix::process::getpid()) {
            let _ = kill_process(child, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Looks for the children of a process where every kernel shows them.
fn children_of(parent: Pid) -> Vec<Pid> {
    let parent_of = |pid: Pid| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| parent_of(*pid) == Some(parent.as_raw_nonzero().get()))
        .collect()
}

fn code_of(status: WaitStatus) -> ExitCode {
    let signalled = || status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or_else(signalled).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
