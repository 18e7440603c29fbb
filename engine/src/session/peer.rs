//! The controller, as the engine sees it.

use std::io::{BufWriter, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use charly_ir::frame::{self, Frame, MAGIC, Packing};
use charly_ir::message::{Event, Hello, Reply, Request};

use crate::process::Cancel;

/// What a controller sends: a request, or bytes of the blob announced last.
pub type Incoming = Frame<Request>;

/// The controller, as the engine sees it.
pub trait Peer {
    /// Says something. A controller that is gone is noticed by [`receive`](Self::receive) and by the cancel it leaves behind.
    fn send(&mut self, reply: Reply);

    /// Sends bytes of the blob announced last.
    fn send_chunk(&mut self, bytes: &[u8]);

    /// Waits for what the controller says next; `None` when it has gone.
    fn receive(&mut self) -> Option<Incoming>;
}

/// A controller at the other end of two pipes.
#[derive(Debug)]
pub struct PipePeer<W: Write> {
    writer: BufWriter<W>,
    packing: Packing,
    incoming: Receiver<Incoming>,
    flushed: Instant,
    cancel: Cancel,
}

impl<W: Write> PipePeer<W> {
    /// The most frames that wait to be read: with chunks of 64 KiB, a megabyte.
    const WAITING: usize = 16;
    /// Events that nobody waits for are sent at least so often.
    const LAG: Duration = Duration::from_millis(50);

    /// Says the first word, and listens from then on. A cancel, and a controller that goes, are noticed at once by `cancel`.
    pub fn start(
        mut reader: impl Read + Send + 'static,
        writer: W,
        packing: Packing,
        hello: &Hello,
        cancel: Cancel,
    ) -> Self {
        let (sender, incoming) = sync_channel(Self::WAITING);
        let listener = cancel.clone();
        std::thread::spawn(move || {
            while let Ok(Some(frame)) = frame::read::<Request>(&mut reader) {
                match frame {
                    Frame::Message(Request::Cancel) => listener.escalate(),
                    Frame::Message(Request::Alive) => {}
                    frame => {
                        if sender.send(frame).is_err() {
                            return;
                        }
                    }
                }
            }
            listener.escalate();
        });
        let mut peer = Self { writer: BufWriter::new(writer), packing, incoming, flushed: Instant::now(), cancel };
        let first = peer.writer.write_all(&MAGIC).and_then(|()| packing.write_message(&mut peer.writer, hello));
        peer.check(&first);
        peer.flush();
        peer
    }

    fn flush(&mut self) {
        let result = self.writer.flush();
        self.check(&result);
        self.flushed = Instant::now();
    }

    /// A controller that cannot be written to has gone: the run ends at the next step boundary.
    fn check(&mut self, result: &std::io::Result<()>) {
        if result.is_err() && !self.cancel.is_requested() {
            self.cancel.escalate();
        }
    }
}

impl<W: Write> Peer for PipePeer<W> {
    fn send(&mut self, reply: Reply) {
        let can_wait = matches!(reply, Reply::Event(Event::StepFinished { .. }));
        let result = self.packing.write_message(&mut self.writer, &reply);
        self.check(&result);
        if !can_wait || self.flushed.elapsed() > Self::LAG {
            self.flush();
        }
    }

    fn send_chunk(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(frame::MAX_CHUNK) {
            let result = self.packing.write_chunk(&mut self.writer, chunk);
            self.check(&result);
        }
        self.flush();
    }

    fn receive(&mut self) -> Option<Incoming> {
        self.flush();
        self.incoming.recv().ok()
    }
}
