//! Machines made of an image that the same recipe built.

use charly_ir::message::{Change, Verdict};
use charly_ir::plan::{Scope, Step};

use crate::kit::{Venueish, command, file, plan};

/// Leaves what building an image with these steps would: what they make, and the marks of those that ran.
fn built(steps: &[Step], uid: u32) -> Venueish {
    let venue = Venueish::new();
    std::fs::create_dir_all(venue.path("/usr/lib/opencharly/ran")).unwrap();
    std::fs::create_dir_all(venue.path("/opt/tool")).unwrap();
    venue.write("/opt/tool/made", "by the command");
    venue.write("/etc/tool", "1");
    for step in steps.iter().filter(|step| step.runs()) {
        venue.write(&step.mark_in_image(uid), "");
    }
    venue
}

fn steps() -> Vec<Step> {
    let users = Step { id: "users".into(), scope: Scope::User, ..command("true", &[]) };
    vec![file("/etc/tool", 1, 0o644), command("make it", &["/opt/tool/made"]), users]
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn what_an_image_brought_is_claimed_without_being_run_and_stays() {
    let venue = built(&steps(), me());
    let before = venue.tree();
    let plan = plan(&[("tool", steps())]);
    let done = venue.apply(&plan).ok();
    assert_eq!(done.changed(), 0);
    assert!(done.diff.unwrap().steps.iter().all(|step| step.change == Change::Keep));
    assert_eq!(venue.tree_without_ledger(), before);
    let again = venue.apply(&plan).ok();
    assert_eq!(again.changed(), 0);
    let done = venue.remove(&[]).ok();
    assert_eq!((done.kept(), venue.tree()), (vec![], before.clone()));
    // And once more: the image did not change.
    assert_eq!(venue.apply(&plan).ok().changed(), 0);
    venue.remove(&[]).ok();
    assert_eq!(venue.tree(), before);
}

#[test]
fn what_an_image_did_not_run_so_is_run() {
    let runs = |venue: &Venueish, steps: Vec<Step>| {
        let done = venue.apply(&plan(&[("tool", steps)]));
        let Verdict::Failed(problem) = done.verdict() else { panic!("{:?}", done.done) };
        assert!(problem.because.iter().any(|why| why.contains("not the machine's own")), "{problem:?}");
    };
    // For another user.
    runs(&built(&steps(), me() + 1), steps());
    // With other words.
    runs(&built(&steps(), me()), vec![command("make it otherwise", &["/opt/tool/made"])]);
    // What it had made went.
    let venue = built(&steps(), me());
    std::fs::remove_file(venue.path("/opt/tool/made")).unwrap();
    runs(&venue, steps());
    // No file says so.
    let venue = built(&[], me());
    std::fs::create_dir(venue.path(&steps()[1].mark_in_image(0))).unwrap();
    runs(&venue, steps());
}
