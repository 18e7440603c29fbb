//! Conversations with scripted engines.

use std::collections::BTreeSet;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex};

use charly_ir::Digest;
use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, User};
use charly_ir::frame::{self, Frame, MAGIC};
use charly_ir::message::{
    Apply, Diff, Done, Event, Fetch, Hello, Inspect, MAX_FETCHED, Manifest, Mode, Need, PROTOCOL, Problem,
    RebootPolicy, Reply, Report, Request, Verdict,
};
use charly_ir::plan::{Gate, InstallPlan};

use super::{Client, ClientError};
use crate::supply::{Blob, Supply};
use crate::target::{Decision, Observer, Order, Sink};
use crate::{BoxError, Interrupts};

fn hello() -> Hello {
    let user = User { name: "ann".into(), uid: 1, gid: 1, home: "/home/ann".into(), shell: "/bin/sh".into() };
    let facts = Facts {
        os: Os::default(),
        arch: "x86_64".into(),
        hostname: "venue".into(),
        boot: BootMark::default(),
        init: Init::None,
        package_manager: None,
        user,
    };
    Hello { protocol: PROTOCOL, engine: "0".into(), facts, deploys: vec![], unready: vec![] }
}

fn apply(mode: Mode) -> Request {
    Request::Apply(Box::new(Apply {
        deploy: "local".into(),
        run: "1".into(),
        layers: vec![],
        plan: InstallPlan::empty("debian-13", "x86_64"),
        mode,
        rerun: vec![],
        undoable_only: false,
        skip_incompatible: false,
        reboot: RebootPolicy::Stop,
        secrets: [].into(),
        command_timeout_s: 1,
        follows: Vec::new(),
        sudo_password: None,
    }))
}

fn done() -> Reply {
    Reply::Done(Done::verdict(Verdict::Ok))
}

/// What an engine writes: magic, greeting, replies.
fn script(hello: &Hello, replies: &[Reply]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    frame::write_message(&mut bytes, hello).unwrap();
    for reply in replies {
        frame::write_message(&mut bytes, reply).unwrap();
    }
    bytes
}

#[derive(Default)]
struct Watcher {
    seen: Vec<String>,
    decision: Option<Decision>,
}

impl Observer for Watcher {
    fn diff(&mut self, _: &Diff) {
        self.seen.push("diff".into());
    }

    fn decide(&mut self, _: &Diff) -> Decision {
        self.seen.push("decide".into());
        self.decision.take().unwrap_or(Decision::Abort)
    }

    fn event(&mut self, event: Event) {
        self.seen.push(format!("{event:?}"));
    }

    fn cancelling(&mut self, count: u32) {
        self.seen.push(format!("cancelling {count}"));
    }
}

#[derive(Debug)]
struct Shelf;

impl Supply for Shelf {
    fn manifest(&mut self, step: u32) -> Result<Manifest, Problem> {
        if step == 7 { Ok(Manifest { step, members: vec![] }) } else { Err(Problem::new("gone")) }
    }

    fn blob(&mut self, _: Digest) -> Result<Blob, Problem> {
        Ok(Blob::new(100_000, io::repeat(b'x')))
    }
}

/// Reads what a client has to say.
fn said(client: &mut Client<'_>) -> Vec<Frame<Request>> {
    let mut bytes = Vec::new();
    client.transmit(&mut bytes).unwrap();
    let mut reader = &bytes[..];
    std::iter::from_fn(|| frame::read(&mut reader).unwrap()).collect()
}

fn order(request: Request) -> impl FnOnce(&Hello) -> Result<Order, BoxError> + Send {
    |_| Ok(Order { request, supply: Box::new(Shelf), sink: None })
}

#[test]
fn a_question_is_asked_once_the_venue_is_known() {
    let mut watcher = Watcher::default();
    let question = Request::Inspect(Inspect::Why { subject: "/x".into() });
    let mut client = Client::new(order(question.clone()), &mut watcher, Interrupts::default());
    assert_eq!(said(&mut client), []);
    client.receive(&script(&hello(), &[])).unwrap();
    assert_eq!(said(&mut client), [Frame::Message(question)]);
    let report = Report::Why { owned: vec![] };
    let mut bytes = Vec::new();
    frame::write_message(&mut bytes, &Reply::Report(report.clone())).unwrap();
    frame::write_message(&mut bytes, &done()).unwrap();
    client.receive(&bytes).unwrap();
    let answer = client.finish().unwrap();
    assert_eq!((answer.report, answer.done.verdict), (Some(report), Verdict::Ok));
}

#[test]
fn a_cut_at_any_byte_is_an_error_that_says_so() {
    let warning = Reply::Event(Event::Warning { text: "w".into() });
    let whole = script(&hello(), &[warning, done()]);
    for length in 0..=whole.len() {
        let mut watcher = Watcher::default();
        let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, Interrupts::default());
        for byte in &whole[..length] {
            client.receive(std::slice::from_ref(byte)).unwrap();
        }
        client.receive_complaint(b"killed\n");
        match client.finish() {
            Ok(_) => assert_eq!(length, whole.len()),
            Err(ClientError::NoEngine { evidence }) => assert!(evidence.ends_with("killed"), "{evidence}"),
            Err(ClientError::BrokeOff { evidence }) => assert_eq!(evidence, "killed"),
            Err(error) => panic!("{length}: {error}"),
        }
    }
}

#[test]
fn what_came_instead_of_an_engine_is_shown() {
    let mut watcher = Watcher::default();
    let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, Interrupts::default());
    client.receive(b"This account is disabled.\n").unwrap();
    let error = client.finish().unwrap_err();
    assert_eq!(error.to_string(), "no engine answered; it wrote `This account is disabled.`");
}

#[test]
fn needs_are_met() {
    let mut watcher = Watcher::default();
    let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, Interrupts::default());
    let digest = Digest::of(b"x");
    let need = Reply::Need(Need { manifests: vec![7, 8], blobs: vec![digest], ..Need::default() });
    client.receive(&script(&hello(), &[need])).unwrap();
    let said = said(&mut client);
    let manifest = Request::Manifest(Manifest { step: 7, members: vec![] });
    let missing = Request::Missing { problem: Problem::new("gone") };
    let blob = Request::Blob { digest, size: 100_000, from: 0 };
    assert_eq!(said[1..4], [Frame::Message(manifest), Frame::Message(missing), Frame::Message(blob)]);
    let sizes: Vec<_> =
        said[4..].iter().map(|frame| if let Frame::Chunk(bytes) = frame { bytes.len() } else { 0 }).collect();
    assert_eq!(sizes, [65_536, 34_464]);
}

#[test]
fn a_blob_is_gone_on_with() {
    #[derive(Debug)]
    struct Counted;
    impl Supply for Counted {
        fn manifest(&mut self, _: u32) -> Result<Manifest, Problem> {
            Err(Problem::new("none"))
        }

        fn blob(&mut self, _: Digest) -> Result<Blob, Problem> {
            Ok(Blob::new(10, Cursor::new(b"0123456789")))
        }
    }
    let digest = Digest::of(b"0123456789");
    // What an engine says it has may be anything.
    for (have, from, rest) in [(4, 4, Some(&b"456789"[..])), (10, 10, None), (11, 0, Some(&b"0123456789"[..]))] {
        let mut watcher = Watcher::default();
        let begin = |_: &Hello| Ok(Order { request: apply(Mode::DryRun), supply: Box::new(Counted), sink: None });
        let mut client = Client::new(begin, &mut watcher, Interrupts::default());
        let need = Need { blobs: vec![digest], have: [(digest, have)].into(), ..Need::default() };
        client.receive(&script(&hello(), &[Reply::Need(need)])).unwrap();
        let blob = Frame::Message(Request::Blob { digest, size: 10, from });
        let chunk = rest.map(|bytes| Frame::Chunk(bytes.to_vec()));
        assert_eq!(said(&mut client)[1..], std::iter::once(blob).chain(chunk).collect::<Vec<_>>(), "{have}");
    }
}

#[test]
fn the_watcher_decides() {
    let gates = BTreeSet::from([Gate::WithServices]);
    let proceed = (Some(Decision::Proceed(gates.clone())), Request::Proceed { gates });
    for (decision, want) in [proceed, (None, Request::Abort)] {
        let mut watcher = Watcher { decision, ..Watcher::default() };
        let mut client = Client::new(order(apply(Mode::Ask)), &mut watcher, Interrupts::default());
        client.receive(&script(&hello(), &[Reply::Diff(Diff::default())])).unwrap();
        assert_eq!(said(&mut client)[1..], [Frame::Message(want)]);
        drop(client);
        assert_eq!(watcher.seen, ["diff", "decide"]);
    }
    let mut watcher = Watcher::default();
    let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, Interrupts::default());
    client.receive(&script(&hello(), &[Reply::Diff(Diff::default()), done()])).unwrap();
    assert!(client.finish().is_ok());
    assert_eq!(watcher.seen, ["diff"]);
}

#[test]
fn interrupts_cancel_then_kill_then_give_up() {
    let (mut watcher, interrupts) = (Watcher::default(), Interrupts::default());
    let mut client = Client::new(order(apply(Mode::Ask)), &mut watcher, interrupts.clone());
    let need = Reply::Need(Need { manifests: vec![7], ..Need::default() });
    client.receive(&script(&hello(), &[need])).unwrap();
    interrupts.raise();
    client.attend().unwrap();
    interrupts.raise();
    client.attend().unwrap();
    let cancel = || Frame::Message(Request::Cancel);
    assert_eq!(said(&mut client), [cancel()], "the download that was not begun is forgotten");
    interrupts.raise();
    assert!(matches!(client.attend(), Err(ClientError::Interrupted)));
    drop(client);
    assert_eq!(watcher.seen, ["cancelling 1", "cancelling 2"]);
}

#[test]
fn a_question_is_dropped_at_the_first_interrupt() {
    let (mut watcher, interrupts) = (Watcher::default(), Interrupts::default());
    let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, interrupts.clone());
    client.receive(&script(&hello(), &[])).unwrap();
    client.attend().unwrap();
    interrupts.raise();
    assert!(matches!(client.attend(), Err(ClientError::Interrupted)));
}

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_come_back_whole_or_not_at_all() {
    let content = vec![b'y'; 70_000];
    let run = |digest: Digest, size: u64, chunks: &[&[u8]]| {
        let (mut watcher, into) = (Watcher::default(), Shared::default());
        let sink = into.clone();
        let begin = move |_: &Hello| {
            let fetch = Fetch { deploy: "local".into(), path: "/f".into(), wait_s: 0, sudo_password: None };
            let request = Request::Fetch(fetch);
            Ok(Order { sink: Some(Sink::new(Box::new(sink))), ..Order::question(request) })
        };
        let mut client = Client::new(begin, &mut watcher, Interrupts::default());
        let mut bytes = script(&hello(), &[Reply::Blob { digest, size }]);
        for chunk in chunks {
            frame::write_chunk(&mut bytes, chunk).unwrap();
        }
        frame::write_message(&mut bytes, &done()).unwrap();
        let received = client.receive(&bytes);
        let stored = into.0.lock().unwrap().clone();
        received.map(|()| stored)
    };
    let digest = Digest::of(&content);
    let size = content.len() as u64;
    assert_eq!(run(digest, size, &[&content[..60_000], &content[60_000..]]).unwrap(), content);
    assert_eq!(run(Digest::of(b""), 0, &[]).unwrap(), b"");
    assert!(matches!(run(digest, size, &[&content[..60_000]]), Err(ClientError::OutOfTurn { .. })));
    assert!(matches!(run(digest, 3, &[b"four"]), Err(ClientError::OutOfTurn { .. })));
    assert!(matches!(run(digest, 4, &[b"four"]), Err(ClientError::Sink(_))));
    let (large, first) = (MAX_FETCHED + 1, &content[..60_000]);
    assert!(matches!(run(digest, large, &[first]), Err(ClientError::OutOfTurn { what: "a file that is too large" })));
}

#[test]
fn what_nobody_asked_for_is_refused() {
    let chunk = {
        let mut bytes = script(&hello(), &[]);
        frame::write_chunk(&mut bytes, b"x").unwrap();
        bytes
    };
    let unknown = {
        let mut bytes = script(&hello(), &[]);
        frame::write_message(&mut bytes, &"no such reply").unwrap();
        bytes
    };
    let newer = script(&Hello { protocol: PROTOCOL + 1, ..hello() }, &[]);
    for (bytes, want) in [
        (script(&hello(), &[Reply::Blob { digest: Digest::of(b""), size: 0 }]), "the engine sent a file out of turn"),
        (chunk, "the engine sent bytes of no file out of turn"),
        (unknown, "the engine's answer makes no sense"),
        (newer, "the engine speaks protocol 2, this charly 1"),
    ] {
        let mut watcher = Watcher::default();
        let mut client = Client::new(order(apply(Mode::DryRun)), &mut watcher, Interrupts::default());
        assert_eq!(client.receive(&bytes).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_blob_that_shrank_ends_the_conversation() {
    #[derive(Debug)]
    struct Shrunk;
    impl Supply for Shrunk {
        fn manifest(&mut self, _: u32) -> Result<Manifest, Problem> {
            Err(Problem::new("none"))
        }

        fn blob(&mut self, _: Digest) -> Result<Blob, Problem> {
            Ok(Blob::new(10, Cursor::new(b"short")))
        }
    }
    let mut watcher = Watcher::default();
    let begin = |_: &Hello| Ok(Order { request: apply(Mode::DryRun), supply: Box::new(Shrunk), sink: None });
    let mut client = Client::new(begin, &mut watcher, Interrupts::default());
    let need = Reply::Need(Need { blobs: vec![Digest::of(b"")], ..Need::default() });
    client.receive(&script(&hello(), &[need])).unwrap();
    assert!(matches!(client.transmit(&mut Vec::new()), Err(ClientError::Blob(_))));
}
