//! The ledger's resource: what there was before an installation, and what the installation made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use charly_ir::digest::Digest;
use charly_ir::message::Kept;
use charly_ir::plan::Packages;
use serde::{Deserialize, Serialize};

use super::accounts::Accounts;
use super::error::{Fault, PackageError};
use super::manager::Manager;
use super::request;
use super::set::{Mark, PackageSet, State};
use super::simulation::Simulation;
use super::teardown::has_word;
use super::tree::{self, Gap, Listing};

/// What there was before an installation; to be journaled before its effect.
///
/// It holds what tells later, however much later, what the installation made: all names of packages, but details of those
/// alone that it touches; and the names below the folders that packages write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// The names asked for.
    wanted: Vec<String>,
    /// The packages that the simulation brings.
    expected: BTreeSet<String>,
    /// The packages that were there, in one string: the JSON of a list is half as long again.
    installed: String,
    /// The packages of which configuration was left.
    residual: BTreeSet<String>,
    /// Those asked for that were there only because something needs them.
    auto: BTreeSet<String>,
    /// The versions of those that the simulation upgrades.
    versions: BTreeMap<String, String>,
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    paths: Listing,
    /// When nobody installed, between an interruption and its recovery.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Gap>,
}

/// What an installation made, and on whose wish: a claim's share of the venue's packages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// The packages that the claim wants.
    pub wanted: BTreeSet<String>,
    /// The packages that came and that this claim answers for.
    pub installed: BTreeMap<String, Installed>,
    /// Packages that got newer: the version before and the one after. They stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upgraded: BTreeMap<String, (String, String)>,
    /// Packages that had been there because something needs them, and now count as asked for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub marked: BTreeSet<String>,
    /// System users that came.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<String>,
    /// System groups that came.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// The topmost paths that came, relative to the root, with a digest of what no package owns in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<PathBuf, Digest>,
    /// Paths below `/etc` that had been there and that scripts of the packages that came name: they might delete them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub endangered: BTreeSet<PathBuf>,
    /// What its release left for a purge to take; not empty once it was released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Kept>,
}

/// A package that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its version.
    pub version: String,
    /// Why it is there, by the manager's books at the end of the installation.
    pub mark: Mark,
    /// Whether configuration of a former installation had been left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_residual: bool,
}

impl Transaction {
    /// Tells whether it was released already, but for data.
    pub fn is_remainder(&self) -> bool {
        !self.left.is_empty()
    }

    /// Takes over all that a former transaction of the same step answers for.
    pub fn absorb(&mut self, former: &Self, manager: &mut dyn Manager) -> Result<(), PackageError> {
        // What the former's packages left was there when this began, but is theirs and not to be held dear.
        let names = self.installed.keys().filter(|name| former.installed.contains_key(*name));
        let theirs = manager.files(&names.map(String::as_str).collect::<Vec<_>>())?;
        let is_former = |path: &Path| path.ancestors().any(|above| former.paths.contains_key(above));
        self.endangered.retain(|path| !theirs.contains(path) && !is_former(path));
        let Self { wanted, installed, upgraded, marked, users, groups, paths, endangered, left: _ } = former;
        for (name, package) in installed {
            let mine = self.installed.entry(name.clone()).or_insert_with(|| package.clone());
            // What is left of a package now was not there before the former transaction.
            mine.was_residual = package.was_residual;
        }
        for (name, (old, new)) in upgraded {
            let mine = self.upgraded.entry(name.clone()).or_insert_with(|| (old.clone(), new.clone()));
            mine.0.clone_from(old);
        }
        for (path, digest) in paths {
            self.paths.entry(path.clone()).or_insert(*digest);
        }
        self.wanted.extend(wanted.iter().cloned());
        self.marked.extend(marked.iter().cloned());
        self.users.extend(users.iter().cloned());
        self.groups.extend(groups.iter().cloned());
        self.endangered.extend(endangered.iter().cloned());
        Ok(())
    }
}

impl Before {
    /// Notes what there is, before a simulated installation becomes real.
    pub fn take(
        root: &Path,
        request: &Packages,
        now: &PackageSet,
        simulation: &Simulation,
    ) -> Result<Self, PackageError> {
        let Accounts { users, groups, .. } = Accounts::read(root).map_err(|error| at("/etc/passwd", error))?;
        let paths = Listing::take(root).map_err(|error| at("/etc and /var", error))?;
        let versions = simulation.upgrades.iter().map(|(name, (old, _))| (name.clone(), old.clone()));
        Ok(Self {
            wanted: request.install.clone(),
            expected: simulation.installs.keys().cloned().collect(),
            installed: now.installed_names().collect::<Vec<_>>().join(" "),
            residual: now.0.iter().filter(|(_, p)| p.state == State::Residual).map(|(name, _)| name.clone()).collect(),
            auto: request::unmarked(request, now).into_iter().map(str::to_owned).collect(),
            versions: versions.collect(),
            users: users.into_keys().collect(),
            groups: groups.into_keys().collect(),
            paths,
            gaps: Vec::new(),
        })
    }

    /// Notes that between two moments, in seconds since 1970, nobody worked on the installation: what appeared then is
    /// somebody else's. A recovery calls this with the time of the last trace of the interrupted run and its own.
    pub fn note_gap(&mut self, from_s: u64, to_s: u64) {
        self.gaps.push(Gap { from_s, to_s });
    }

    /// Tells what the installation made, at any time after it.
    pub fn finish(
        &self,
        manager: &mut dyn Manager,
        root: &Path,
        now: &PackageSet,
    ) -> Result<Transaction, PackageError> {
        let mut out = self.packages(now);
        let names: Vec<String> = out.installed.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let owned = manager.files(&names)?;
        let accounts = Accounts::read(root).map_err(|error| at("/etc/passwd", error))?;
        out.users = accounts.users.into_keys().filter(|name| !self.users.contains(name)).collect();
        out.groups = accounts.groups.into_keys().filter(|name| !self.groups.contains(name)).collect();
        for path in self.paths.created(root, &self.gaps).map_err(|error| at("/etc and /var", error))? {
            // A file that a package owns goes with it; a folder may come to hold more than the package put there.
            if owned.contains(&path) && !root.join(&path).is_dir() {
                continue;
            }
            let digest = tree::fingerprint(root, &path, |path| owned.contains(path))
                .map_err(|error| at(&path.display().to_string(), error))?;
            out.paths.insert(path, digest);
        }
        let mut scripts = String::new();
        for name in &names {
            scripts.push_str(&manager.scripts(name)?);
        }
        let named = |path: &PathBuf| path.starts_with("etc") && has_word(&scripts, &format!("/{}", path.display()));
        let is_file = |path: &PathBuf| root.join(path).symlink_metadata().is_ok_and(|meta| !meta.is_dir());
        out.endangered = self.paths.paths().into_iter().filter(|path| named(path) && is_file(path)).collect();
        Ok(out)
    }

    /// Tells what became of the packages. A package that came is this installation's if the simulation had it or if what was
    /// asked for needs it: others may have installed something too, above all where this is found out only after a crash.
    pub(super) fn packages(&self, now: &PackageSet) -> Transaction {
        let before: BTreeSet<&str> = self.installed.split(' ').collect();
        let by_name: BTreeSet<String> =
            self.wanted.iter().filter_map(|name| now.resolve(name.split('=').next()?)).map(str::to_owned).collect();
        let needed = now.reach(by_name.iter().map(String::as_str));
        let came = |name: &str| !before.contains(name) && (self.expected.contains(name) || needed.contains(name));
        let mut wanted = by_name.clone();
        let mut installed = BTreeMap::new();
        for name in now.installed_names().filter(|name| came(name)) {
            let package = &now.0[name];
            let was_residual = self.residual.contains(name);
            installed.insert(
                name.to_owned(),
                Installed { version: package.version.clone(), mark: package.mark, was_residual },
            );
            // A group or a URL was asked for by another name; the manager's mark tells what it stood for.
            if package.mark == Mark::Manual && self.expected.contains(name) {
                wanted.insert(name.to_owned());
            }
        }
        let upgraded = self.versions.iter().filter_map(|(name, old)| {
            let new = &now.installed(name)?.version;
            (new != old).then(|| (name.clone(), (old.clone(), new.clone())))
        });
        let is_manual = |name: &&String| now.installed(name).is_some_and(|package| package.mark == Mark::Manual);
        Transaction {
            upgraded: upgraded.collect(),
            marked: self.auto.iter().filter(is_manual).cloned().collect(),
            wanted,
            installed,
            ..Transaction::default()
        }
    }
}

fn at(path: &str, error: io::Error) -> PackageError {
    PackageError::new(Fault::Path(path.to_owned(), error))
}
