//! Podman at work, and the bytes on their way to it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use charly_ir::Digest;
use charly_ir::frame::{Frame, MAX_CHUNK};
use charly_ir::message::{Need, Problem, Reply, Request};

use super::deliver::Wanted;
use super::name::Name;
use super::podman::{Podman, failed};
use super::registry::{Ask, Held, Registry};
use super::scratch::Scratch;
use crate::process::{Cancel, Captured, Exit};
use crate::session::Peer;
use crate::worker::WorkError;

/// How often a cancel is looked for.
const TICK: Duration = Duration::from_millis(50);

/// The most bytes of a layer that are not kept for after a cut: it is as quickly sent again.
const SMALL: u64 = 1 << 20;

/// What a pull came to.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    /// The layers that podman asked for and got whole: it has judged them itself.
    pub fresh: BTreeSet<Digest>,
    /// How many bytes of them came from the controller.
    pub bytes: u64,
}

/// What happens while podman is at work.
enum Happening {
    Asked(Ask),
    Ended(Result<Captured, WorkError>),
}

impl From<Ask> for Happening {
    fn from(ask: Ask) -> Self {
        Self::Asked(ask)
    }
}

/// Lets podman take what it lacks of an image.
pub(super) fn pull(
    podman: &Podman<'_>,
    wanted: &Wanted,
    name: &Name,
    scratch: &Scratch,
    peer: &mut dyn Peer,
    cancel: &Cancel,
) -> Result<Pulled, WorkError> {
    let (sender, happenings) = channel();
    let held = Held {
        manifest: (wanted.image.manifest.clone().into_bytes(), wanted.media_type.clone()),
        config: wanted.image.config.clone().into_bytes(),
        layers: wanted.layers.iter().copied().collect(),
    };
    let registry = Registry::start(held, sender.clone()).map_err(|error| {
        let problem = Problem::new("nothing can listen on loopback there").because(error.to_string());
        WorkError::Program(Box::new(problem))
    })?;
    // By digest, from a place that only this file names: nobody can give podman anything else, or learn where to ask.
    let registries = format!(
        "[[registry]]\nprefix = \"{}\"\nlocation = \"{}\"\ninsecure = true\n",
        name.repository,
        registry.location()
    );
    let registries = scratch.write("registries.conf", &registries)?;
    let reference = format!("{}@sha256:{}", name.repository, registry.manifest());
    let temporary = scratch.temporary();
    let more = [("CONTAINERS_REGISTRIES_CONF", registries.as_path()), ("TMPDIR", temporary.as_path())];
    let program = podman.program(&["pull", "--quiet", &reference], &more);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let result = podman.finish(&program);
            let _ = sender.send(Happening::Ended(result));
            ended.store(true, Ordering::SeqCst);
        });
        // Podman waits for bytes, and whoever hands them on for podman: should nothing come any more, it is podman that ends.
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                if cancel.is_requested() && !cancel.is_hard() {
                    cancel.escalate();
                }
                std::thread::park_timeout(TICK);
            }
        });
        let mut feeding = Feeding { wanted, scratch, peer, waiting: Vec::new(), pulled: Pulled::default() };
        let result = feeding.until_end(&happenings, cancel);
        if result.is_err() && !ended.load(Ordering::SeqCst) {
            // Whatever podman still waits for does not come.
            while !cancel.is_hard() {
                cancel.escalate();
            }
        }
        drop(registry);
        result.map(|()| feeding.pulled)
    })
}

struct Feeding<'a> {
    wanted: &'a Wanted,
    scratch: &'a Scratch,
    peer: &'a mut dyn Peer,
    waiting: Vec<Ask>,
    pulled: Pulled,
}

impl Feeding<'_> {
    fn until_end(&mut self, happenings: &Receiver<Happening>, cancel: &Cancel) -> Result<(), WorkError> {
        loop {
            let first = if self.waiting.is_empty() { Some(happenings.recv_timeout(TICK)) } else { None };
            let more = std::iter::from_fn(|| happenings.try_recv().ok().map(Ok));
            for happening in first.into_iter().chain(more) {
                match happening {
                    Ok(Happening::Asked(ask)) => self.waiting.push(ask),
                    Ok(Happening::Ended(result)) => return judge(&result?, cancel),
                    Err(RecvTimeoutError::Timeout) if !cancel.is_requested() => {}
                    Err(_) => return Err(WorkError::Cancelled),
                }
            }
            // The lowest first: podman stores a layer when those below it are there, and what it has stored a cut does not take.
            let height = |ask: &Ask| self.wanted.layers.iter().position(|(layer, _)| *layer == ask.layer);
            let next = (0..self.waiting.len()).min_by_key(|at| height(&self.waiting[*at]));
            if let Some(next) = next {
                let ask = self.waiting.swap_remove(next);
                self.feed(&ask)?;
            }
        }
    }

    /// Hands one layer to podman: what came of it before, then the rest from the controller.
    fn feed(&mut self, ask: &Ask) -> Result<(), WorkError> {
        let layer = ask.layer;
        let Some((_, size)) = self.wanted.layers.iter().find(|(wanted, _)| *wanted == layer) else { return Ok(()) };
        let mut taken = true;
        let from = self.replay(ask, *size, &mut taken)?;
        if from < *size {
            let have = if from > 0 { [(layer, from)].into() } else { std::collections::BTreeMap::new() };
            self.peer.send(Reply::Need(Need { blobs: vec![layer], have, ..Need::default() }));
            match self.peer.receive() {
                Some(Frame::Message(Request::Blob { digest, size: theirs, from: theirs_from }))
                    if (digest, theirs, theirs_from) == (layer, *size, from) => {}
                Some(Frame::Message(Request::Missing { problem })) => {
                    return Err(WorkError::Program(Box::new(problem)));
                }
                None => return Err(WorkError::Cancelled),
                Some(_) => return Err(WorkError::Plan("the controller sent something else than was asked for".into())),
            }
            let mut kept = (*size > SMALL).then(|| self.scratch.append(layer, from));
            let mut left = size - from;
            while left > 0 {
                let Some(Frame::Chunk(bytes)) = self.peer.receive() else { return Err(WorkError::Cancelled) };
                let too_many = || WorkError::Plan("the controller sent more of a layer than there is".into());
                left = left.checked_sub(bytes.len() as u64).ok_or_else(too_many)?;
                self.pulled.bytes += bytes.len() as u64;
                if let Some(kept) = &mut kept {
                    kept.write(&bytes);
                }
                // What podman wants no more of has to come to its end all the same.
                taken = taken && ask.sink.send(bytes).is_ok();
            }
        }
        if taken {
            self.pulled.fresh.insert(layer);
        }
        Ok(())
    }

    /// Hands podman what came of a layer before, and says how much that was.
    fn replay(&mut self, ask: &Ask, size: u64, taken: &mut bool) -> Result<u64, WorkError> {
        let from = self.scratch.arrived(ask.layer, size);
        if from == 0 {
            return Ok(0);
        }
        let broken = |error: std::io::Error| {
            let problem = Problem::new("what came of a layer before cannot be read").because(error.to_string());
            WorkError::Program(Box::new(problem))
        };
        let mut file = self.scratch.read(ask.layer).map_err(broken)?.take(from);
        let mut left = from;
        while left > 0 && *taken {
            let mut bytes = vec![0; MAX_CHUNK];
            let n = file.read(&mut bytes).map_err(broken)?;
            if n == 0 {
                return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
            bytes.truncate(n);
            left -= n as u64;
            *taken = ask.sink.send(bytes).is_ok();
        }
        Ok(from)
    }
}

fn judge(captured: &Captured, cancel: &Cancel) -> Result<(), WorkError> {
    match captured.exit {
        Exit::Status(0) => Ok(()),
        _ if cancel.is_requested() => Err(WorkError::Cancelled),
        _ => Err(failed("did not take the image", captured)),
    }
}
