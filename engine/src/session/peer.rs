//! The controller, as the engine sees it.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use charly_ir::frame::{self, Frame, MAGIC, Packing};
use charly_ir::message::{Event, Hello, Reply, Request, SILENCE_S};

use super::patience::{Gone, PatientReader, PatientWriter};
use crate::process::Cancel;

/// What a controller sends: a request, or bytes of the blob announced last.
pub type Incoming = Frame<Request>;

/// The controller, as the engine sees it.
pub trait Peer {
    /// Says something. A controller that is gone is noticed by [`receive`](Self::receive) and by the cancel it leaves behind.
    fn send(&mut self, reply: Reply);

    /// Sends bytes of the blob announced last.
    fn send_chunk(&mut self, bytes: &[u8]);

    /// Waits for what the controller says next; `None` when it has gone or cancelled.
    fn receive(&mut self) -> Option<Incoming>;
}

/// How many bytes may wait in the pipe from the controller, and are read at once: a large file comes through in fewer turns.
const PIPE: usize = 512 << 10;

/// How a controller is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether what is said is packed.
    pub packing: Packing,
    /// How long the controller may say nothing before it is taken for gone; absent where its end is always noticed.
    pub silence: Option<Duration>,
}

impl Link {
    /// Pipes to a process of the same machine, whose end is their end.
    pub const PIPE: Self = Self { packing: Packing::None, silence: None };
    /// A network between, which may lose either side without the other being told.
    pub const NETWORK: Self = Self { packing: Packing::Deflate, silence: Some(Duration::from_secs(SILENCE_S)) };
}

/// A controller at the other end of two pipes.
#[derive(Debug)]
pub struct PipePeer<W: Write + AsFd> {
    writer: BufWriter<PatientWriter<W>>,
    packing: Packing,
    incoming: Receiver<Incoming>,
    flushed: Instant,
    cancel: Cancel,
    /// Something was not written whole: what would follow could not be understood.
    broken: bool,
}

impl<W: Write + AsFd> PipePeer<W> {
    /// The most frames that wait to be read: with chunks of 64 KiB, a megabyte.
    const WAITING: usize = 16;
    /// Events that nobody waits for are sent at least so often.
    const LAG: Duration = Duration::from_millis(50);
    /// A cancel is noticed at least so soon while the controller is waited for.
    const TICK: Duration = Duration::from_millis(50);

    /// Says the first word, and listens from then on. A cancel, and a controller that goes, are noticed at once by `cancel`.
    pub fn start(
        reader: impl Read + AsFd + Send + 'static,
        writer: W,
        link: Link,
        hello: &Hello,
        cancel: Cancel,
    ) -> io::Result<Self> {
        let gone = Gone::default();
        // Where it stays as it was, everything comes through all the same.
        rustix::pipe::fcntl_setpipe_size(&reader, PIPE).ok();
        let writer = BufWriter::new(PatientWriter::new(writer, gone.clone())?);
        let (sender, incoming) = sync_channel(Self::WAITING);
        let (listener, reader) = (cancel.clone(), PatientReader::new(reader, link.silence));
        std::thread::spawn(move || {
            listen(reader, &sender, &listener);
            gone.set();
            listener.escalate();
        });
        let Link { packing, silence: _ } = link;
        let mut peer = Self { writer, packing, incoming, flushed: Instant::now(), cancel, broken: false };
        let first = peer.writer.write_all(&MAGIC).and_then(|()| packing.write_message(&mut peer.writer, hello));
        peer.check(&first);
        peer.flush();
        Ok(peer)
    }

    fn flush(&mut self) {
        if !self.broken {
            let result = self.writer.flush();
            self.check(&result);
        }
        self.flushed = Instant::now();
    }

    /// A controller that cannot be written to has gone: the run ends at the next step boundary.
    fn check(&mut self, result: &io::Result<()>) {
        if result.is_err() {
            self.broken = true;
            if !self.cancel.is_requested() {
                self.cancel.escalate();
            }
        }
    }
}

/// Passes frames on until the controller goes, falls silent or speaks nonsense.
fn listen(reader: impl Read, sender: &SyncSender<Incoming>, cancel: &Cancel) {
    let mut reader = BufReader::with_capacity(PIPE, reader);
    while let Ok(Some(frame)) = frame::read::<Request>(&mut reader) {
        match frame {
            Frame::Message(Request::Cancel) => cancel.escalate(),
            Frame::Message(Request::Alive) => {}
            frame => {
                // While what it said waits to be heard, the controller is not silent: nothing is read and no time counted.
                if sender.send(frame).is_err() {
                    return;
                }
            }
        }
    }
}

impl<W: Write + AsFd> Peer for PipePeer<W> {
    fn send(&mut self, reply: Reply) {
        if self.broken {
            return;
        }
        let can_wait = matches!(reply, Reply::Event(Event::StepFinished { .. }));
        let result = self.packing.write_message(&mut self.writer, &reply);
        self.check(&result);
        if !can_wait || self.flushed.elapsed() > Self::LAG {
            self.flush();
        }
    }

    fn send_chunk(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(frame::MAX_CHUNK) {
            if self.broken {
                return;
            }
            let result = self.packing.write_chunk(&mut self.writer, chunk);
            self.check(&result);
        }
        self.flush();
    }

    fn receive(&mut self) -> Option<Incoming> {
        self.flush();
        loop {
            match self.incoming.recv_timeout(Self::TICK) {
                Ok(frame) => return Some(frame),
                Err(RecvTimeoutError::Timeout) if !self.cancel.is_requested() => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests;
