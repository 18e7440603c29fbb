//! Controllers that go, cancel or fall silent while the engine waits for them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use charly_engine::session::{self, Link, PipePeer};
use charly_ir::Digest;
use charly_ir::frame::{self, Frame, MAGIC, Packing};
use charly_ir::message::{Hello, Mode, Reply, Request, Verdict};

use crate::kit::{Venueish, apply, file, large, large_file, plan};

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

#[test]
fn a_large_blob_is_gone_on_with_where_it_was_cut() {
    let venue = Venueish::new();
    let before = venue.tree();
    // Both ledgers want the second; root's alone the first.
    let steps = vec![large_file("/etc/one", 1), large_file("/etc/two", 2), large_file("{{.Home}}/two", 2)];
    let recipe = plan(&[("c", steps)]);
    let (one, two) = (Digest::of(&large(1)), Digest::of(&large(2)));
    let chunk = frame::MAX_CHUNK as u64;
    // Request, head, two of four chunks; then what is left of the first and one chunk of the second.
    let cut = venue.apply_and_go(&recipe, 4);
    assert_eq!(*cut.verdict(), Verdict::Cancelled);
    let first = cut.asked[0].0;
    let second = if first == one { two } else { one };
    assert_eq!(cut.asked, [(first, 0), (second, 0)]);
    let again = venue.apply_and_go(&recipe, 6);
    assert_eq!(again.asked, [(first, 2 * chunk), (second, 0)]);
    let done = venue.apply(&recipe).ok();
    assert_eq!(done.asked, [(first, 200_000), (second, chunk)]);
    assert_eq!(std::fs::read(venue.path("/etc/one")).unwrap(), large(1));
    assert_eq!(std::fs::read(venue.path("/home/ann/two")).unwrap(), large(2));
    assert!(!venue.tree().keys().any(|path| path.contains("/incoming")));
    venue.remove(&[]).ok();
    assert_eq!(venue.tree(), before);
}

#[test]
fn a_damaged_beginning_is_asked_for_again_once() {
    let venue = Venueish::new();
    let recipe = plan(&[("c", vec![large_file("/etc/one", 1)])]);
    let digest = Digest::of(&large(1));
    venue.apply_and_go(&recipe, 3);
    let part = format!("/var/lib/opencharly/installed/incoming/{digest}");
    venue.write(&part, "not what was sent");
    let done = venue.apply(&recipe).ok();
    assert_eq!(done.asked, [(digest, 17), (digest, 0)]);
    assert_eq!(std::fs::read(venue.path("/etc/one")).unwrap(), large(1));
}

#[test]
fn what_arrived_for_nothing_goes_with_the_next_run() {
    let cut_off = plan(&[("c", vec![large_file("/etc/one", 1), large_file("{{.Home}}/two", 2)])]);
    let incoming = |venue: &Venueish| {
        let tree = venue.tree();
        tree.into_keys().filter(|path| path.contains("/incoming/")).count()
    };
    for end in ["del", "another", "a user's own"] {
        let venue = Venueish::new();
        let before = venue.tree();
        venue.apply_and_go(&cut_off, 7);
        assert_eq!(incoming(&venue), 2);
        match end {
            "del" => {
                let removed = venue.remove(&[]);
                assert!(matches!(removed.verdict(), Verdict::Invalid(_)));
                assert_eq!(venue.tree(), before);
            }
            "another" => {
                let other = plan(&[("d", vec![large_file("/etc/three", 3)])]);
                // What is wanted no longer goes before what is wanted comes.
                venue.apply_and_go(&other, 3);
                assert_eq!(incoming(&venue), 1);
                venue.apply(&other).ok();
            }
            _ => drop(venue.apply(&plan(&[("d", vec![file("{{.Home}}/x", 1, 0o644)])])).ok()),
        }
        assert_eq!(incoming(&venue), 0, "{end}");
        assert!(end == "another" || !venue.path("/var/lib/opencharly").exists(), "{end}");
    }
}

#[test]
fn a_run_killed_before_its_first_record_leaves_nothing_for_ever() {
    let recipe = plan(&[("c", vec![file("/etc/one", 1, 0o644)])]);
    let own = plan(&[("d", vec![file("{{.Home}}/x", 1, 0o644)])]);
    for own_first in [false, true] {
        let venue = Venueish::new();
        let before = venue.tree();
        // Two are of the user's ledger.
        venue.apply_until(&recipe, 2);
        assert!(venue.path("/var/lib/opencharly").exists());
        if own_first {
            venue.apply(&own).ok();
            assert!(!venue.path("/var/lib/opencharly").exists());
            venue.remove(&[]).ok();
        } else {
            assert!(matches!(venue.remove(&[]).verdict(), Verdict::Invalid(_)));
        }
        assert_eq!(venue.tree(), before);
    }
}
