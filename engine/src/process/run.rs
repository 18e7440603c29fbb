//! The run: output as it comes, time limit, cancel, daemons that keep the output open.

use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use super::{Cancel, Exit, Program, Stream, keeper, tree};

/// How often a cancel is looked for while the program is quiet.
const TICK: Duration = Duration::from_millis(50);
/// How often the processes are looked through while they are being ended.
const ENDING_TICK: Duration = Duration::from_millis(10);
/// How long the processes have to end themselves once they were asked to.
const GRACE: Duration = Duration::from_secs(1);
/// How long processes that even SIGKILL does not end (they wait for a device) are waited for.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long output is still awaited after the program ended, where something else keeps its streams open.
const LINGER: Duration = Duration::from_millis(200);
/// As much as a pipe holds by default, so that one read takes all there is.
const BUFFER: usize = 64 << 10;
/// The most taken from a stream at once after the program ended; pipes hold no more unless root widens them.
const LAST_WORDS: usize = 1 << 20;

/// Runs a program to its end, hands on its output as it comes, and ends all its descendants where time is up or the cancel
/// is hard.
///
/// Descendants that outlive a program that ended by itself are left alone, and only waited for as long as it takes to see
/// that they have nothing more to say.
pub fn run(program: &Program, cancel: &Cancel, output: &mut dyn FnMut(Stream, &[u8])) -> io::Result<Exit> {
    let kept = keeper::start(program).map_err(|source| {
        let name = program.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        io::Error::new(source.kind(), StartError { name, source })
    })?;
    let deadline = program.limit.and_then(|limit| Instant::now().checked_add(limit));
    Run::new(kept)?.complete(deadline, cancel, output)
}

/// A program that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{name}`")]
struct StartError {
    name: String,
    source: io::Error,
}

/// What a program wrote, up to a cap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capture {
    /// The first bytes.
    pub bytes: Vec<u8>,
    /// Whether there were more.
    pub truncated: bool,
}

/// A program's end and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Capture,
    /// Its standard error.
    pub stderr: Capture,
}

/// Runs a program like [`run`] and keeps the first `cap` bytes of each of its streams.
pub fn run_captured(program: &Program, cancel: &Cancel, cap: usize) -> io::Result<Captured> {
    let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
    let exit = run(program, cancel, &mut |stream, bytes| match stream {
        Stream::Stdout => stdout.take(bytes, cap),
        Stream::Stderr => stderr.take(bytes, cap),
    })?;
    Ok(Captured { exit, stdout, stderr })
}

impl Capture {
    /// Returns the bytes as text, those that are not UTF-8 replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    fn take(&mut self, bytes: &[u8], cap: usize) {
        let room = bytes.len().min(cap.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..room]);
        self.truncated |= room < bytes.len();
    }
}

struct Run {
    keeper: Child,
    root: i32,
    status: PipeReader,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    buffer: Box<[u8]>,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The program runs.
    Running,
    /// It was told to end, with all below it.
    Ending { exit: Exit, since: Instant },
    /// It has ended; what it wrote is being taken.
    Ended { exit: Exit, until: Instant },
}

impl Run {
    fn new(kept: keeper::Kept) -> io::Result<Self> {
        let keeper::Kept { keeper, stdout, stderr, status } = kept;
        let run = Self {
            root: i32::try_from(keeper.id()).map_err(io::Error::other)?,
            keeper,
            status,
            stdout: Some(stdout),
            stderr: Some(stderr),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            phase: Phase::Running,
        };
        for pipe in [&run.stdout, &run.stderr].into_iter().flatten() {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(run)
    }

    fn complete(
        mut self,
        deadline: Option<Instant>,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> io::Result<Exit> {
        loop {
            let now = Instant::now();
            let wait = match self.phase {
                Phase::Running => {
                    let why = match deadline {
                        _ if cancel.is_hard() => Some(Exit::Killed),
                        Some(deadline) if now >= deadline => Some(Exit::TimedOut),
                        _ => None,
                    };
                    if let Some(exit) = why {
                        tree::signal_descendants(self.root, Signal::TERM)?;
                        self.phase = Phase::Ending { exit, since: now };
                        continue;
                    }
                    deadline.map_or(TICK, |deadline| TICK.min(deadline - now))
                }
                Phase::Ending { exit, since } => {
                    let left = if now < since + GRACE {
                        tree::descendants(self.root)?.len()
                    } else {
                        tree::signal_descendants(self.root, Signal::KILL)?
                    };
                    if left == 0 || now >= since + GIVE_UP {
                        self.end(exit, output)?;
                        continue;
                    }
                    ENDING_TICK
                }
                Phase::Ended { exit, until } => {
                    if now >= until || (self.stdout.is_none() && self.stderr.is_none()) {
                        return Ok(exit);
                    }
                    until - now
                }
            };
            self.wait(wait, output)?;
        }
    }

    /// Waits until there is output or the program has ended, at most as long as told, and takes it.
    fn wait(&mut self, at_most: Duration, output: &mut dyn FnMut(Stream, &[u8])) -> io::Result<()> {
        let running = matches!(self.phase, Phase::Running);
        let mut fds = Vec::with_capacity(3);
        fds.extend([&self.stdout, &self.stderr].into_iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        if running {
            fds.push(PollFd::new(&self.status, PollFlags::IN));
        }
        let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = running && fds.last().is_some_and(|status| !status.revents().is_empty());
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.take(stream, BUFFER, output)?;
        }
        if ended {
            let exit = self.exit()?;
            self.end(exit, output)?;
        }
        Ok(())
    }

    /// Takes what there is on both streams and sets the time until which more is awaited.
    fn end(&mut self, exit: Exit, output: &mut dyn FnMut(Stream, &[u8])) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.take(stream, LAST_WORDS, output)?;
        }
        self.phase = Phase::Ended { exit, until: Instant::now() + LINGER };
        Ok(())
    }

    /// Hands on what there is on a stream, up to a bound, and forgets the stream at its end.
    fn take(&mut self, stream: Stream, bound: usize, output: &mut dyn FnMut(Stream, &[u8])) -> io::Result<()> {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut taken = 0;
        while let Some(pipe) = slot
            && taken < bound
        {
            match pipe.read(&mut self.buffer) {
                Ok(0) => *slot = None,
                Ok(length) => {
                    taken += length;
                    output(stream, &self.buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads how the program ended.
    fn exit(&mut self) -> io::Result<Exit> {
        let mut raw = [0; 4];
        match self.status.read_exact(&mut raw) {
            Ok(()) => Ok(Exit::from(ExitStatus::from_raw(i32::from_ne_bytes(raw)))),
            // Somebody killed the keeper; the program is without a witness, and is ended by nobody.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Exit::Signal(Signal::KILL.as_raw())),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Run {
    /// Takes the keeper away; where the run was left early (an error, a panic in the caller's output), the processes too.
    fn drop(&mut self) {
        let since = Instant::now();
        while !matches!(self.phase, Phase::Ended { .. }) && since.elapsed() < GIVE_UP {
            match tree::signal_descendants(self.root, Signal::KILL) {
                Ok(1..) => std::thread::sleep(ENDING_TICK),
                Ok(0) | Err(_) => break,
            }
        }
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}
