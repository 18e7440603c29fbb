//! Ledgers and plans of former releases: whatever was ever written is readable for ever.
//!
//! `tests/fixtures/1` was written by format 1: a tree as an add left it, with both ledgers, cut off before the last record of a
//! second add. `CHARLY_FIXTURE=DIR cargo test -p charly-engine --test it old` writes the like into DIR, for a new format; a fixture that
//! is here already is never written again.

use std::fs;
use std::path::Path;

use charly_ir::plan::InstallPlan;

use crate::kit::{Venueish, dir, file, link, plan, text};

fn recipe() -> InstallPlan {
    let steps = vec![
        dir("/opt/tool", 0o750),
        file("/opt/tool/bin/run", 1, 0o755),
        file("/etc/motd", 2, 0o644),
        link("/opt/tool/current", "bin/run"),
        text("{{.Home}}/.local/share/x/note", "home is {{.Home}}\n"),
    ];
    plan(&[("tool", steps)])
}

#[test]
fn what_format_1_wrote_is_taken_away() {
    if !is_root() {
        return;
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/1");
    let venue = Venueish::new();
    venue.write("etc/motd", "before");
    let before = venue.tree();
    let text = fs::read_to_string(fixture.join("tree.json")).unwrap();
    let files: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for (path, content) in files {
        let path = venue.path(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let resumed = venue.apply(&recipe()).ok();
    assert!(resumed.events.iter().any(|event| matches!(event, charly_ir::message::Event::Recovered { .. })));
    // What the ledger knows was there before is put back, though only the ledger's own files are of the former release.
    venue.remove(&[]).ok();
    assert_eq!(venue.tree(), before);
}

#[test]
fn a_plan_of_format_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/1/plan.json");
    let read: InstallPlan = serde_json::from_str(&fs::read_to_string(fixture).unwrap()).unwrap();
    assert_eq!(read, recipe());
}

/// A fixture is of root's own ledgers: owners' numbers are in it, below checksums.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        #[expect(clippy::print_stderr, reason = "what is not tested is told")]
        {
            eprintln!("skipped: the fixture holds root's own ledgers, and this is not root");
        }
    }
    root
}

/// Writes a fixture of the present format, where asked to.
#[test]
fn a_fixture_can_be_written() {
    let Some(folder) = std::env::var_os("CHARLY_FIXTURE") else { return };
    let folder = Path::new(&folder);
    let venue = Venueish::new();
    venue.write("etc/motd", "before");
    venue.apply(&recipe()).ok();
    // Something is changed, and the run that mends it cut off: so there is a journal, too.
    venue.write("etc/motd", "edited");
    venue.apply_until(&recipe(), 7);
    assert!(is_root(), "a fixture is root's");
    let mut files = std::collections::BTreeMap::new();
    for ledger in ["home/ann/.config/opencharly/installed", "var/lib/opencharly/installed"] {
        for name in venue.tree().keys().filter(|name| name.starts_with(ledger)) {
            if venue.path(name).is_file() && !name.ends_with("/lock") {
                files.insert(name.clone(), venue.read(name));
            }
        }
    }
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("tree.json"), serde_json::to_string_pretty(&files).unwrap()).unwrap();
    fs::write(folder.join("plan.json"), serde_json::to_string_pretty(&recipe()).unwrap()).unwrap();
}
