//! Reading and writing that end when the other side has gone without a word.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Whether the other side is known to have gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Gone(Arc<AtomicBool>);

impl Gone {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Reads, and takes a silence for an end.
#[derive(Debug)]
pub(super) struct PatientReader<R> {
    reader: R,
    silence: Option<Timespec>,
}

impl<R: Read + AsFd> PatientReader<R> {
    pub(super) fn new(reader: R, silence: Option<Duration>) -> Self {
        let timespec = |silence| Timespec::try_from(silence).ok();
        Self { reader, silence: silence.and_then(timespec) }
    }
}

impl<R: Read + AsFd> Read for PatientReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match poll(&mut [PollFd::new(&self.reader, PollFlags::IN)], self.silence.as_ref()) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match self.reader.read(buffer) {
                // Where both directions are one socket, that the writer does not wait goes for the reader, too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

/// Writes, and gives up where it would have to wait for somebody who has gone.
#[derive(Debug)]
pub(super) struct PatientWriter<W: AsFd> {
    writer: W,
    gone: Gone,
    former: OFlags,
}

impl<W: AsFd> PatientWriter<W> {
    /// How soon it is noticed that the other side has gone.
    const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

    pub(super) fn new(writer: W, gone: Gone) -> io::Result<Self> {
        let former = fcntl_getfl(&writer)?;
        fcntl_setfl(&writer, former | OFlags::NONBLOCK)?;
        Ok(Self { writer, gone, former })
    }
}

impl<W: Write + AsFd> Write for PatientWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.writer.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let was_gone = self.gone.is_set();
            match poll(&mut [PollFd::new(&self.writer, PollFlags::OUT)], Some(&Self::TICK)) {
                Ok(0) if was_gone => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl<W: AsFd> Drop for PatientWriter<W> {
    fn drop(&mut self) {
        // Whoever shares the stream, such as the shell that started this, expects it as it was.
        let _ = fcntl_setfl(&self.writer, self.former);
    }
}
