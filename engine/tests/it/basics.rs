//! What a user of the engine would see.

use charly_ir::message::{Change, Remove, Request, Verdict};

use crate::kit::{Venueish, dir, file, link, plan, remove, text};

#[test]
fn what_is_added_is_there_and_goes_again() {
    let venue = Venueish::new();
    venue.write("etc/motd", "before");
    let before = venue.tree();
    let steps = vec![
        dir("/opt/tool", 0o750),
        file("/opt/tool/bin/run", 1, 0o755),
        file("/etc/motd", 2, 0o644),
        link("/opt/tool/current", "bin/run"),
        text("{{.Home}}/.local/share/x/note", "home is {{.Home}}\n"),
    ];
    let plan = plan(&[("tool", steps)]);
    let done = venue.apply(&plan).ok();
    assert_eq!(done.changed(), 5);
    assert_eq!(done.needs, 1);
    assert_eq!(venue.read("etc/motd"), "2");
    assert_eq!(venue.read("home/ann/.local/share/x/note"), "home is /home/ann\n");
    let there = venue.tree();

    let again = venue.apply(&plan).ok();
    assert_eq!((again.changed(), again.needs), (0, 0));
    assert!(again.diff.unwrap().steps.iter().all(|step| step.change == Change::Keep));
    let after = venue.tree();
    let differing: Vec<_> = after.iter().filter(|(path, what)| there.get(*path) != Some(what)).collect();
    assert_eq!(differing, Vec::<(&String, &String)>::new(), "a re-add that changes nothing writes nothing");
    assert_eq!(after.len(), there.len());

    venue.remove(&[]).ok();
    assert_eq!(venue.tree(), before);
}

#[test]
fn a_tampered_file_is_repaired_and_the_copy_kept() {
    let venue = Venueish::new();
    let plan = plan(&[("tool", vec![file("/etc/a", 1, 0o644), file("/etc/b", 2, 0o644)])]);
    venue.apply(&plan).ok();
    venue.write("etc/a", "mine");
    let done = venue.apply(&plan).ok();
    assert_eq!(done.changed(), 1);
    assert_eq!(venue.read("etc/a"), "1");
    let copy = venue.path("var/lib/opencharly/installed/edited/%2Fetc%2Fa");
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "mine");
}

#[test]
fn a_file_edited_since_is_left_at_del_and_told() {
    let venue = Venueish::new();
    let before = venue.tree();
    venue.apply(&plan(&[("tool", vec![file("/etc/a", 1, 0o644), file("/opt/x/b", 2, 0o644)])])).ok();
    venue.write("opt/x/b", "mine");
    venue.write("opt/x/other", "mine, too");
    let done = venue.remove(&[]).ok();
    let kept = [("/opt/x/b", "it was edited since"), ("/opt/x", "it holds what charly did not make")];
    assert_eq!(done.kept(), kept.map(|(path, why)| (path.to_owned(), why.to_owned())));
    let mut after = venue.tree();
    assert!(
        after.remove("opt/x").is_some() && after.remove("opt/x/b").is_some() && after.remove("opt/x/other").is_some()
    );
    assert_eq!(after, before);
}

#[test]
fn a_purge_takes_the_folders_that_were_asked_for_and_no_others() {
    let venue = Venueish::new();
    let steps = vec![
        dir("/srv/tool", 0o755),
        file("/srv/tool/conf", 1, 0o644),
        text("{{.Home}}/.local/share/x/note", "x"),
        file("/opt/x/b", 2, 0o644),
    ];
    venue.apply(&plan(&[("tool", steps)])).ok();
    for path in ["srv/tool/data", "home/ann/.local/share/mine", "home/ann/.local/share/x/mine", "opt/x/mine"] {
        venue.write(path, "made since");
    }
    let purge = Remove { purge: true, ..remove(&[]) };
    let done = venue.request(Request::Remove(purge), None).ok();
    let notes: Vec<_> = done.diff.iter().flat_map(|diff| &diff.steps).flat_map(|step| &step.details).collect();
    let noted: Vec<_> = notes.iter().filter(|detail| detail.note.is_some()).map(|detail| &detail.subject).collect();
    assert_eq!(noted, ["/srv/tool"]);
    let kept = ["/opt/x", "/home/ann/.local/share/x", "/home/ann/.local/share", "/home/ann/.local"];
    let mut told: Vec<_> = done.kept().into_iter().map(|(path, _)| path).collect();
    told.sort_by_key(|path| kept.iter().position(|kept| kept == path));
    assert_eq!(told, kept.map(str::to_owned));
    assert!(!venue.path("srv/tool").exists());
    for path in ["home/ann/.local/share/mine", "home/ann/.local/share/x/mine", "opt/x/mine"] {
        assert_eq!(venue.read(path), "made since", "{path}");
    }
}

#[test]
fn a_changed_candy_is_changed_and_a_dropped_one_goes() {
    let venue = Venueish::new();
    venue.write("etc/a", "before");
    venue.apply(&plan(&[("one", vec![file("/etc/a", 1, 0o644)]), ("two", vec![file("/opt/y/b", 2, 0o600)])])).ok();
    let done = venue.apply(&plan(&[("one", vec![file("/etc/a", 3, 0o600), file("/etc/c", 4, 0o644)])])).ok();
    assert_eq!((venue.read("etc/a"), venue.read("etc/c")), ("3".into(), "4".into()));
    assert!(!venue.path("opt/y").exists());
    assert_eq!(done.done.as_ref().unwrap().removed, 1);
    venue.remove(&["one"]).ok();
    assert_eq!(venue.read("etc/a"), "before");
}

#[test]
fn a_folder_in_the_way_stops_the_step_and_the_run_resumes() {
    let venue = Venueish::new();
    std::fs::create_dir(venue.path("etc/b")).unwrap();
    let plan = plan(&[("tool", vec![file("/etc/a", 1, 0o644), file("/etc/b", 2, 0o644), file("/etc/c", 3, 0o644)])]);
    let failed = venue.apply(&plan);
    let Verdict::Failed(problem) = failed.verdict() else { panic!("{:?}", failed.done) };
    assert_eq!(problem.what, "step `tool/copy:/etc/b` failed");
    assert!(problem.because.iter().any(|why| why.contains("a folder is there")), "{problem:?}");
    assert!(venue.path("etc/a").exists() && !venue.path("etc/c").exists());
    std::fs::remove_dir(venue.path("etc/b")).unwrap();
    let done = venue.apply(&plan).ok();
    assert_eq!(done.changed(), 2);
    assert_eq!(venue.read("etc/c"), "3");
}

#[test]
fn del_of_what_is_not_there_says_so() {
    let venue = Venueish::new();
    let before = venue.tree();
    let done = venue.remove(&[]);
    let Verdict::Invalid(problem) = done.verdict() else { panic!("{:?}", done.done) };
    assert_eq!(problem.what, "this venue holds no deploy `local`");
    assert_eq!(venue.tree(), before);
}

#[test]
fn everybody_may_read_the_ledger_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let venue = Venueish::new();
    let former = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    venue.apply(&plan(&[("tool", vec![file("/etc/a", 1, 0o644)])])).ok();
    rustix::process::umask(former);
    for path in ["", "/layers", "/deploys", "/layers/tool.json"] {
        let mode = std::fs::metadata(venue.path(&format!("var/lib/opencharly/installed{path}"))).unwrap().permissions();
        assert_eq!(mode.mode() & 0o444, 0o444, "{path}");
    }
}
