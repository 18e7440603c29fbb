//! What a manager says it would do.

use std::collections::BTreeMap;

use charly_ir::message::{Change, Detail};
use serde::{Deserialize, Serialize};

use super::error::{Fault, PackageError};

/// What installing some packages would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Simulation {
    /// Packages that come, with their versions.
    pub installs: BTreeMap<String, String>,
    /// Packages that get newer, with the version they have and the one they get.
    pub upgrades: BTreeMap<String, (String, String)>,
    /// Packages that would go, with their versions.
    pub removals: BTreeMap<String, String>,
    /// Packages that would get older, with the version they have and the one they would get.
    pub downgrades: BTreeMap<String, (String, String)>,
}

impl Simulation {
    /// Tells whether everything asked for is there.
    pub fn is_empty(&self) -> bool {
        let Self { installs, upgrades, removals, downgrades } = self;
        installs.is_empty() && upgrades.is_empty() && removals.is_empty() && downgrades.is_empty()
    }

    /// Refuses what could not be undone by removing what was installed: packages that would go or get older, and packages
    /// that the candy excludes.
    pub fn check(&self, exclude: &[String]) -> Result<(), PackageError> {
        if !self.removals.is_empty() {
            return Err(PackageError::new(Fault::WouldRemove(self.removals.keys().cloned().collect())));
        }
        if !self.downgrades.is_empty() {
            return Err(PackageError::new(Fault::WouldDowngrade(self.downgrades.keys().cloned().collect())));
        }
        let excluded: Vec<_> = exclude.iter().filter(|name| self.installs.contains_key(*name)).cloned().collect();
        if !excluded.is_empty() {
            return Err(PackageError::new(Fault::NeedsExcluded(excluded)));
        }
        Ok(())
    }

    /// Returns the simulation for the plan view.
    pub fn details(&self) -> Vec<Detail> {
        let detail = |change, subject, note: Option<&str>| Detail {
            change,
            what: "package".into(),
            subject,
            note: note.map(str::to_owned),
        };
        let installs =
            self.installs.iter().map(|(name, version)| detail(Change::Add, format!("{name} {version}"), None));
        let upgrades = self.upgrades.iter().map(|(name, (old, new))| {
            detail(Change::Change, format!("{name} {old} → {new}"), Some("an upgrade cannot be undone"))
        });
        let removals = self.removals.iter().map(|(name, version)| {
            detail(Change::Remove, format!("{name} {version}"), Some("refused: it would have to go"))
        });
        let downgrades = self.downgrades.iter().map(|(name, (old, new))| {
            detail(Change::Change, format!("{name} {old} → {new}"), Some("refused: it would get older"))
        });
        installs.chain(upgrades).chain(removals).chain(downgrades).collect()
    }
}
