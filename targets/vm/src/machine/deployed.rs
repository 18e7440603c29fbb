//! What a machine's state remembers of the deploys on it: what they say of the machine, and what was added by hand.

use std::collections::BTreeMap;

use charly_ir::message::Layer;
use serde::{Deserialize, Serialize};

use super::life::now;
use super::state::Lock;
use super::{MachineError, Machines, Name};

/// What is remembered of the deploys on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployed {
    /// What they say of the machine.
    pub disposition: Disposition,
    /// What each of them holds, by its name.
    pub deploys: BTreeMap<String, Held>,
}

/// What a deploy holds beyond what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The layers that were added by hand. The ledger knows them too, but it goes where the disk goes.
    pub layers: Vec<Layer>,
    /// Whether the last add failed.
    pub failed: bool,
}

impl Held {
    /// Returns what its layers are asked for by.
    pub fn references(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.reference.clone()).collect()
    }
}

/// What a deploy says of the machine it is on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disposition {
    /// Whether the machine may be thrown away, with its disk, without asking.
    pub disposable: bool,
    /// Set where it lives for a while only.
    pub ephemeral: Option<Ephemeral>,
}

/// What is said of a machine that lives for a while only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// How long, in seconds from when its disk was made; until somebody ends it where nothing is said.
    pub ttl: Option<u64>,
    /// Whether it stays where the last add failed, for somebody to look at.
    pub keep_on_failure: bool,
}

impl Disposition {
    /// Tells whether the machine may be thrown away without asking.
    pub fn may_go(&self) -> bool {
        self.disposable || self.ephemeral.is_some()
    }

    /// Returns what two say of one machine: it goes only where, and only when, both let it.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let ephemeral = self.ephemeral.as_ref().zip(other.ephemeral.as_ref()).map(|(one, other)| Ephemeral {
            ttl: one.ttl.zip(other.ttl).map(|(one, other)| one.max(other)),
            keep_on_failure: one.keep_on_failure || other.keep_on_failure,
        });
        Self { disposable: self.may_go() && other.may_go(), ephemeral }
    }
}

/// What became of a machine whose time may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reaped {
    /// It is left alone: nothing says that its time is over.
    Alive,
    /// Its time is over, and it stays for somebody to see what failed.
    Kept,
    /// It is gone, with its disk.
    Ended,
}

impl Machines {
    /// Remembers something of the deploy on a machine; fine where the machine is gone.
    pub fn remember(&self, name: &Name, change: impl FnOnce(&mut Deployed)) -> Result<(), MachineError> {
        let lock = Lock::wait(&self.settings.folder, name)?;
        let Some(mut state) = super::State::load(&self.settings.folder, name)? else { return Ok(()) };
        let before = state.deployed.clone();
        change(&mut state.deployed);
        if state.deployed == before { Ok(()) } else { state.save(&self.settings.folder, &lock) }
    }

    /// Ends a machine that has outlived what its deploy says, with its disk. What is `declared` now can only keep it: the folder at hand
    /// may be another project's, to which it is a stranger of the same name. With `look` it only tells.
    pub fn reap(&self, name: &Name, declared: Option<&Disposition>, look: bool) -> Result<Reaped, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let state = self.get(name)?;
        let remembered = &state.deployed.disposition;
        let said = declared.map_or_else(|| remembered.clone(), |declared| remembered.and(declared));
        let Some(Ephemeral { ttl: Some(ttl), keep_on_failure }) = said.ephemeral else {
            return Ok(Reaped::Alive);
        };
        // A machine whose making is under way has not lived yet.
        if state.born.is_none_or(|born| now() < born.saturating_add(ttl)) {
            return Ok(Reaped::Alive);
        }
        if keep_on_failure && state.deployed.deploys.values().any(|held| held.failed) {
            return Ok(Reaped::Kept);
        }
        if !look {
            self.destroyed(name, true, &lock)?;
        }
        Ok(Reaped::Ended)
    }
}
