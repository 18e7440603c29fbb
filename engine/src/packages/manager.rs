//! What every package manager can do for the engine.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

use super::apk::Apk;
use super::apt::Apt;
use super::dnf::Dnf;
use super::error::PackageError;
use super::pacman::Pacman;
use super::runner::{Runner, Sink};
use super::set::{Mark, PackageSet};
use super::simulation::Simulation;

/// A package manager of one root.
///
/// Implementations translate: they run a program and read its answer. What follows for the venue is decided elsewhere, in
/// functions that run nothing.
pub trait Manager: fmt::Debug {
    /// Returns which manager it is.
    fn kind(&self) -> PackageManager;

    /// Returns what is there now.
    fn snapshot(&mut self) -> Result<PackageSet, PackageError>;

    /// Returns what installing packages would do, by the indexes as they are. `names` are those of the request that are not
    /// there yet.
    fn simulate_install(&mut self, request: &Packages, names: &[&str]) -> Result<Simulation, PackageError>;

    /// Installs packages. Never removes one.
    fn install(&mut self, request: &Packages, names: &[&str], sink: Sink<'_>) -> Result<(), PackageError>;

    /// Returns everything that would go if these packages were removed, themselves included.
    fn simulate_remove(&mut self, names: &[&str]) -> Result<BTreeSet<String>, PackageError>;

    /// Removes packages: those of `purge` with their configuration, those of `keep` without. Never removes another one.
    fn remove(&mut self, purge: &[&str], keep: &[&str], sink: Sink<'_>) -> Result<(), PackageError>;

    /// Sets why packages are there.
    fn set_mark(&mut self, mark: Mark, names: &[&str]) -> Result<(), PackageError>;

    /// Fetches the indexes anew.
    fn refresh(&mut self, sink: Sink<'_>) -> Result<(), PackageError>;

    /// Returns whether the indexes were fetched in this run, to be read and set.
    fn fresh(&mut self) -> &mut bool;

    /// Tells whether the indexes were fetched in this run.
    fn is_fresh(&mut self) -> bool {
        *self.fresh()
    }

    /// Takes the indexes for old, as after a repository changed.
    fn mark_stale(&mut self) {
        *self.fresh() = false;
    }

    /// Tells whether the manager was killed at its work, where the packages' states do not show it.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Ends what an interrupted manager began.
    fn repair(&mut self, sink: Sink<'_>) -> Result<(), PackageError>;

    /// Returns the configuration files of packages that differ from what the packages brought.
    fn edited(&mut self, names: &[&str]) -> Result<Vec<PathBuf>, PackageError>;

    /// Returns which of these paths, relative to the root, belong to an installed package.
    fn owned(&mut self, paths: &[&Path]) -> Result<BTreeSet<PathBuf>, PackageError>;

    /// Returns the files of installed packages, relative to the root.
    fn files(&mut self, names: &[&str]) -> Result<BTreeSet<PathBuf>, PackageError>;

    /// Returns what an installed package's scripts and its declarations of users and folders say, as text.
    fn scripts(&mut self, name: &str) -> Result<String, PackageError>;

    /// Deletes a user, its home left, or a group.
    fn delete_account(&mut self, account: Account<'_>) -> Result<(), PackageError>;

    /// Returns the packages that the repositories have whose names begin like this; empty where that cannot be told.
    fn available(&mut self, prefix: &str) -> Result<Vec<String>, PackageError>;
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account<'a> {
    /// A user, by name.
    User(&'a str),
    /// A group, by name.
    Group(&'a str),
}

/// Opens the manager of a root.
pub fn open(kind: PackageManager, root: &Path, runner: Box<dyn Runner>) -> Box<dyn Manager> {
    match kind {
        PackageManager::Apt => Box::new(Apt::new(root, runner)),
        PackageManager::Dnf => Box::new(Dnf::new(root, runner)),
        PackageManager::Pacman => Box::new(Pacman::new(root, runner)),
        PackageManager::Apk => Box::new(Apk::new(root, runner)),
    }
}
