//! One run: from the order to its outcome, with the three streams, the deadline and cancellation handled together.

use std::{
    error::Error,
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use libc::sock_filter;
use rustix::{
    fs::{Mode, OFlags},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus},
};
use tokio::{
    io::{AsyncWriteExt, unix::AsyncFd},
    net::unix::pipe::{Receiver, Sender},
    time::{sleep, timeout},
};

use crate::{
    folder::Program,
    orphans::Orphans,
    spawn::{Identity, Launch, ResourceLimit, spawn, watch},
};

/// How long a killed process may take to end before the answer goes out without it; only one that waits for a device
/// or a network file system takes longer, and it is reaped in the background.
const DEATH: Duration = Duration::from_secs(2);

/// Bytes read from a pipe at once.
const CHUNK: usize = 16 * 1024;

/// Bytes read after the end from a pipe that a survivor may still be writing to: more than a pipe holds.
const LAST_BYTES: usize = 1 << 20;

/// Holds everything that is needed to run a program once.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) program: Program,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) folder: BorrowedFd<'a>,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) limits: &'a [ResourceLimit],
    pub(crate) ruleset: Option<OwnedFd>,
    pub(crate) filter: Option<&'a [sock_filter]>,
    pub(crate) orphans: &'a Arc<Orphans>,
    pub(crate) time: Duration,
    pub(crate) output: usize,
}

/// Holds what became of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
}

impl Outcome {
    pub(crate) fn not_started(why: String) -> Self {
        Self::without_output(Ending::NotStarted(why))
    }

    pub(crate) fn without_output(ending: Ending) -> Self {
        Self { ending, stdout: Stream::default(), stderr: Stream::default() }
    }
}

/// Says how a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Signalled(i32),
    TimedOut,
    Cancelled,
    /// It waited for as long as it may run.
    NoTurn,
    NotStarted(String),
}

/// Holds the beginning of what a program wrote.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) kept: Vec<u8>,
    pub(crate) truncated: bool,
}

impl Stream {
    /// Returns what was kept, without the half of a character that the limit may have left at the end.
    pub(crate) fn visible(&self) -> &[u8] {
        match str::from_utf8(&self.kept) {
            Err(error) if self.truncated && error.error_len().is_none() => &self.kept[..error.valid_up_to()],
            _ => &self.kept,
        }
    }

    /// Keeps only the first bytes.
    pub(crate) fn cut(&mut self, most: usize) {
        self.truncated |= self.kept.len() > most;
        self.kept.truncate(most);
    }

    fn push(&mut self, bytes: &[u8], most: usize) {
        let room = most.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.truncated |= room < bytes.len();
    }
}

/// Runs a program until it ends, its time is over, or `stop` resolves. Whichever comes first, all its processes are
/// dead when this returns.
pub(crate) async fn execute(order: Order<'_>, stop: impl Future<Output = ()>) -> Outcome {
    let (time, output, orphans) = (order.time, order.output, order.orphans);
    let Running { mut leader, mut stdin, mut stdout, mut stderr } = match start(order) {
        Ok(running) => running,
        Err(error) => return Outcome::not_started(explain(error.as_ref())),
    };
    let cut_short = {
        let mut ended = pin!(leader.ended());
        let mut streams = pin!(async {
            tokio::join!(feed(&mut stdin), stdout.pump(output), stderr.pump(output));
        });
        let mut streaming = true;
        let mut deadline = pin!(sleep(time));
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut ended => break None,
                () = &mut streams, if streaming => streaming = false,
                () = &mut deadline => break Some(Ending::TimedOut),
                () = &mut stop => break Some(Ending::Cancelled),
            }
        }
    };
    // The leader has not been reaped yet, so its number still means its group.
    leader.kill_group();
    if cut_short.is_some() {
        let _ = timeout(DEATH, leader.ended()).await;
    }
    if !orphans.end(leader.pid, DEATH).await {
        end_later(orphans.clone(), leader.pid);
    }
    let status = leader.reap();
    stdout.drain(output);
    stderr.drain(output);
    let ending = cut_short.unwrap_or_else(|| status.map_or(Ending::Signalled(0), |status| ending_of(&status)));
    Outcome { ending, stdout: stdout.stream, stderr: stderr.stream }
}

fn ending_of(status: &WaitIdStatus) -> Ending {
    match status.exit_status() {
        Some(code) => Ending::Exited(code),
        None => Ending::Signalled(status.terminating_signal().unwrap_or(0)),
    }
}

fn explain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", explain(cause)),
        None => error.to_string(),
    }
}

struct Running<'a> {
    leader: Leader<'a>,
    /// What the program has yet to read, and the pipe; none once it has everything.
    stdin: Option<(Vec<u8>, Sender)>,
    stdout: Pump,
    stderr: Pump,
}

fn start(order: Order<'_>) -> Result<Running<'_>, Box<dyn Error + Send + Sync>> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (stdin_end, stdin) = match order.stdin {
        Some(bytes) => {
            let (read, write) = pipe()?;
            (read, Some((bytes, Sender::from_owned_fd(write)?)))
        }
        None => (rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None),
    };
    let (stdout, stderr) = (Pump::new(stdout)?, Pump::new(stderr)?);
    let spawned = spawn(&Launch {
        program: order.program.handle(),
        arguments: &order.arguments,
        environment: &order.environment,
        stdio: [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()],
        folder: order.folder,
        identity: order.identity,
        limits: order.limits,
        ruleset: order.ruleset.as_ref().map(AsFd::as_fd),
        filter: order.filter,
    })?;
    Ok(Running { leader: Leader::watch(order.orphans, spawned.pid, spawned.handle)?, stdin, stdout, stderr })
}

/// Writes what the program is to read, and closes the pipe. A program that does not care is no failure.
async fn feed(stdin: &mut Option<(Vec<u8>, Sender)>) {
    if let Some((bytes, pipe)) = stdin {
        let _ = pipe.write_all(bytes).await;
    }
    *stdin = None;
}

/// Reads one stream.
struct Pump {
    pipe: Receiver,
    stream: Stream,
}

impl Pump {
    fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: Receiver::from_owned_fd(pipe)?, stream: Stream::default() })
    }

    /// Reads until nobody can write any more; what is beyond the limit is read and dropped, so that it blocks nobody.
    async fn pump(&mut self, most: usize) {
        while self.pipe.readable().await.is_ok() {
            let Self { pipe, stream } = self;
            match pipe.try_io(|| Ok(take(pipe, stream, most)?)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    }

    /// Takes what is in the pipe now. A process that left the group may hold it open, and is not waited for.
    fn drain(&mut self, most: usize) {
        let mut left = LAST_BYTES;
        while left > 0 {
            match take(&self.pipe, &mut self.stream, most) {
                Ok(0) | Err(_) => break,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    }
}

fn take(pipe: &Receiver, stream: &mut Stream, most: usize) -> rustix::io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut chunk))?;
    stream.push(&chunk[..count], most);
    Ok(count)
}

/// Holds the first process of a run, which leads its group.
struct Leader<'a> {
    orphans: &'a Orphans,
    pid: Pid,
    /// None once it was reaped.
    handle: Option<AsyncFd<OwnedFd>>,
}

impl<'a> Leader<'a> {
    fn watch(orphans: &'a Orphans, pid: Pid, handle: OwnedFd) -> io::Result<Self> {
        match watch(handle) {
            Ok(handle) => Ok(Self { orphans, pid, handle: Some(handle) }),
            Err((handle, error)) => {
                kill_group(pid);
                reap_later(handle);
                Err(error)
            }
        }
    }

    /// Resolves when the process has ended; it is not reaped yet then.
    async fn ended(&self) {
        if let Some(handle) = &self.handle {
            // An error means that the runtime is going away, and the run with it.
            drop(handle.readable().await);
        }
    }

    fn kill_group(&self) {
        if self.handle.is_some() {
            kill_group(self.pid);
        }
    }

    /// Reaps the process if it has ended.
    fn reap(&mut self) -> Option<WaitIdStatus> {
        let handle = self.handle.as_ref()?;
        let status =
            rustix::process::waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let status = status.ok().flatten()?;
        self.handle = None;
        Some(status)
    }
}

impl Drop for Leader<'_> {
    /// Ends a run whose future was dropped, so that none goes on unseen. That happens when the server ends; what has
    /// left the group and is no orphan yet is the supervisor's then.
    fn drop(&mut self) {
        self.kill_group();
        if self.handle.is_some() {
            self.orphans.kill(self.pid);
        }
        if self.reap().is_none()
            && let Some(handle) = self.handle.take()
        {
            reap_later(handle.into_inner());
        }
    }
}

fn kill_group(leader: Pid) {
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
}

/// Goes on ending what is left of a session, which keeps its number until then.
fn end_later(orphans: Arc<Orphans>, session: Pid) {
    tracing::warn!(session = session.as_raw_nonzero(), "processes of a run do not end");
    tokio::spawn(async move {
        while !orphans.end(session, DEATH).await {
            sleep(DEATH).await;
        }
    });
}

/// Waits for a killed process that cannot end yet.
fn reap_later(handle: OwnedFd) {
    std::thread::spawn(move || {
        let _ = rustix::process::waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED);
    });
}
