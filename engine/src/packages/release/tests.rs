//! The laws of release, on a model of a package universe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;
use proptest::prelude::*;

use super::*;
use crate::packages::set::Package;
use crate::packages::simulation::Simulation;
use crate::packages::transaction::Before;

const NAMES: [&str; 8] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];

/// What every package of the universe depends on: clauses of alternatives, all on packages of higher numbers.
type Universe = Vec<Vec<Vec<usize>>>;

/// A venue: its packages by number, with state and mark.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Venue {
    universe: Universe,
    packages: BTreeMap<usize, (State, Mark)>,
}

impl Venue {
    fn is_installed(&self, number: usize) -> bool {
        self.packages.get(&number).is_some_and(|(state, _)| *state == State::Installed)
    }

    /// Installs as managers do: what is missing of each dependency, the preferred alternative; what is named becomes manual.
    fn install(&mut self, names: &[usize]) {
        let mut todo = names.to_vec();
        while let Some(number) = todo.pop() {
            if !self.is_installed(number) {
                self.packages.insert(number, (State::Installed, Mark::Auto));
            }
            for clause in &self.universe[number].clone() {
                if !clause.iter().any(|other| self.is_installed(*other)) {
                    todo.push(clause[0]);
                    self.packages.insert(clause[0], (State::Installed, Mark::Auto));
                }
            }
        }
        for number in names {
            self.packages.insert(*number, (State::Installed, Mark::Manual));
        }
    }

    fn snapshot(&self) -> PackageSet {
        let package = |(number, (state, mark)): (&usize, &(State, Mark))| {
            let satisfied = |clause: &Vec<usize>| -> Vec<String> {
                clause.iter().filter(|other| self.is_installed(**other)).map(|other| NAMES[*other].to_owned()).collect()
            };
            let package = Package {
                version: "1".into(),
                arch: "all".into(),
                state: *state,
                mark: *mark,
                provides: vec![],
                needs: self.universe[*number].iter().map(satisfied).collect(),
            };
            (NAMES[*number].to_owned(), package)
        };
        PackageSet(self.packages.iter().map(package).collect())
    }

    /// Makes a claim, by the same code as the engine's.
    fn add(&mut self, names: &[usize]) -> Transaction {
        let request = Packages {
            manager: PackageManager::Apt,
            install: names.iter().map(|number| NAMES[*number].to_owned()).collect(),
            exclude: vec![],
            options: vec![],
            modules: vec![],
            files: vec![],
        };
        let now = self.snapshot();
        let mut later = self.clone();
        later.install(names);
        let then = later.snapshot();
        let came = then.installed_names().filter(|name| now.installed(name).is_none());
        let installs = came.map(|name| (name.to_owned(), "1".to_owned())).collect();
        let simulation = Simulation { installs, ..Simulation::default() };
        // A root without files: the paths are another law's.
        let before = Before::take(Path::new("/nonexistent"), &request, &now, &simulation).unwrap();
        *self = later;
        before.packages(&then)
    }

    /// Ends a claim beside others, which inherit.
    fn release(&mut self, tx: &Transaction, others: &mut [&mut Transaction]) -> ReleasePlan {
        let plan = plan_release(tx, &others.iter().map(|other| &**other).collect::<Vec<_>>(), &self.snapshot());
        for name in plan.purge.iter().chain(&plan.remove) {
            let number = NAMES.iter().position(|other| other == name).unwrap();
            if plan.remove.contains(name) {
                self.packages.insert(number, (State::Residual, Mark::Manual));
            } else {
                self.packages.remove(&number);
            }
        }
        for (name, mark) in &plan.marks {
            self.packages.get_mut(&NAMES.iter().position(|other| other == name).unwrap()).unwrap().1 = *mark;
        }
        for (place, other) in others.iter_mut().enumerate() {
            other.inherit(tx, &plan.transfers, place);
        }
        plan
    }

    fn is_sound(&self) -> bool {
        let holds = |number: &usize| {
            self.universe[*number].iter().all(|clause| clause.iter().any(|other| self.is_installed(*other)))
        };
        self.packages.keys().filter(|number| self.is_installed(**number)).all(holds)
    }
}

fn universe(alternatives: usize) -> impl Strategy<Value = Universe> {
    let package = move |number: usize| {
        let above = number + 1..NAMES.len();
        if above.is_empty() {
            return Just(vec![]).boxed();
        }
        let clause =
            prop::collection::btree_set(above, 1..=alternatives).prop_map(|clause| clause.into_iter().collect());
        prop::collection::vec(clause, 0..3).boxed()
    };
    (0..NAMES.len()).map(package).collect::<Vec<_>>()
}

fn names() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(0..NAMES.len(), 1..4).prop_map(|names| names.into_iter().collect())
}

/// A venue with something installed, some of it unneeded, and leftovers of former packages.
fn venue(alternatives: usize) -> impl Strategy<Value = Venue> {
    let residual = prop::collection::btree_set(0..NAMES.len(), 0..3);
    let orphans = prop::collection::btree_set(0..NAMES.len(), 0..2);
    (universe(alternatives), prop::collection::btree_set(0..NAMES.len(), 0..3), residual, orphans).prop_map(
        |(universe, manual, residual, orphans)| {
            let packages = residual.into_iter().map(|number| (number, (State::Residual, Mark::Manual))).collect();
            let mut venue = Venue { universe, packages };
            venue.install(&orphans.iter().copied().collect::<Vec<_>>());
            for (_, mark) in venue.packages.values_mut().filter(|(state, _)| *state == State::Installed) {
                *mark = Mark::Auto;
            }
            venue.install(&manual.into_iter().collect::<Vec<_>>());
            venue
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn add_then_release_is_the_identity(before in venue(3), a in names()) {
        let mut venue = before.clone();
        let tx = venue.add(&a);
        venue.release(&tx, &mut []);
        prop_assert_eq!(venue, before);
    }

    #[test]
    fn releasing_the_first_of_two_leaves_the_second(before in venue(1), a in names(), b in names()) {
        let mut both = before.clone();
        let first = both.add(&a);
        let mut second = both.add(&b);
        both.release(&first, &mut [&mut second]);
        let mut alone = before;
        let only = alone.add(&b);
        prop_assert_eq!(both, alone);
        prop_assert_eq!(second, only);
    }

    #[test]
    fn claims_end_in_any_order(
        before in venue(3),
        claims in prop::collection::vec(names(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 5),
    ) {
        let mut venue = before.clone();
        let mut transactions: Vec<Transaction> = claims.iter().map(|names| venue.add(names)).collect();
        for index in order {
            if transactions.is_empty() {
                break;
            }
            let tx = transactions.remove(index.index(transactions.len()));
            venue.release(&tx, &mut transactions.iter_mut().collect::<Vec<_>>());
            prop_assert!(venue.is_sound());
            for claim in &transactions {
                prop_assert!(claim.wanted.iter().all(|name| venue.snapshot().installed(name).is_some()));
            }
        }
        prop_assert_eq!(venue, before);
    }

    #[test]
    fn what_people_install_meanwhile_stays_and_works(before in venue(3), a in names(), b in names(), by_hand in names()) {
        let mut venue = before;
        let first = venue.add(&a);
        venue.install(&by_hand);
        let mut second = venue.add(&b);
        venue.release(&first, &mut [&mut second]);
        venue.release(&second, &mut []);
        prop_assert!(venue.is_sound());
        let claimed: BTreeSet<usize> = a.into_iter().chain(b).collect();
        // What a claim has asked for too cannot be told from what people did.
        for number in by_hand.iter().filter(|number| !claimed.contains(number)) {
            prop_assert!(venue.is_installed(*number));
        }
    }
}

#[test]
fn a_plan_says_why_things_stay() {
    // p0 needs p2, p1 needs p2.
    let universe = vec![vec![vec![2]], vec![vec![2]], vec![], vec![], vec![], vec![], vec![], vec![]];
    let mut venue = Venue { universe, packages: BTreeMap::new() };
    let tx = venue.add(&[0, 3]);
    venue.install(&[1]);
    venue.packages.insert(3, (State::Residual, Mark::Manual));
    let plan = plan_release(&tx, &[], &venue.snapshot());
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(plan.purge, names(&["p0", "p3"]));
    assert_eq!(plan.needed, names(&["p2"]));
    venue.install(&[2]);
    let plan = plan_release(&tx, &[], &venue.snapshot());
    assert_eq!((plan.needed, plan.asked_for), (names(&[]), names(&["p2"])));
}
