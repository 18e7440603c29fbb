//! The packages of a venue at one moment.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Every package that the manager knows of as installed or left over.
///
/// Packages are keyed by the name that the manager takes: a foreign architecture's carry it, as in `libc6:i386`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackageSet(pub BTreeMap<String, Package>);

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The version, as the manager writes it.
    pub version: String,
    /// The architecture, as the manager writes it.
    pub arch: String,
    /// How much of it is there.
    pub state: State,
    /// Why it is there.
    pub mark: Mark,
    /// The virtual names it stands for.
    pub provides: Vec<String>,
    /// What it depends on: each entry holds the installed packages that satisfy one dependency, the preferred one first.
    pub needs: Vec<Vec<String>>,
}

/// How much of a package is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All of it.
    Installed,
    /// It was removed, its configuration was left (dpkg alone).
    Residual,
    /// A manager was interrupted while it worked on it.
    Broken,
}

/// Why a package is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Somebody asked for it.
    Manual,
    /// Something that was asked for needs it.
    Auto,
}

impl PackageSet {
    /// Returns a package that is there, residual configuration not counted.
    pub fn installed(&self, name: &str) -> Option<&Package> {
        self.0.get(name).filter(|package| package.state != State::Residual)
    }

    /// Returns the names of packages that are there, residual configuration not counted.
    pub fn installed_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, package)| package.state != State::Residual).map(|(name, _)| name.as_str())
    }

    /// Tells whether a package is there by half.
    pub fn is_broken(&self) -> bool {
        self.0.values().any(|package| package.state == State::Broken)
    }

    /// Returns the installed package that a wanted name stands for: the one of that name, or one that provides it.
    pub fn resolve(&self, wanted: &str) -> Option<&str> {
        if let Some((name, _)) = self.0.get_key_value(wanted).filter(|(_, package)| package.state != State::Residual) {
            return Some(name);
        }
        let provides =
            |package: &Package| package.state != State::Residual && package.provides.iter().any(|p| p == wanted);
        self.0.iter().find(|(_, package)| provides(package)).map(|(name, _)| name.as_str())
    }

    /// Returns these packages and all that they could have a use for: every alternative of every dependency.
    pub fn reach<'a>(&'a self, roots: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<&str> = roots.into_iter().collect();
        while let Some(name) = todo.pop() {
            if let Some(package) = self.installed(name).filter(|_| reached.insert(name)) {
                todo.extend(package.needs.iter().flatten().map(String::as_str));
            }
        }
        reached
    }

    /// Returns these packages and what must be there for them, directly or not.
    ///
    /// Of several that satisfy one dependency, those reached anyway count first, then one that `settled` holds, then the
    /// preferred one: so that no more is held than must be.
    pub fn hold<'a>(
        &'a self,
        roots: impl IntoIterator<Item = &'a str>,
        settled: impl Fn(&str) -> bool,
    ) -> BTreeSet<&'a str> {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut todo: Vec<&str> = roots.into_iter().collect();
        let mut open: Vec<&[String]> = Vec::new();
        loop {
            while let Some(name) = todo.pop() {
                let Some(package) = self.installed(name) else { continue };
                if !reached.insert(name) {
                    continue;
                }
                for need in &package.needs {
                    match need.as_slice() {
                        [] => {}
                        [only] => todo.push(only),
                        several => open.push(several),
                    }
                }
            }
            // Choices wait until everything certain was reached; each choice may settle later ones.
            let Some(several) = open.pop() else { return reached };
            if !several.iter().any(|name| reached.contains(name.as_str())) {
                todo.extend(several.iter().find(|name| settled(name)).or_else(|| several.first()).map(String::as_str));
            }
        }
    }
}

/// Capabilities and who provides them, gathered while an answer is read and used to resolve dependencies.
#[derive(Debug, Default)]
pub(super) struct Providers<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Providers<'a> {
    /// Notes that an installed package provides a capability, its own name included.
    pub(super) fn add(&mut self, capability: &'a str, package: &'a str) {
        let packages = self.0.entry(capability).or_default();
        if !packages.contains(&package) {
            packages.push(package);
        }
    }

    /// Returns who satisfies a dependency whose alternatives are given, itself excluded. `None`: nothing has to be held for
    /// it, since nobody does or the package does by itself.
    pub(super) fn resolve(&self, alternatives: impl IntoIterator<Item = &'a str>, by: &str) -> Option<Vec<String>> {
        let mut out: Vec<String> = Vec::new();
        for capability in alternatives {
            for &package in self.0.get(capability).into_iter().flatten() {
                if package == by {
                    return None;
                }
                if !out.iter().any(|have| have == package) {
                    out.push(package.to_owned());
                }
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(packages: &[(&str, &[&[&str]])]) -> PackageSet {
        let package = |needs: &[&[&str]]| Package {
            version: "1".into(),
            arch: "all".into(),
            state: State::Installed,
            mark: Mark::Auto,
            provides: vec![],
            needs: needs.iter().map(|need| need.iter().map(ToString::to_string).collect()).collect(),
        };
        PackageSet(packages.iter().map(|(name, needs)| ((*name).to_owned(), package(needs))).collect())
    }

    #[test]
    fn a_choice_prefers_what_is_held_anyway() {
        let set = set(&[("a", &[&["x", "y"]]), ("b", &[&["y"]]), ("x", &[]), ("y", &[]), ("z", &[&["x", "y"]])]);
        let hold = |roots: &[&'static str], settled: &str| {
            set.hold(roots.iter().copied(), |name| name == settled).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(hold(&["a", "b"], ""), ["a", "b", "y"]);
        assert_eq!(hold(&["a"], ""), ["a", "x"]);
        assert_eq!(hold(&["a"], "y"), ["a", "y"]);
        assert_eq!(hold(&["a", "z"], ""), ["a", "x", "z"]);
        assert_eq!(set.reach(["a"]).into_iter().collect::<Vec<_>>(), ["a", "x", "y"]);
    }

    #[test]
    fn a_package_that_provides_what_it_needs_needs_nobody() {
        let mut providers = Providers::default();
        providers.add("mta", "exim");
        providers.add("mta", "postfix");
        providers.add("postfix", "postfix");
        assert_eq!(providers.resolve(["mta"], "exim"), None);
        assert_eq!(providers.resolve(["none"], "mutt"), None);
        assert_eq!(providers.resolve(["postfix", "mta"], "mutt"), Some(vec!["postfix".into(), "exim".into()]));
    }
}
