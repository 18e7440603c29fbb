//! Identities that were unlocked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::PrivateKey;

/// Identities that were unlocked, so that a passphrase is asked for once, however often and to however many machines somebody connects.
#[derive(Clone, Default)]
pub struct Unlocked(Arc<Mutex<BTreeMap<PathBuf, PrivateKey>>>);

impl Unlocked {
    /// Returns the key of a file, unlocked now if it was not before. One is unlocked at a time: there is one person to ask.
    pub(super) fn key(&self, path: &Path, unlock: impl FnOnce() -> Option<PrivateKey>) -> Option<PrivateKey> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(path) {
            return Some(key.clone());
        }
        let key = unlock()?;
        keys.insert(path.to_owned(), key.clone());
        Some(key)
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(keys.keys()).finish()
    }
}
