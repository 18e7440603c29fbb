//! Steps that reboot the venue.

use std::fs::OpenOptions;
use std::io::Write as _;

use charly_engine::reboot::Reboot;
use charly_ir::boot::BootMark;
use charly_ir::message::{Apply, Change, Event, Mode, Problem, RebootPolicy, Request, Verdict};
use charly_ir::plan::InstallPlan;

use crate::kit::{Controller, Venueish, apply, cut_off, file, plan, reboot};

fn boot(number: u64) -> BootMark {
    BootMark::new(None, Some(number))
}

/// A venue in its first boot, which counts how often it is asked to reboot.
fn venue() -> Venueish {
    let mut venue = Venueish::new();
    venue.boot = boot(1);
    let asked = venue.path("asked");
    venue.reboot = Some(Reboot::new(move || {
        let mut file = OpenOptions::new().create(true).append(true).open(&asked).unwrap();
        file.write_all(b"!").unwrap();
        Ok(())
    }));
    venue
}

fn asked(venue: &Venueish) -> usize {
    std::fs::read(venue.path("asked")).map_or(0, |bytes| bytes.len())
}

fn request(plan: &InstallPlan, reboot: RebootPolicy) -> Request {
    Request::Apply(Box::new(Apply { reboot, ..apply(plan) }))
}

fn add(venue: &Venueish, plan: &InstallPlan, reboot: RebootPolicy) -> Controller {
    venue.request(request(plan, reboot), None)
}

/// Returns what a plan is said to do about its reboots.
fn shown(venue: &Venueish, plan: &InstallPlan) -> Vec<Change> {
    let apply = Apply { mode: Mode::DryRun, ..apply(plan) };
    let diff = venue.request(Request::Apply(Box::new(apply)), None).diff.unwrap();
    diff.steps.into_iter().filter(|step| step.kind == "reboot").map(|step| step.change).collect()
}

fn warnings(controller: &Controller) -> Vec<&str> {
    let texts = controller.events.iter().filter_map(|event| match event {
        Event::Warning { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_reboot_that_is_due_stays_due_until_there_was_one() {
    for (first, again) in [(RebootPolicy::Stop, RebootPolicy::Stop), (RebootPolicy::Perform, RebootPolicy::Stop)] {
        let mut venue = venue();
        let recipe = plan(&[("c", vec![file("/etc/one", 1, 0o644), reboot(), file("/etc/two", 2, 0o644)])]);
        assert_eq!(shown(&venue, &recipe), [Change::Add]);
        add(&venue, &recipe, first);
        for _ in 0..2 {
            assert_eq!(shown(&venue, &recipe), [Change::Add]);
            let due = add(&venue, &recipe, again);
            assert_eq!((due.verdict(), due.changed()), (&Verdict::RebootDue, 0));
            assert!(!venue.path("/etc/two").exists());
        }
        venue.boot = boot(2);
        assert_eq!(shown(&venue, &recipe), [Change::Keep]);
        assert_eq!(add(&venue, &recipe, again).ok().changed(), 1);
        assert_eq!(venue.read("/etc/two"), "2");
        // Done is done, in this boot and in all later ones.
        for number in [2, 3] {
            venue.boot = boot(number);
            assert_eq!(shown(&venue, &recipe), [Change::Keep]);
            assert_eq!(add(&venue, &recipe, again).ok().changed(), 0);
        }
    }
}

#[test]
fn a_reboot_that_nothing_asks_for_is_none() {
    let mut venue = venue();
    let one = file("/etc/one", 1, 0o644);
    add(&venue, &plan(&[("c", vec![one.clone()])]), RebootPolicy::Perform).ok();
    let recipe = plan(&[("c", vec![one, reboot()]), ("d", vec![file("/etc/two", 2, 0o644)])]);
    assert_eq!(shown(&venue, &recipe), [Change::Keep]);
    add(&venue, &recipe, RebootPolicy::Perform).ok();
    venue.boot = boot(2);
    add(&venue, &recipe, RebootPolicy::Perform).ok();
    assert_eq!(asked(&venue), 0);
}

#[test]
fn reboots_with_nothing_between_them_are_one() {
    let (one, two) = (file("/etc/one", 1, 0o644), file("/etc/two", 2, 0o644));
    for (second, times) in [(vec![reboot()], 1), (vec![two, reboot()], 2)] {
        let mut venue = venue();
        let before = venue.tree();
        let recipe = plan(&[("a", vec![one.clone(), reboot()]), ("b", second)]);
        for number in 1..=times {
            let rebooting = add(&venue, &recipe, RebootPolicy::Perform);
            assert_eq!(*rebooting.verdict(), Verdict::Rebooting { boot: boot(number) });
            assert_eq!(rebooting.events.last(), Some(&Event::Rebooting { boot: boot(number) }));
            assert!(!venue.tree().keys().any(|path| path.ends_with("/lock")));
            venue.boot = boot(number + 1);
        }
        add(&venue, &recipe, RebootPolicy::Perform).ok();
        assert_eq!(asked(&venue) as u64, times);
        venue.remove(&[]).ok();
        std::fs::remove_file(venue.path("asked")).unwrap();
        assert_eq!(venue.tree(), before);
    }
}

#[test]
fn what_changes_always_does_not_reboot_for_ever() {
    let mut venue = venue();
    let recipe = plan(&[("c", vec![file("/etc/one", 1, 0o644), reboot()])]);
    add(&venue, &recipe, RebootPolicy::Perform);
    venue.boot = boot(2);
    venue.write("/etc/one", "drifted at boot");
    assert_eq!(add(&venue, &recipe, RebootPolicy::Perform).ok().changed(), 1);
    assert_eq!(asked(&venue), 1);
}

#[test]
fn a_refusal_is_a_failure_and_asked_for_again() {
    let mut venue = venue();
    let recipe = plan(&[("c", vec![file("/etc/one", 1, 0o644), reboot()])]);
    let way =
        venue.reboot.replace(Reboot::new(|| Err(Problem::new("`reboot` ended with status 1").because("not now"))));
    let refused = add(&venue, &recipe, RebootPolicy::Perform);
    let Verdict::Failed(problem) = refused.verdict() else { panic!("{:?}", refused.verdict()) };
    assert_eq!(problem.what, "the venue refused to reboot");
    assert!(problem.because.contains(&"not now".to_owned()), "{problem:?}");
    venue.reboot = way;
    let rebooting = add(&venue, &recipe, RebootPolicy::Perform);
    assert_eq!(*rebooting.verdict(), Verdict::Rebooting { boot: boot(1) });
}

#[test]
fn going_on_without_is_told_once() {
    for policy in [RebootPolicy::Skip, RebootPolicy::Perform] {
        let mut venue = venue();
        venue.reboot = None;
        let recipe = plan(&[
            ("a", vec![file("/etc/one", 1, 0o644), reboot()]),
            ("b", vec![file("/etc/two", 2, 0o644), reboot()]),
        ]);
        let done = add(&venue, &recipe, policy).ok();
        assert_eq!(warnings(&done), ["`a` and `b` ask for a reboot, which is left to you"]);
        assert_eq!(done.changed(), 2);
        assert_eq!(warnings(&add(&venue, &recipe, policy).ok()), <[&str; 0]>::default());
    }
}

#[test]
fn a_cut_before_the_reboot_forgets_none() {
    let recipe = plan(&[("c", vec![file("{{.Home}}/one", 1, 0o644), file("/etc/two", 2, 0o644), reboot()])]);
    for rebooted in [false, true] {
        for records in 0..40 {
            let mut venue = venue();
            let cut = venue.request(request(&recipe, RebootPolicy::Stop), Some(cut_off(records)));
            if matches!(cut.verdict(), Verdict::RebootDue) {
                assert!(records > 5);
                break;
            }
            let all_there = venue.path("/home/ann/one").exists() && venue.path("/etc/two").exists();
            venue.boot = boot(if rebooted { 2 } else { 1 });
            let resumed = add(&venue, &recipe, RebootPolicy::Stop);
            let want = if rebooted && all_there { Verdict::Ok } else { Verdict::RebootDue };
            assert_eq!(*resumed.verdict(), want, "{records} {rebooted}");
            assert!(records < 39, "the run was cut off everywhere");
        }
    }
}
