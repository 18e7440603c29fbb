//! Carries bytes between a client and an engine over three pipes.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::TargetError;
use crate::wire::{Client, ClientError};

/// How long to wait at most before the user's wish to stop is looked at.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Carries bytes until the client is done or the engine's output ends. `before_work` is called once the request is known
/// and before it is sent, where it needs root.
///
/// One loop waits for all three pipes at once: neither side can block the other by not reading.
pub fn carry(
    mut engine: Child,
    client: &mut Client<'_>,
    before_work: &dyn Fn() -> Result<(), TargetError>,
) -> Result<(), TargetError> {
    let result = converse(&mut engine, client, before_work);
    // The end of its input tells the engine to end; it is waited for only where it has said its last word.
    drop((engine.stdin.take(), engine.stdout.take(), engine.stderr.take()));
    if client.is_done() {
        engine.wait().ok();
    }
    result
}

fn converse(
    engine: &mut Child,
    client: &mut Client<'_>,
    before_work: &dyn Fn() -> Result<(), TargetError>,
) -> Result<(), TargetError> {
    let mut stdin = engine.stdin.take();
    let (Some(mut stdout), mut stderr) = (engine.stdout.take(), engine.stderr.take()) else { return Ok(()) };
    let broken = |error: io::Error| TargetError::from(ClientError::Frame(error.into()));
    for pipe in [stdin.as_ref().map(AsFd::as_fd), Some(stdout.as_fd()), stderr.as_ref().map(AsFd::as_fd)] {
        pipe.map_or(Ok(()), unblock).map_err(broken)?;
    }

    let mut buffer = vec![0; 64 << 10];
    let mut pending = Vec::new();
    let mut written = 0;
    let mut permitted = false;
    loop {
        client.attend()?;
        if !permitted && client.wants_root() {
            before_work()?;
            permitted = true;
        }
        if written == pending.len() {
            pending.clear();
            written = 0;
            client.transmit(&mut pending)?;
        }
        let mut pipes = vec![PollFd::new(&stdout, PollFlags::IN)];
        let error_at = stderr.as_ref().map(|stderr| {
            pipes.push(PollFd::new(stderr, PollFlags::IN));
            pipes.len() - 1
        });
        let input_at = stdin.as_ref().filter(|_| !pending.is_empty()).map(|stdin| {
            pipes.push(PollFd::new(stdin, PollFlags::OUT));
            pipes.len() - 1
        });
        match poll(&mut pipes, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(broken(error.into())),
        }
        let ready = |at: Option<usize>| at.is_some_and(|at| !pipes[at].revents().is_empty());
        let (output, complaint, input) = (ready(Some(0)), ready(error_at), ready(input_at));
        drop(pipes);

        if complaint && let Some(pipe) = &mut stderr {
            match read(pipe, &mut buffer).map_err(broken)? {
                Some(0) => stderr = None,
                Some(n) => client.receive_complaint(&buffer[..n]),
                None => {}
            }
        }
        if output {
            match read(&mut stdout, &mut buffer).map_err(broken)? {
                Some(0) => break,
                Some(n) => client.receive(&buffer[..n])?,
                None => {}
            }
            if client.is_done() {
                return Ok(());
            }
        }
        if input && let Some(pipe) = &mut stdin {
            match pipe.write(&pending[written..]) {
                Ok(n) => written += n,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // It reads no more; what it still has to say says why.
                Err(_) => stdin = None,
            }
        }
    }
    // Its last complaints may have come after its output ended.
    if let Some(pipe) = &mut stderr {
        while let Ok(Some(n @ 1..)) = read(pipe, &mut buffer) {
            client.receive_complaint(&buffer[..n]);
        }
    }
    Ok(())
}

/// Reads what is there; `None` where nothing is.
fn read(pipe: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match pipe.read(buffer) {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unblock(pipe: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&pipe)?;
    Ok(fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests;
