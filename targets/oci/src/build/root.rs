//! The root of an image as its layers make it: what is where, and who is who in it.

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, PackageManager, User};
use serde::{Deserialize, Serialize};

use super::{Accounts, BuildError};
use crate::layer::{Entry, Layer, Tree};
use crate::store::Store;

/// The root of an image, layer upon layer.
#[derive(Debug)]
pub(super) struct Root<'a> {
    store: &'a Store,
    pub(super) layers: Vec<Layer>,
    /// What is where, once somebody has asked.
    tree: Option<Tree>,
    accounts: Option<Accounts>,
}

/// What compiling for an image depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traits {
    /// The operating system.
    pub os: Os,
    /// What would supervise services.
    pub init: Init,
    /// The package manager.
    pub package_manager: Option<PackageManager>,
    /// Who is who.
    pub accounts: Accounts,
}

impl<'a> Root<'a> {
    pub(super) fn new(store: &'a Store, layers: Vec<Layer>) -> Self {
        Self { store, layers, tree: None, accounts: None }
    }

    /// Lays a layer over those there are. `entries` says what is in it, where that is known already.
    pub(super) fn push(&mut self, layer: Layer, placed: Option<Tree>) -> Result<(), BuildError> {
        self.tree = match (placed, self.tree.take()) {
            (Some(tree), _) => Some(tree),
            (None, Some(mut tree)) => {
                apply(&mut tree, self.store.index_of(&layer.digest)?);
                Some(tree)
            }
            (None, None) => None,
        };
        self.layers.push(layer);
        self.accounts = None;
        Ok(())
    }

    /// Takes the tree, to be changed and given back with the layer that it was changed by.
    pub(super) fn take_tree(&mut self) -> Result<Tree, BuildError> {
        self.tree()?;
        Ok(self.tree.take().unwrap_or_default())
    }

    fn tree(&mut self) -> Result<&Tree, BuildError> {
        if self.tree.is_none() {
            let mut tree = Tree::default();
            for layer in &self.layers {
                apply(&mut tree, self.store.index_of(&layer.digest)?);
            }
            self.tree = Some(tree);
        }
        Ok(self.tree.get_or_insert_default())
    }

    /// Returns who is who.
    pub(super) fn accounts(&mut self) -> Result<Accounts, BuildError> {
        if self.accounts.is_none() {
            let shadow = self.tree()?.get("etc/shadow").map(|entry| (entry.gid, entry.mode));
            let (shadow_group, shadow_mode) = shadow.unwrap_or((0, 0o600));
            self.accounts = Some(Accounts {
                passwd: self.text("/etc/passwd")?,
                group: self.text("/etc/group")?,
                shadow: self.text("/etc/shadow")?,
                shadow_group,
                shadow_mode,
            });
        }
        Ok(self.accounts.clone().unwrap_or_default())
    }

    /// Returns a small text of the root; nothing where there is none.
    fn text(&mut self, path: &str) -> Result<String, BuildError> {
        let real = self.tree()?.resolve(path, true)?;
        if self.tree()?.get(&real).is_none() {
            return Ok(String::new());
        }
        for layer in self.layers.iter().rev() {
            if let Some(bytes) = self.store.small(&layer.digest, &real)? {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(String::new())
    }

    /// Returns what compiling depends on.
    pub(super) fn traits(&mut self) -> Result<Traits, BuildError> {
        let mut os = Os::default();
        for path in Os::FILES {
            let text = self.text(path)?;
            if !text.is_empty() {
                os = Os::parse(&text);
                break;
            }
        }
        let accounts = self.accounts()?;
        let tree = self.tree()?;
        let exists = |path: &str| tree.resolve(path, true).is_ok_and(|real| tree.get(&real).is_some());
        let (init, package_manager) = (Init::offline(exists), PackageManager::find(&os, exists));
        Ok(Traits { os, init, package_manager, accounts })
    }
}

fn apply(tree: &mut Tree, entries: Vec<Entry>) {
    for entry in entries {
        tree.apply(entry);
    }
}

impl Traits {
    /// Returns the facts of a venue that an image would be, for its user.
    pub fn facts(&self, architecture: &str, user: User) -> Facts {
        Facts {
            os: self.os.clone(),
            arch: architecture.to_owned(),
            hostname: "image".into(),
            boot: BootMark::default(),
            init: self.init,
            package_manager: self.package_manager,
            user,
        }
    }
}
