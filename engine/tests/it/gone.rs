//! Controllers that go, cancel or fall silent while the engine waits for them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use charly_engine::session::{self, Link, PipePeer};
use charly_ir::frame::{self, Frame, MAGIC, Packing};
use charly_ir::message::{Hello, Mode, Reply, Request, Verdict};

use crate::kit::{Venueish, apply, file, plan};

/// What a controller does once the engine waits for it.
#[derive(Debug, Clone, Copy)]
enum Then {
    Cancel,
    FallSilent,
    Go,
}

/// Applies a plan across a socket up to where the engine waits, and returns the last word.
fn wait_and(venue: &Venueish, mode: &Mode, then: Then) -> Option<Verdict> {
    let (engine, mut controller) = UnixStream::pair().unwrap();
    let settings = venue.settings();
    let link = Link { packing: Packing::Deflate, silence: Some(Duration::from_millis(300)) };
    let hello = session::hello(&settings);
    let run = std::thread::spawn(move || {
        let reader = engine.try_clone().unwrap();
        let mut peer = PipePeer::start(reader, engine, link, &hello, settings.cancel.clone()).unwrap();
        session::serve(&settings, &mut peer, None);
    });
    let mut magic = [0; MAGIC.len()];
    controller.read_exact(&mut magic).unwrap();
    frame::read::<Hello>(&mut controller).unwrap();
    let plan = plan(&[("c", vec![file("/etc/one", 1, 0o644)])]);
    let request = Request::Apply(Box::new(charly_ir::message::Apply { mode: mode.clone(), ..apply(&plan) }));
    frame::write_message(&mut controller, &request).unwrap();
    let mut verdict = None;
    while let Ok(Some(Frame::Message(reply))) = frame::read::<Reply>(&mut controller) {
        let waits = match reply {
            Reply::Diff(_) => *mode == Mode::Ask,
            Reply::Need(_) => true,
            Reply::Done(done) => {
                verdict = Some(done.verdict);
                false
            }
            _ => false,
        };
        match then {
            Then::Cancel if waits => frame::write_message(&mut controller, &Request::Cancel).unwrap(),
            Then::Go if waits => controller.shutdown(Shutdown::Both).unwrap(),
            _ => {}
        }
    }
    run.join().unwrap();
    verdict
}

#[test]
fn a_run_that_waits_ends_with_its_controller_and_leaves_nothing() {
    for mode in [Mode::Ask, Mode::Go { gates: BTreeSet::new() }] {
        for (then, verdict) in
            [(Then::Cancel, Some(Verdict::Cancelled)), (Then::FallSilent, Some(Verdict::Cancelled)), (Then::Go, None)]
        {
            let venue = Venueish::new();
            let before = venue.tree();
            assert_eq!(wait_and(&venue, &mode, then), verdict, "{mode:?} {then:?}");
            assert_eq!(venue.tree(), before, "{mode:?} {then:?}");
        }
    }
}
