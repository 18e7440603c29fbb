//! Names of kinds of targets, and their factories.

use std::collections::BTreeMap;
use std::fmt;

use crate::BoxError;
use crate::target::DeployTarget;

/// Makes a target of one kind: from its name and its declaration, as the project file has it.
pub type Factory = Box<dyn Fn(&str, &serde_json::Value) -> Result<Box<dyn DeployTarget>, BoxError> + Send + Sync>;

/// Maps kinds of targets to what makes them.
#[derive(Default)]
pub struct Registry(BTreeMap<&'static str, Factory>);

/// Why no target could be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody makes this kind.
    #[error("no target of kind `{kind}` is known; there {}", these(.known))]
    UnknownKind {
        /// The kind asked for.
        kind: String,
        /// Those that are known.
        known: Vec<&'static str>,
    },
    /// Its factory refused.
    #[error("the target `{name}` cannot be made")]
    Factory {
        /// The target's name.
        name: String,
        /// Why.
        source: BoxError,
    },
}

impl Registry {
    /// Adds a kind. A kind added before under the same name is replaced.
    pub fn add(
        &mut self,
        kind: &'static str,
        factory: impl Fn(&str, &serde_json::Value) -> Result<Box<dyn DeployTarget>, BoxError> + Send + Sync + 'static,
    ) {
        self.0.insert(kind, Box::new(factory));
    }

    /// Returns the kinds, in order of their names.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Makes a target.
    pub fn make(
        &self,
        kind: &str,
        name: &str,
        declaration: &serde_json::Value,
    ) -> Result<Box<dyn DeployTarget>, RegistryError> {
        let factory = self.0.get(kind);
        let factory = factory
            .ok_or_else(|| RegistryError::UnknownKind { kind: kind.to_owned(), known: self.kinds().collect() })?;
        factory(name, declaration).map_err(|source| RegistryError::Factory { name: name.to_owned(), source })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

fn these(kinds: &[&str]) -> String {
    match kinds {
        [] => "is none".to_owned(),
        [one] => format!("is `{one}`"),
        many => format!("are `{}`", many.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_are_refused_with_the_known_ones() {
        let mut registry = Registry::default();
        registry.add("vm", |_, _| Err("no".into()));
        registry.add("local", |_, _| Err("no".into()));
        let error = registry.make("k8s", "x", &serde_json::Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "no target of kind `k8s` is known; there are `local`, `vm`");
        let error = registry.make("vm", "x", &serde_json::Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "the target `x` cannot be made");
    }
}
