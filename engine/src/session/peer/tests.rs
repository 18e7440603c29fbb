use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, User};
use charly_ir::frame::{self, Frame, MAGIC, Packing};
use charly_ir::message::{Event, Hello, PROTOCOL, Reply, Request};

use super::*;

/// Long enough that a busy machine does not mistake itself for a silent one, short enough to be waited for.
const SILENCE: Duration = Duration::from_millis(300);

fn hello() -> Hello {
    let user = User { name: "ann".into(), uid: 1, gid: 1, home: "/home/ann".into(), shell: "/bin/sh".into() };
    let facts = Facts {
        os: Os::parse(""),
        arch: "x86_64".into(),
        hostname: "test".into(),
        boot: BootMark::default(),
        init: Init::None,
        package_manager: None,
        user,
    };
    Hello { protocol: PROTOCOL, engine: "1".into(), facts, deploys: Vec::new(), unready: Vec::new() }
}

/// Connects an engine's side with a controller's, over one socket as sshd does.
fn connected(silence: Option<Duration>) -> (PipePeer<UnixStream>, UnixStream, Cancel) {
    let (engine, controller) = UnixStream::pair().unwrap();
    let cancel = Cancel::default();
    let link = Link { packing: Packing::None, silence };
    let peer = PipePeer::start(engine.try_clone().unwrap(), engine, link, &hello(), cancel.clone()).unwrap();
    (peer, controller, cancel)
}

#[test]
fn a_controller_that_falls_silent_has_gone() {
    let (mut peer, controller, cancel) = connected(Some(SILENCE));
    let started = Instant::now();
    assert_eq!(peer.receive(), None);
    assert!(started.elapsed() >= SILENCE && cancel.is_requested() && !cancel.is_hard());
    drop(controller);
}

#[test]
fn signs_of_life_keep_a_controller_there() {
    let (mut peer, mut controller, cancel) = connected(Some(SILENCE));
    let speaker = std::thread::spawn(move || {
        for _ in 0..8 {
            std::thread::sleep(SILENCE / 4);
            frame::write_message(&mut controller, &Request::Alive).unwrap();
        }
        frame::write_message(&mut controller, &Request::Abort).unwrap();
        controller
    });
    assert_eq!(peer.receive(), Some(Frame::Message(Request::Abort)));
    assert!(!cancel.is_requested());
    drop(speaker.join().unwrap());
}

#[test]
fn what_waits_to_be_heard_is_no_silence() {
    let (mut peer, mut controller, cancel) = connected(Some(SILENCE));
    let many = PipePeer::<UnixStream>::WAITING + 2;
    for _ in 0..many {
        frame::write_chunk(&mut controller, b"x").unwrap();
    }
    std::thread::sleep(SILENCE * 2);
    assert!(!cancel.is_requested());
    for _ in 0..many {
        assert_eq!(peer.receive(), Some(Frame::Chunk(b"x".to_vec())));
    }
}

#[test]
fn a_controller_that_reads_nothing_does_not_hold_the_engine() {
    for (silence, closes) in [(Some(SILENCE), false), (None, true)] {
        let (mut peer, controller, cancel) = connected(silence);
        if closes {
            controller.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let text = "x".repeat(64 << 10);
        // Far more than the socket takes, so this would wait for ever.
        for index in 0..64 {
            peer.send(Reply::Event(Event::Output { index, text: text.clone(), stderr: false }));
        }
        assert!(cancel.is_requested());
        let ended = Instant::now();
        peer.send(Reply::Event(Event::Warning { text: "more".into() }));
        drop(peer);
        assert!(ended.elapsed() < SILENCE);
        drop(controller);
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let (mut peer, mut controller, cancel) = connected(None);
    let text = "x".repeat(64 << 10);
    let sent = text.clone();
    let writer = std::thread::spawn(move || {
        for index in 0..64 {
            peer.send(Reply::Event(Event::Output { index, text: sent.clone(), stderr: false }));
        }
        peer
    });
    let mut magic = [0; MAGIC.len()];
    controller.read_exact(&mut magic).unwrap();
    assert!(matches!(frame::read::<Hello>(&mut controller), Ok(Some(Frame::Message(_)))));
    for index in 0..64 {
        let event = Event::Output { index, text: text.clone(), stderr: false };
        assert_eq!(frame::read(&mut controller).unwrap(), Some(Frame::Message(Reply::Event(event))));
    }
    drop(writer.join().unwrap());
    assert!(!cancel.is_requested());
}

#[test]
fn a_cancel_ends_the_waiting() {
    let (mut peer, mut controller, cancel) = connected(None);
    frame::write_message(&mut controller, &Request::Proceed { gates: BTreeSet::new() }).unwrap();
    frame::write_message(&mut controller, &Request::Cancel).unwrap();
    // What was said before it is still heard.
    assert!(matches!(peer.receive(), Some(Frame::Message(Request::Proceed { .. }))));
    assert_eq!(peer.receive(), None);
    assert!(cancel.is_requested() && !cancel.is_hard());
}

#[test]
fn the_stream_is_left_as_it_was() {
    let (engine, controller) = UnixStream::pair().unwrap();
    let shared = engine.try_clone().unwrap();
    let before = rustix::fs::fcntl_getfl(&shared).unwrap();
    let peer = PipePeer::start(controller, engine, Link::PIPE, &hello(), Cancel::default()).unwrap();
    assert_ne!(rustix::fs::fcntl_getfl(&shared).unwrap(), before);
    drop(peer);
    assert_eq!(rustix::fs::fcntl_getfl(&shared).unwrap(), before);
}
