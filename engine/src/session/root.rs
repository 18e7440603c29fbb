//! Root's side, when the front engine is not root: a second engine below `sudo`, called over two pipes.
//!
//! It is the same program in another mode. A call names what [`Party`] does; events may come before its answer. The second
//! engine ends when its pipe does, whatever became of the front: it never waits for anybody.

use std::collections::BTreeSet;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use charly_ir::facts::Facts;
use charly_ir::frame::{self, Frame, MAGIC};
use charly_ir::message::{
    Apply, Deliver, Delivered, Event, Fetch, Kept, Manifest, Need, Problem, Reply, Request, SecretValue, StepDiff,
};
use charly_ir::{Digest, Text};
use serde::{Deserialize, Serialize};

use super::hand::{Hand, Looked};
use super::hands::Party;
use super::peer::{Incoming, Peer};
use super::sudo::{Started, Sudo};
use super::{Settings, WAIT, venue};
use crate::ledger::{DeployId, DeployRecord, Holder, Interrupted, LedgerError, StepKey};
use crate::process::Cancel;
use crate::reboot::Reboot;
use crate::venue::Side;
use crate::worker::{Release, ReleaseOptions, Tally, WorkError};

/// What the front asks of root's engine.
#[derive(Debug, Serialize, Deserialize)]
enum Call {
    Open {
        facts: Box<Facts>,
        holder: Holder,
    },
    Interrupted,
    Deploy(DeployId),
    StepsOf(DeployId),
    RemainsOf(DeployId),
    Look {
        deploy: DeployId,
        apply: Box<Apply>,
    },
    Supply(Manifest),
    Lacking,
    BeginBlob {
        digest: Digest,
        size: u64,
        from: u64,
    },
    Begin {
        run: String,
        deploy: DeployId,
        what: String,
    },
    Record {
        deploy: DeployId,
        record: Option<DeployRecord>,
    },
    Preview {
        steps: Vec<Release>,
        options: ReleaseOptions,
    },
    Converge(BTreeSet<u32>),
    Owe {
        reboots: BTreeSet<u32>,
        reached: bool,
    },
    Reboot,
    Release {
        steps: Vec<Release>,
        options: ReleaseOptions,
    },
    Close,
    /// Make root's container storage hold an image; what the controller says meanwhile follows as `Said` and chunks.
    Deliver(Box<Deliver>),
    Said(Box<Request>),
    /// Read an artifact of a deploy. No ledger need be opened for it.
    Fetch {
        facts: Box<Facts>,
        deploy: DeployId,
        path: Text,
        wait_s: u32,
    },
    /// Answered by nothing: what is under way ends at its next step boundary, or at once the second time.
    Cancel,
}

/// What root's engine says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Event(Event),
    Done,
    Interrupted(Option<Interrupted>),
    Deploy(Option<DeployRecord>),
    Steps(BTreeSet<StepKey>),
    Looked(Looked),
    Lacking(Need),
    Preview(Vec<StepDiff>),
    Worked(Work),
    /// For the controller.
    Said(Box<Reply>),
    Delivered(Delivered),
    /// A file, whose bytes follow as chunks, and then `Done`.
    File {
        digest: Digest,
        size: u64,
    },
    /// The venue does not reboot.
    Refused(Problem),
    Failed(Failure),
}

/// A cancel is noticed at least so soon while the front is waited for.
const TICK: Duration = Duration::from_millis(50);

/// What a stretch of work came to, and how it ended.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Work {
    changed: u32,
    removed: u32,
    kept: Vec<Kept>,
    pending: Vec<Problem>,
    failed: Option<(u32, Failure)>,
}

/// An error, as it crosses the pipe.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    Program(Problem),
    Unfit(Problem),
    Plan(String),
    Conflict { what: String, subject: String, owner: String },
    Denied(Problem),
    Cancelled,
}

/// Root's side, called over two pipes.
pub(super) struct RootHand {
    child: Child,
    writer: Option<BufWriter<ChildStdin>>,
    reader: BufReader<ChildStdout>,
    facts: Facts,
    cancel: Cancel,
}

impl RootHand {
    /// Starts root's engine by `sudo`.
    pub(super) fn start(
        settings: &Settings,
        holder: &Holder,
        password: Option<&SecretValue>,
    ) -> Result<Self, WorkError> {
        let mut hand = Self::connect(settings, password)?;
        let (facts, holder) = (Box::new(hand.facts.clone()), holder.clone());
        hand.done(&Call::Open { facts, holder })?;
        Ok(hand)
    }

    /// Starts root's engine, which opens no ledger before it is told to.
    pub(super) fn connect(settings: &Settings, password: Option<&SecretValue>) -> Result<Self, WorkError> {
        let cancel = settings.cancel.clone();
        let Started { child, stdin, stdout } = Sudo::default().start(password, &cancel)?;
        let (writer, reader) = (BufWriter::new(stdin), BufReader::new(stdout));
        Ok(Self { child, writer: Some(writer), reader, facts: settings.facts.clone(), cancel })
    }

    /// Has root's engine deliver an image, and passes on what it and the controller have to say to one another.
    pub(super) fn deliver(&mut self, order: &Deliver, peer: &mut dyn Peer) -> Result<Delivered, WorkError> {
        let order = Deliver { sudo_password: None, ..order.clone() };
        self.say(&Call::Deliver(Box::new(order)))?;
        let (mut told, mut owed) = (0, Owed::Nothing);
        loop {
            if self.cancel.is_requested() && told == 0 {
                told = 1;
                owed = Owed::Nothing;
                self.say(&Call::Cancel)?;
            }
            let is_heard = !self.reader.buffer().is_empty() || self.is_readable(owed == Owed::Nothing)?;
            if !is_heard {
                if owed != Owed::Nothing {
                    let Some(frame) = peer.receive() else { continue };
                    owed = owed.after(&frame);
                    self.pass_on(frame)?;
                }
                continue;
            }
            match frame::read::<Answer>(&mut self.reader) {
                Ok(Some(Frame::Message(Answer::Said(reply)))) => {
                    if matches!(*reply, Reply::Need(_)) {
                        owed = Owed::Word;
                    }
                    peer.send(*reply);
                }
                Ok(Some(Frame::Message(Answer::Delivered(delivered)))) => return Ok(delivered),
                Ok(Some(Frame::Message(Answer::Failed(failure)))) => return Err(failure.into()),
                Ok(Some(Frame::Message(other))) => return Err(unexpected(&other)),
                Ok(_) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Err(gone(&io::Error::other(error))),
            }
        }
    }

    /// Has root's engine read an artifact, and passes it on.
    pub(super) fn fetch(&mut self, deploy: &DeployId, fetch: &Fetch, peer: &mut dyn Peer) -> Result<(), WorkError> {
        let facts = Box::new(self.facts.clone());
        let (deploy, path, wait_s) = (deploy.clone(), fetch.path.clone(), fetch.wait_s);
        self.say(&Call::Fetch { facts, deploy, path, wait_s })?;
        let mut told = 0;
        loop {
            match self.hear(&mut told)? {
                Frame::Message(Answer::File { digest, size }) => peer.send(Reply::Blob { digest, size }),
                Frame::Chunk(bytes) => peer.send_chunk(&bytes),
                Frame::Message(Answer::Done) => return Ok(()),
                Frame::Message(Answer::Failed(failure)) => return Err(failure.into()),
                Frame::Message(other) => return Err(unexpected(&other)),
            }
        }
    }

    fn pass_on(&mut self, frame: Incoming) -> Result<(), WorkError> {
        match frame {
            Frame::Message(request) => self.say(&Call::Said(Box::new(request))),
            Frame::Chunk(bytes) => {
                let writer = self.writer.as_mut().ok_or_else(|| gone(&io::ErrorKind::BrokenPipe.into()))?;
                frame::write_chunk(writer, &bytes).and_then(|()| writer.flush()).map_err(|error| gone(&error))
            }
        }
    }

    fn call(&mut self, call: &Call, sink: &mut dyn FnMut(Event)) -> Result<Answer, WorkError> {
        self.say(call)?;
        self.answer(sink)
    }

    fn say(&mut self, call: &Call) -> Result<(), WorkError> {
        let writer = self.writer.as_mut().ok_or_else(|| gone(&io::ErrorKind::BrokenPipe.into()))?;
        frame::write_message(writer, call).and_then(|()| writer.flush()).map_err(|error| gone(&error))
    }

    fn answer(&mut self, sink: &mut dyn FnMut(Event)) -> Result<Answer, WorkError> {
        let mut told = 0;
        loop {
            match self.hear(&mut told)? {
                Frame::Message(Answer::Event(event)) => sink(event),
                Frame::Message(Answer::Failed(failure)) => return Err(failure.into()),
                Frame::Message(answer) => return Ok(answer),
                Frame::Chunk(_) => return Err(gone(&io::ErrorKind::InvalidData.into())),
            }
        }
    }

    /// Waits for what root's engine says next, and passes a cancel on meanwhile; `told` counts those passed on.
    fn hear(&mut self, told: &mut u32) -> Result<Frame<Answer>, WorkError> {
        loop {
            if self.cancel.is_requested() && *told == 0 || self.cancel.is_hard() && *told == 1 {
                *told += 1;
                self.say(&Call::Cancel)?;
            }
            if self.reader.buffer().is_empty() && !self.is_readable(true)? {
                continue;
            }
            return match frame::read::<Answer>(&mut self.reader) {
                Ok(Some(frame)) => Ok(frame),
                Ok(None) => Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Err(error) => Err(gone(&io::Error::other(error))),
            };
        }
    }

    /// Tells whether there is something to read, or waits for it, not so long that a cancel would go unnoticed.
    fn is_readable(&self, wait: bool) -> Result<bool, WorkError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(self.reader.get_ref(), PollFlags::IN)];
        let lag = Timespec { tv_sec: 0, tv_nsec: if wait { 100_000_000 } else { 0 } };
        match poll(&mut fds, Some(&lag)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(gone(&errno.into())),
        }
    }

    fn done(&mut self, call: &Call) -> Result<(), WorkError> {
        match self.call(call, &mut |_| {})? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn work(
        &mut self,
        call: &Call,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<Option<(u32, WorkError)>, WorkError> {
        match self.call(call, sink)? {
            Answer::Worked(work) => {
                let Work { changed, removed, kept, pending, failed } = work;
                tally.changed += changed;
                tally.removed += removed;
                tally.kept.extend(kept);
                tally.pending.extend(pending);
                Ok(failed.map(|(index, failure)| (index, failure.into())))
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl Party for RootHand {
    fn interrupted(&mut self) -> Option<Interrupted> {
        match self.call(&Call::Interrupted, &mut |_| {}) {
            Ok(Answer::Interrupted(interrupted)) => interrupted,
            _ => None,
        }
    }

    fn deploy(&mut self, deploy: &DeployId) -> Result<Option<DeployRecord>, WorkError> {
        match self.call(&Call::Deploy(deploy.clone()), &mut |_| {})? {
            Answer::Deploy(record) => Ok(record),
            other => Err(unexpected(&other)),
        }
    }

    fn steps_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError> {
        match self.call(&Call::StepsOf(deploy.clone()), &mut |_| {})? {
            Answer::Steps(steps) => Ok(steps),
            other => Err(unexpected(&other)),
        }
    }

    fn remains_of(&mut self, deploy: &DeployId) -> Result<BTreeSet<StepKey>, WorkError> {
        match self.call(&Call::RemainsOf(deploy.clone()), &mut |_| {})? {
            Answer::Steps(steps) => Ok(steps),
            other => Err(unexpected(&other)),
        }
    }

    fn look(&mut self, deploy: &DeployId, apply: &Apply) -> Result<Looked, WorkError> {
        // It is root already: the password is none of its business.
        let apply = Apply { sudo_password: None, ..apply.clone() };
        let call = Call::Look { deploy: deploy.clone(), apply: Box::new(apply) };
        match self.call(&call, &mut |_| {})? {
            Answer::Looked(looked) => Ok(looked),
            other => Err(unexpected(&other)),
        }
    }

    fn supply(&mut self, manifest: &Manifest) -> Result<(), WorkError> {
        self.done(&Call::Supply(manifest.clone()))
    }

    fn lacking(&mut self) -> Result<Need, WorkError> {
        match self.call(&Call::Lacking, &mut |_| {})? {
            Answer::Lacking(need) => Ok(need),
            other => Err(unexpected(&other)),
        }
    }

    fn begin_blob(&mut self, digest: Digest, size: u64, from: u64) -> Result<(), WorkError> {
        self.done(&Call::BeginBlob { digest, size, from })
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<(), WorkError> {
        // Not answered one by one: what fails is told by the next call.
        let writer = self.writer.as_mut().ok_or_else(|| gone(&io::ErrorKind::BrokenPipe.into()))?;
        frame::write_chunk(writer, bytes).map_err(|error| gone(&error))
    }

    fn begin(&mut self, run: &str, deploy: &DeployId, what: &str) -> Result<(), WorkError> {
        self.done(&Call::Begin { run: run.to_owned(), deploy: deploy.clone(), what: what.to_owned() })
    }

    fn record(&mut self, deploy: &DeployId, record: Option<DeployRecord>) -> Result<(), WorkError> {
        self.done(&Call::Record { deploy: deploy.clone(), record })
    }

    fn preview(&mut self, steps: &[Release], options: ReleaseOptions) -> Result<Vec<StepDiff>, WorkError> {
        match self.call(&Call::Preview { steps: steps.to_vec(), options }, &mut |_| {})? {
            Answer::Preview(diffs) => Ok(diffs),
            other => Err(unexpected(&other)),
        }
    }

    fn converge(
        &mut self,
        _apply: &Apply,
        indices: &BTreeSet<u32>,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), (u32, WorkError)> {
        let first = indices.first().copied().unwrap_or_default();
        match self.work(&Call::Converge(indices.clone()), sink, tally) {
            Ok(None) => Ok(()),
            Ok(Some(failed)) => Err(failed),
            Err(error) => Err((first, error)),
        }
    }

    fn owe(&mut self, reboots: &BTreeSet<u32>, reached: bool) -> Result<(), WorkError> {
        self.done(&Call::Owe { reboots: reboots.clone(), reached })
    }

    fn reboot(mut self: Box<Self>) -> Result<(), WorkError> {
        match self.call(&Call::Reboot, &mut |_| {}) {
            Ok(Answer::Refused(problem)) => Err(WorkError::Program(Box::new(problem))),
            // Machines that go down end what runs on them, engines that have just asked for it among the first.
            Ok(Answer::Done) | Err(_) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
        }
    }

    fn release(
        &mut self,
        steps: &[Release],
        options: ReleaseOptions,
        sink: &mut dyn FnMut(Event),
        tally: &mut Tally,
    ) -> Result<(), WorkError> {
        match self.work(&Call::Release { steps: steps.to_vec(), options }, sink, tally)? {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), WorkError> {
        self.done(&Call::Close)
    }
}

impl Drop for RootHand {
    fn drop(&mut self) {
        // The end of its pipe ends it; it is waited for so that the next run does not find its lock held.
        drop(self.writer.take());
        let _ = self.child.wait();
    }
}

/// Keeps root's ledger for a front engine, until the pipe ends.
pub fn serve_root(reader: impl Read + Send + 'static, mut writer: impl Write) -> io::Result<()> {
    writer.write_all(&MAGIC)?;
    writer.flush()?;
    let cancel = Cancel::default();
    let (sender, calls) = std::sync::mpsc::sync_channel::<Frame<Call>>(16);
    let listener = cancel.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        while let Ok(Some(frame)) = frame::read::<Call>(&mut reader) {
            if let Frame::Message(Call::Cancel) = frame {
                listener.escalate();
            } else if sender.send(frame).is_err() {
                return;
            }
        }
        listener.escalate();
    });
    let mut keeper = Keeper { hand: None, apply: None, cancel, failed: None };
    while let Ok(frame) = calls.recv() {
        let call = match frame {
            Frame::Message(call) => call,
            Frame::Chunk(bytes) => {
                if let Some(hand) = &mut keeper.hand
                    && let Err(error) = hand.blob(&bytes)
                {
                    keeper.failed = Some(error);
                }
                continue;
            }
        };
        if let Call::Fetch { facts, deploy, path, wait_s } = call {
            let settings = settings(*facts, &keeper.cancel);
            let answer = match super::fetch::find_as_root(&settings, &deploy, &path, wait_s) {
                Ok(found) => {
                    frame::write_message(&mut writer, &Answer::File { digest: found.digest, size: found.size })?;
                    let sent = found.send(|bytes| frame::write_chunk(&mut writer, bytes).map_err(|error| gone(&error)));
                    sent.map_or_else(|error| Answer::Failed(error.into()), |()| Answer::Done)
                }
                Err(error) => Answer::Failed(error.into()),
            };
            frame::write_message(&mut writer, &answer)?;
            writer.flush()?;
            continue;
        }
        if let Call::Deliver(order) = &call {
            let mut front = Front { calls: &calls, writer: &mut writer, cancel: &keeper.cancel };
            let answer = super::deliver::as_root(order, &mut front, &keeper.cancel);
            let answer = answer.map_or_else(|error| Answer::Failed(error.into()), Answer::Delivered);
            frame::write_message(&mut writer, &answer)?;
            writer.flush()?;
            continue;
        }
        let closing = matches!(call, Call::Close | Call::Reboot);
        let mut broken = Ok(());
        let mut sink =
            |event| broken = frame::write_message(&mut writer, &Answer::Event(event)).and_then(|()| writer.flush());
        let answer = keeper.answer(call, &mut sink);
        broken?;
        frame::write_message(&mut writer, &answer)?;
        writer.flush()?;
        if closing {
            break;
        }
    }
    Ok(())
}

/// What the controller owes an engine that needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    Word,
    Bytes(u64),
}

impl Owed {
    fn after(self, frame: &Incoming) -> Self {
        let left = match (frame, self) {
            (Frame::Message(Request::Blob { size, from, .. }), _) => size.saturating_sub(*from),
            (Frame::Chunk(bytes), Self::Bytes(left)) => left.saturating_sub(bytes.len() as u64),
            _ => 0,
        };
        if left > 0 { Self::Bytes(left) } else { Self::Nothing }
    }
}

/// The controller, as root's engine sees it: behind the front.
struct Front<'a, W> {
    calls: &'a Receiver<Frame<Call>>,
    writer: &'a mut W,
    cancel: &'a Cancel,
}

impl<W: Write> Peer for Front<'_, W> {
    fn send(&mut self, reply: Reply) {
        // A front that is gone is noticed by whoever reads from it.
        let _ = frame::write_message(self.writer, &Answer::Said(Box::new(reply))).and_then(|()| self.writer.flush());
    }

    fn send_chunk(&mut self, _: &[u8]) {}

    fn receive(&mut self) -> Option<Incoming> {
        loop {
            match self.calls.recv_timeout(TICK) {
                Ok(Frame::Message(Call::Said(request))) => return Some(Frame::Message(*request)),
                Ok(Frame::Chunk(bytes)) => return Some(Frame::Chunk(bytes)),
                Err(RecvTimeoutError::Timeout) if !self.cancel.is_requested() => {}
                Ok(Frame::Message(_)) | Err(_) => return None,
            }
        }
    }
}

struct Keeper {
    hand: Option<Hand>,
    apply: Option<Apply>,
    cancel: Cancel,
    failed: Option<WorkError>,
}

impl Keeper {
    fn answer(&mut self, call: Call, sink: &mut dyn FnMut(Event)) -> Answer {
        if let Some(error) = self.failed.take() {
            return Answer::Failed(error.into());
        }
        self.carry_out(call, sink).unwrap_or_else(|error| Answer::Failed(error.into()))
    }

    fn carry_out(&mut self, call: Call, sink: &mut dyn FnMut(Event)) -> Result<Answer, WorkError> {
        if let Call::Open { facts, holder } = call {
            let settings = settings(*facts, &self.cancel);
            self.hand = Some(Hand::writing(venue(&settings, Side::System)?, holder, None)?);
            return Ok(Answer::Done);
        }
        if let Call::Close = call {
            return match self.hand.take() {
                Some(hand) => Box::new(hand).close().map(|()| Answer::Done),
                None => Ok(Answer::Done),
            };
        }
        if let Call::Reboot = call {
            let done = self.hand.take().map_or(Ok(()), |hand| Box::new(hand).reboot());
            return Ok(done.map_or_else(|error| Answer::Refused(error.problem()), |()| Answer::Done));
        }
        let hand = self.hand.as_mut().ok_or_else(|| WorkError::Plan("the ledger was not opened".to_owned()))?;
        Ok(match call {
            Call::Open { .. }
            | Call::Close
            | Call::Reboot
            | Call::Cancel
            | Call::Deliver(_)
            | Call::Said(_)
            | Call::Fetch { .. } => Answer::Done,
            Call::Interrupted => Answer::Interrupted(hand.interrupted()),
            Call::Deploy(id) => Answer::Deploy(hand.deploy(&id)?),
            Call::StepsOf(id) => Answer::Steps(hand.steps_of(&id)?),
            Call::RemainsOf(id) => Answer::Steps(hand.remains_of(&id)?),
            Call::Look { deploy, apply } => {
                let looked = hand.look(&deploy, &apply)?;
                self.apply = Some(*apply);
                Answer::Looked(looked)
            }
            Call::Supply(manifest) => {
                hand.supply(&manifest)?;
                Answer::Done
            }
            Call::Lacking => Answer::Lacking(hand.lacking()?),
            Call::BeginBlob { digest, size, from } => hand.begin_blob(digest, size, from).map(|()| Answer::Done)?,
            Call::Begin { run, deploy, what } => hand.begin(&run, &deploy, &what).map(|()| Answer::Done)?,
            Call::Record { deploy, record } => hand.record(&deploy, record).map(|()| Answer::Done)?,
            Call::Preview { steps, options } => Answer::Preview(hand.preview(&steps, options)?),
            Call::Converge(indices) => {
                let mut tally = Tally::default();
                let apply = self.apply.as_ref().ok_or_else(|| WorkError::Plan("no plan was sent".to_owned()))?;
                let result = hand.converge(apply, &indices, sink, &mut tally);
                Answer::Worked(Work::new(tally, result.err()))
            }
            Call::Owe { reboots, reached } => hand.owe(&reboots, reached).map(|()| Answer::Done)?,
            Call::Release { steps, options } => {
                let mut tally = Tally::default();
                let result = hand.release(&steps, options, sink, &mut tally);
                Answer::Worked(Work::new(tally, result.err().map(|error| (0, error))))
            }
        })
    }
}

/// Returns where root's engine works: on this machine, for a user that the front names.
fn settings(facts: Facts, cancel: &Cancel) -> Settings {
    Settings { root: "/".into(), facts, reboot: Reboot::of_this_machine(), cancel: cancel.clone() }
}

impl Work {
    fn new(tally: Tally, failed: Option<(u32, WorkError)>) -> Self {
        let Tally { changed, removed, kept, pending } = tally;
        let failed = failed.map(|(index, error)| (index, error.into()));
        Self { changed, removed, kept, pending, failed }
    }
}

impl From<WorkError> for Failure {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Plan(why) => Self::Plan(why),
            WorkError::Conflict { what, subject, owner } => Self::Conflict { what, subject, owner },
            WorkError::Cancelled => Self::Cancelled,
            WorkError::Unfit(problem) => Self::Unfit(*problem),
            WorkError::Ledger(LedgerError::Lock(_)) => Self::Denied(error.problem().hint(WAIT)),
            WorkError::Denied(problem) => Self::Denied(*problem),
            other => Self::Program(other.problem()),
        }
    }
}

impl From<Failure> for WorkError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Program(problem) => Self::Program(Box::new(problem)),
            Failure::Denied(problem) => Self::Denied(Box::new(problem)),
            Failure::Unfit(problem) => Self::Unfit(Box::new(problem)),
            Failure::Plan(why) => Self::Plan(why),
            Failure::Conflict { what, subject, owner } => Self::Conflict { what, subject, owner },
            Failure::Cancelled => Self::Cancelled,
        }
    }
}

fn gone(error: &io::Error) -> WorkError {
    let problem = Problem::new("root's engine is gone")
        .because(error.to_string())
        .hint("what it did is in its ledger; the same command goes on from there");
    WorkError::Program(Box::new(problem))
}

fn unexpected(answer: &Answer) -> WorkError {
    WorkError::Plan(format!("root's engine answered something else: {answer:?}").chars().take(200).collect())
}
