//! Carrying bytes to and from scripts that play the engine.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use charly_ir::Digest;
use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, User};
use charly_ir::frame::{self, MAGIC};
use charly_ir::message::{
    Diff, Done, Event, Hello, Inspect, Manifest, Need, PROTOCOL, Problem, Reply, Request, Verdict,
};

use crate::target::Decision;
use crate::wire::{Answer, Client, ClientError};
use crate::{Blob, Interrupts, Observer, Order, Supply, TargetError};

struct Deaf;

impl Observer for Deaf {
    fn diff(&mut self, _: &Diff) {}

    fn decide(&mut self, _: &Diff) -> Decision {
        Decision::Abort
    }

    fn event(&mut self, _: Event) {}

    fn cancelling(&mut self, _: u32) {}
}

#[derive(Debug)]
struct Zeros;

const BLOB: u64 = 20 << 20;

impl Supply for Zeros {
    fn manifest(&mut self, _: u32) -> Result<Manifest, Problem> {
        Err(Problem::new("none"))
    }

    fn blob(&mut self, _: Digest) -> Result<Blob, Problem> {
        Ok(Blob::new(BLOB, std::io::repeat(0)))
    }
}

fn greeting(replies: &[Reply]) -> Vec<u8> {
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
    let hello = Hello { protocol: PROTOCOL, engine: "0".into(), facts, deploys: vec![], unready: vec![] };
    let mut bytes = MAGIC.to_vec();
    frame::write_message(&mut bytes, &hello).unwrap();
    for reply in replies {
        frame::write_message(&mut bytes, reply).unwrap();
    }
    bytes
}

/// Starts a script that finds the pieces of its part in `$1`, `$2` and so on.
fn play(script: &str, pieces: &[&[u8]]) -> (Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script, "engine"]).process_group(0);
    for (index, piece) in pieces.iter().enumerate() {
        let path = folder.path().join(index.to_string());
        std::fs::write(&path, piece).unwrap();
        command.arg(path);
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (child, folder)
}

fn converse(script: &str, pieces: &[&[u8]], interrupts: &Interrupts) -> Result<Answer, TargetError> {
    let (child, _folder) = play(script, pieces);
    let mut observer = Deaf;
    let request = Request::Inspect(Inspect::Why { subject: "/x".into() });
    let begin = |_: &Hello| Ok(Order { request, supply: Box::new(Zeros), sink: None });
    let mut client = Client::new(begin, &mut observer, interrupts.clone());
    super::carry(child, &mut client, &|| Ok(()))?;
    Ok(client.finish()?)
}

fn done() -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_message(&mut bytes, &Reply::Done(Done::verdict(Verdict::Ok))).unwrap();
    bytes
}

#[test]
fn both_sides_may_write_without_reading() {
    // The engine writes a megabyte of events before it reads the first byte of twenty megabytes.
    let warning = Reply::Event(Event::Warning { text: "w".repeat(1000) });
    let mut replies = vec![Reply::Need(Need { blobs: vec![Digest::of(b"")], ..Need::default() })];
    replies.extend(std::iter::repeat_n(warning, 1000));
    let script = format!("cat $1; head -c {BLOB} | wc -c >&2; cat $2");
    let answer = converse(&script, &[&greeting(&replies), &done()], &Interrupts::default()).unwrap();
    assert_eq!(answer.done.verdict, Verdict::Ok);
}

#[test]
fn an_engine_that_dies_leaves_its_complaint() {
    let script = "cat $1; echo out of memory >&2; exec 0<&-; kill -9 $$";
    let error = converse(script, &[&greeting(&[])], &Interrupts::default()).unwrap_err();
    assert_eq!(error.to_string(), "the engine ended before its last word; it wrote `out of memory`");
    let error = converse("echo no such thing >&2; exit 127", &[], &Interrupts::default()).unwrap_err();
    assert_eq!(error.to_string(), "no engine answered; it wrote `no such thing`");
}

#[test]
fn a_daemon_that_keeps_the_pipes_holds_nothing_up() {
    let script = "cat $1 $2; sleep 1000 &";
    let (child, _folder) = play(script, &[&greeting(&[]), &done()]);
    let group = rustix::process::Pid::from_child(&child);
    let mut observer = Deaf;
    let request = Request::Inspect(Inspect::Why { subject: "/x".into() });
    let mut client = Client::new(|_| Ok(Order::question(request)), &mut observer, Interrupts::default());
    super::carry(child, &mut client, &|| Ok(())).unwrap();
    assert!(client.is_done());
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_engine_that_says_nothing_can_be_left() {
    let interrupts = Interrupts::default();
    interrupts.raise();
    let error = converse("read nothing", &[], &interrupts).unwrap_err();
    assert!(matches!(error, TargetError::Conversation(ClientError::Interrupted)), "{error}");
}
