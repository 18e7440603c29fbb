//! Laws that hold for all candies.

use proptest::prelude::*;

use charly_ir::plan::Step;

use crate::kit::{Venueish, dir, file, link, plan};

/// Few names, so that candies meet each other and what was there before.
fn step() -> impl Strategy<Value = Step> {
    let base = prop::sample::select(vec!["/opt", "/etc", "{{.Home}}"]);
    let below = prop::sample::select(vec!["a", "b", "a/b", "b/a/c", "d/e"]);
    let path = (base, below).prop_map(|(base, below)| format!("{base}/{below}"));
    let mode = prop::sample::select(vec![0o644, 0o600, 0o755]);
    prop_oneof![
        (path.clone(), 0_u8..4, mode).prop_map(|(path, content, mode)| file(&format!("{path}.f"), content, mode)),
        (path.clone(), prop::sample::select(vec![0o755, 0o700])).prop_map(|(path, mode)| dir(&path, mode)),
        path.prop_map(|path| link(&format!("{path}.l"), "target")),
    ]
}

/// Steps without two that want the same path.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..8).prop_map(|mut steps| {
        let mut seen = std::collections::BTreeSet::new();
        steps.retain(|step| seen.insert(step.id.clone()));
        steps
    })
}

/// Files and folders that are there before.
fn furnish(venue: &Venueish, files: &[String]) {
    for path in files {
        let path = venue.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "before").unwrap();
    }
}

fn before() -> impl Strategy<Value = Vec<String>> {
    let paths = vec!["opt/a.f", "etc/b.f", "home/ann/a/b.f", "opt/b/a/c.f", "home/ann/d/x"];
    prop::collection::vec(prop::sample::select(paths).prop_map(str::to_owned), 0..4)
}

/// Drops from the second what the first already places otherwise: two candies may not disagree.
fn agreeing(first: &[Step], second: Vec<Step>) -> Vec<Step> {
    second.into_iter().filter(|step| first.iter().all(|other| other.id != step.id || other == step)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn add_then_del_is_nothing(files in before(), steps in steps()) {
        let venue = Venueish::new();
        furnish(&venue, &files);
        let tree = venue.tree();
        venue.apply(&plan(&[("a", steps)])).ok();
        let done = venue.remove(&[]);
        if done.kept().is_empty() {
            prop_assert_eq!(venue.tree(), tree);
        } else {
            prop_assert!(false, "{:?}", done.kept());
        }
    }

    #[test]
    fn add_a_add_b_del_a_is_add_b(files in before(), a in steps(), b in steps()) {
        let b = agreeing(&a, b);
        let (venue, other) = (Venueish::new(), Venueish::new());
        furnish(&venue, &files);
        furnish(&other, &files);
        let tree = venue.tree();
        venue.apply(&plan(&[("a", a.clone())])).ok();
        venue.apply(&plan(&[("a", a), ("b", b.clone())])).ok();
        venue.remove(&["a"]).ok();
        other.apply(&plan(&[("b", b)])).ok();
        prop_assert_eq!(venue.tree_without_ledger(), other.tree_without_ledger());
        venue.remove(&[]).ok();
        prop_assert_eq!(venue.tree(), tree);
    }

    #[test]
    fn cut_off_anywhere_and_resumed_is_undisturbed(files in before(), steps in steps(), records in 0_usize..60) {
        let (venue, other) = (Venueish::new(), Venueish::new());
        furnish(&venue, &files);
        furnish(&other, &files);
        let tree = venue.tree();
        let plan = plan(&[("a", steps)]);
        venue.apply_until(&plan, records);
        venue.apply(&plan).ok();
        other.apply(&plan).ok();
        prop_assert_eq!(venue.tree_without_ledger(), other.tree_without_ledger());
        venue.remove_until(records / 2);
        if venue.path("home/ann/.config/opencharly").exists() {
            venue.remove(&[]).ok();
        }
        prop_assert_eq!(venue.tree(), tree);
    }
}
