//! Cut off at every record there is.

use crate::kit::{Venueish, dir, file, link, plan, text};

#[test]
fn every_record_is_a_place_to_resume_and_to_undo_from() {
    let steps = || {
        vec![
            dir("/opt/tool", 0o700),
            file("/opt/tool/a", 1, 0o644),
            file("/etc/motd", 2, 0o600),
            link("/etc/link", "motd"),
            text("{{.Home}}/x/y/z", "text"),
            file("/opt/tool/b", 3, 0o755),
        ]
    };
    let plan = plan(&[("tool", steps())]);
    let whole = {
        let venue = Venueish::new();
        venue.write("etc/motd", "before");
        venue.apply(&plan).ok();
        venue.tree_without_ledger()
    };
    let mut records = 0;
    loop {
        let (resumed, undone) = (Venueish::new(), Venueish::new());
        let mut before = None;
        for venue in [&resumed, &undone] {
            venue.write("etc/motd", "before");
            before = Some(venue.tree());
        }
        let finished = resumed.apply_until(&plan, records).done.unwrap().verdict == charly_ir::message::Verdict::Ok;
        resumed.apply(&plan).ok();
        assert_eq!(resumed.tree_without_ledger(), whole, "resumed after {records} records");

        undone.apply_until(&plan, records);
        let known = undone.path("home/ann/.config/opencharly/installed/journal").exists() || finished;
        let done = undone.remove(&[]);
        if known {
            let done = done.ok();
            assert_eq!(done.kept(), [], "undone after {records} records");
        }
        // A run that was cut off before its first record has left a folder to hold the ledger, and nothing in it.
        undone.apply(&plan).ok();
        undone.remove(&[]).ok();
        assert_eq!(Some(undone.tree()), before, "undone after {records} records");
        if finished {
            break;
        }
        records += 1;
    }
    assert!(records > 20, "the run has only {records} records");
}
