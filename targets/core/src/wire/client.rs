//! One conversation with an engine.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use charly_ir::frame::Frame;
use charly_ir::message::{
    CandySummary, DeployState, Diff, Done, Hello, MAX_FETCHED, Mode, Need, PROTOCOL, Reply, Report, Request,
};
use charly_ir::plan::{CandyPlan, InstallPlan};

use super::ClientError;
use super::decoder::{Decoder, EVIDENCE};
use super::outgoing::Outgoing;
use crate::supply::Supply;
use crate::target::{Decision, Notice, Observer, Order, Sink};
use crate::{BoxError, Interrupts};

/// How many bytes [`Client::transmit`] gathers before it returns.
const BURST: usize = 256 << 10;

/// Holds one conversation: the engine's greeting, one request, whatever follows, the last word.
///
/// Whoever carries the bytes calls [`receive`](Self::receive) with what the engine wrote, writes what
/// [`transmit`](Self::transmit) returns, calls [`attend`](Self::attend) now and then so that an interrupt is noticed, and
/// ends when [`is_done`](Self::is_done) or at an error.
pub struct Client<'a> {
    decoder: Decoder,
    outgoing: Outgoing,
    /// What the engine wrote to standard error, capped.
    complaints: Vec<u8>,
    interrupts: Interrupts,
    answered: u32,
    observer: &'a mut dyn Observer,
    state: State<'a>,
}

/// Makes the request, once the venue is known.
type Begin<'a> = Box<dyn FnOnce(&Hello) -> Result<Order, BoxError> + Send + 'a>;

enum State<'a> {
    Greeting(Option<Begin<'a>>),
    Running(Box<Run>),
    Done(Box<Answer>),
}

struct Run {
    hello: Hello,
    mode: Option<Mode>,
    wants_root: bool,
    supply: Box<dyn Supply>,
    report: Option<Report>,
    sink: Option<Sink>,
    arriving: Option<Arriving>,
}

/// A file on its way to the controller.
struct Arriving {
    digest: Digest,
    left: u64,
    hasher: Hasher,
}

/// What a conversation came to.
#[derive(Debug)]
pub struct Answer {
    /// The engine's greeting.
    pub hello: Hello,
    /// What was asked about, where the request was a question.
    pub report: Option<Report>,
    /// The last word.
    pub done: Done,
}

impl<'a> Client<'a> {
    /// Prepares a conversation. `begin` makes the request once the engine has said what venue it is on.
    pub fn new(
        begin: impl FnOnce(&Hello) -> Result<Order, BoxError> + Send + 'a,
        observer: &'a mut dyn Observer,
        interrupts: Interrupts,
    ) -> Self {
        Self {
            decoder: Decoder::default(),
            outgoing: Outgoing::default(),
            complaints: Vec::new(),
            interrupts,
            answered: 0,
            observer,
            state: State::Greeting(Some(Box::new(begin))),
        }
    }

    /// Speaks as it is worth it across a network: packed, and with what will be needed sent unasked.
    pub fn across_a_network(&mut self) {
        self.outgoing.pack();
    }

    /// Learns how fast bytes get through, which decides whether packing them is worth it.
    pub fn paced(&mut self, bytes: usize, took: Duration) {
        self.outgoing.paced(bytes, took);
    }

    /// Shows its watcher what the controller does for it.
    pub fn notice(&mut self, notice: Notice) {
        self.observer.notice(notice);
    }

    /// Takes bytes the engine wrote, and acts on every frame that is whole.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.decoder.feed(bytes);
        if !self.decoder.awake().map_err(|_| self.no_engine())? {
            return Ok(());
        }
        if let State::Greeting(begin) = &mut self.state {
            let Some(hello) = self.decoder.hello().map_err(ClientError::Frame)? else { return Ok(()) };
            if hello.protocol != PROTOCOL {
                return Err(ClientError::Protocol { theirs: hello.protocol, ours: PROTOCOL });
            }
            let begin = begin.take().ok_or(ClientError::OutOfTurn { what: "a second greeting" })?;
            let Order { mut request, supply, sink } = begin(&hello).map_err(ClientError::Order)?;
            if self.outgoing.is_packed() {
                send_unasked(&mut request, &hello);
            }
            let run = Run {
                mode: mode_of(&request),
                wants_root: wants_root(&request, &hello),
                hello,
                supply,
                report: None,
                sink,
                arriving: None,
            };
            let sizes = match &request {
                Request::Apply(apply) => apply.plan.blobs(),
                _ => BTreeMap::new(),
            };
            self.outgoing.request(request, sizes);
            self.state = State::Running(Box::new(run));
        }
        while let State::Running(run) = &mut self.state {
            match self.decoder.reply().map_err(ClientError::Frame)? {
                None => break,
                Some(Frame::Chunk(bytes)) => run.arrive(&bytes)?,
                Some(Frame::Message(reply)) => self.reply(reply)?,
            }
        }
        Ok(())
    }

    /// Takes bytes the engine wrote to its standard error: evidence, should the conversation fail.
    pub fn receive_complaint(&mut self, bytes: &[u8]) {
        let room = EVIDENCE.saturating_sub(self.complaints.len()).min(bytes.len());
        self.complaints.extend_from_slice(&bytes[..room]);
    }

    /// Appends what is to be written to the engine next; nothing where there is nothing to say.
    ///
    /// Blobs are read piece by piece, so a caller that writes before it asks again holds little of them in memory.
    pub fn transmit(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        if let State::Running(run) = &mut self.state {
            while out.len() < BURST && self.outgoing.next(&mut *run.supply, out)? {}
            if let Some((done, total)) = self.outgoing.progress() {
                self.observer.notice(Notice::Sending { done, total });
            }
        }
        Ok(())
    }

    /// Passes the user's wish to stop on to the engine.
    pub fn attend(&mut self) -> Result<(), ClientError> {
        while self.answered < self.interrupts.count() {
            self.answered += 1;
            let under_way =
                matches!(&self.state, State::Running(run) if matches!(run.mode, Some(Mode::Ask | Mode::Go { .. })));
            if !under_way || self.answered > 2 {
                return Err(ClientError::Interrupted);
            }
            self.observer.cancelling(self.answered);
            self.outgoing.clear();
            self.outgoing.urgent(Request::Cancel);
        }
        Ok(())
    }

    /// Tells whether root is needed for what was asked, so that a password can be asked for before anything is done.
    pub fn wants_root(&self) -> bool {
        matches!(&self.state, State::Running(run) if run.wants_root)
    }

    /// Returns the engine's greeting once it was read.
    pub fn hello(&self) -> Option<&Hello> {
        match &self.state {
            State::Greeting(_) => None,
            State::Running(run) => Some(&run.hello),
            State::Done(answer) => Some(&answer.hello),
        }
    }

    /// Tells whether the engine said its last word.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// Ends the conversation, whose stream has ended too.
    pub fn finish(self) -> Result<Answer, ClientError> {
        match self.state {
            State::Done(answer) => Ok(*answer),
            State::Greeting(_) if self.decoder.evidence().is_empty() && self.complaints.is_empty() => {
                Err(ClientError::NoEngine { evidence: String::new() })
            }
            State::Greeting(_) => Err(self.no_engine()),
            State::Running(_) => {
                Err(ClientError::BrokeOff { evidence: String::from_utf8_lossy(&self.complaints).trim().to_owned() })
            }
        }
    }

    fn no_engine(&self) -> ClientError {
        let complaints = String::from_utf8_lossy(&self.complaints);
        let evidence = [self.decoder.evidence(), complaints.trim().to_owned()];
        let evidence: Vec<_> = evidence.into_iter().filter(|text| !text.is_empty()).collect();
        ClientError::NoEngine { evidence: evidence.join("\n") }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), ClientError> {
        let State::Running(run) = &mut self.state else { return Ok(()) };
        if run.arriving.is_some() {
            return Err(ClientError::OutOfTurn { what: "a message within a file" });
        }
        match reply {
            Reply::Diff(diff) => self.diff(&diff),
            Reply::Need(Need { manifests, blobs, have, image }) => {
                if self.answered == 0 {
                    if image {
                        self.outgoing.image();
                    }
                    for step in manifests {
                        self.outgoing.manifest(step);
                    }
                    for digest in blobs {
                        self.outgoing.blob(digest, have.get(&digest).copied().unwrap_or(0));
                    }
                }
            }
            Reply::Event(event) => self.observer.event(event),
            Reply::Blob { digest, size } => {
                if run.sink.is_none() {
                    return Err(ClientError::OutOfTurn { what: "a file" });
                }
                if size > MAX_FETCHED {
                    return Err(ClientError::OutOfTurn { what: "a file that is too large" });
                }
                run.arriving = Some(Arriving { digest, left: size, hasher: Hasher::new() });
                run.arrive(&[])?;
            }
            Reply::Report(report) => run.report = Some(report),
            Reply::Done(done) => {
                let answer = Answer { hello: run.hello.clone(), report: run.report.take(), done };
                self.state = State::Done(Box::new(answer));
            }
        }
        Ok(())
    }

    fn diff(&mut self, diff: &Diff) {
        let State::Running(run) = &mut self.state else { return };
        self.observer.diff(diff);
        if run.mode == Some(Mode::Ask) {
            let answer = match self.observer.decide(diff) {
                Decision::Proceed(gates) => Request::Proceed { gates },
                Decision::Abort => Request::Abort,
            };
            self.outgoing.message(answer);
        }
    }
}

impl Run {
    /// Stores bytes of a file on its way here.
    fn arrive(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let (Some(arriving), Some(Sink(sink))) = (&mut self.arriving, &mut self.sink) else {
            return Err(ClientError::OutOfTurn { what: "bytes of no file" });
        };
        let left = arriving.left.checked_sub(bytes.len() as u64);
        arriving.left = left.ok_or(ClientError::OutOfTurn { what: "more bytes than it announced" })?;
        arriving.hasher.update(bytes);
        sink.write_all(bytes).map_err(ClientError::Sink)?;
        if arriving.left > 0 {
            return Ok(());
        }
        sink.flush().map_err(ClientError::Sink)?;
        if let Some(Arriving { digest, hasher, .. }) = self.arriving.take()
            && hasher.finish() != digest
        {
            return Err(ClientError::Sink(std::io::Error::other(format!("its digest is not {}", digest.short()))));
        }
        Ok(())
    }
}

/// The most bytes of blobs that are sent before it is known whether the venue lacks them.
const UNASKED: u64 = 256 << 10;

/// Decides what follows a request unasked: small blobs of candies that the venue does not hold as they are now.
fn send_unasked(request: &mut Request, hello: &Hello) {
    let Request::Apply(apply) = request else { return };
    if !matches!(apply.mode, Mode::Go { .. }) {
        return;
    }
    let held = hello.deploys.iter().find(|deploy| deploy.name == apply.deploy);
    let held = held.filter(|deploy| deploy.state == DeployState::Complete);
    let holds = |candy: &CandyPlan| {
        let same = |there: &CandySummary| there.name == candy.name && there.digest == Some(candy.digest());
        held.is_some_and(|deploy| deploy.candies.iter().any(same))
    };
    let mut candies = apply.plan.candies.clone();
    candies.retain(|candy| !holds(candy));
    let blobs = InstallPlan { candies, ..apply.plan.clone() }.blobs();
    if blobs.values().sum::<u64>() <= UNASKED {
        apply.follows = blobs.into_keys().collect();
    }
}

fn mode_of(request: &Request) -> Option<Mode> {
    match request {
        Request::Apply(apply) => Some(apply.mode.clone()),
        Request::Remove(remove) => Some(remove.mode.clone()),
        _ => None,
    }
}

/// Tells whether a request needs root: for what it asks for, or for what there is of it already.
fn wants_root(request: &Request, hello: &Hello) -> bool {
    let known = |name: &str| hello.deploys.iter().any(|deploy| deploy.name == name && deploy.system);
    match request {
        Request::Apply(apply) if apply.mode != Mode::DryRun => {
            known(&apply.deploy) || apply.plan.steps().any(|(_, step)| step.scope.is_system())
        }
        // What a deploy left that is gone is root's, and no greeting tells of it.
        Request::Remove(remove) if remove.mode != Mode::DryRun => remove.purge || known(&remove.deploy),
        Request::Deliver(deliver) => !deliver.rootless,
        Request::Fetch(fetch) => known(&fetch.deploy),
        _ => false,
    }
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Greeting(_) => "greeting",
            State::Running(_) => "running",
            State::Done(_) => "done",
        };
        f.debug_struct("Client").field("state", &state).field("decoder", &self.decoder).finish_non_exhaustive()
    }
}
