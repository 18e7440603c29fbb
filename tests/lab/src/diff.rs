//! What differs between two inventories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{Allowed, Item};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there only now.
    Added {
        /// What.
        item: Item,
        /// As it is.
        now: String,
    },
    /// It was there only before.
    Removed {
        /// What.
        item: Item,
        /// As it was.
        was: String,
    },
    /// It is there in another state.
    Changed {
        /// What.
        item: Item,
        /// As it was.
        was: String,
        /// As it is.
        now: String,
    },
}

impl Change {
    /// What differs.
    pub fn item(&self) -> &Item {
        match self {
            Self::Added { item, .. } | Self::Removed { item, .. } | Self::Changed { item, .. } => item,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { item, now } => write!(f, "added {item}: {now}"),
            Self::Removed { item, was } => write!(f, "removed {item}: {was}"),
            Self::Changed { item, was, now } => write!(f, "changed {item}: {was} => {now}"),
        }
    }
}

/// All differences between two inventories; shown, it gives a line for each that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Differences nobody allowed.
    pub unexpected: Vec<Change>,
    /// Differences on the list, each with its entry.
    pub allowed: Vec<(Change, &'static Allowed)>,
}

impl Diff {
    /// Says whether everything that differs is allowed to.
    pub fn is_empty(&self) -> bool {
        self.unexpected.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unexpected.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

pub(crate) fn between(
    before: &BTreeMap<Item, String>,
    after: &BTreeMap<Item, String>,
    allowed: &'static [Allowed],
) -> Diff {
    let mut diff = Diff { unexpected: Vec::new(), allowed: Vec::new() };
    let items: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    for item in items {
        let change = match (before.get(&item), after.get(&item)) {
            (Some(was), Some(now)) if was == now => continue,
            (Some(was), Some(now)) => Change::Changed { item, was: was.clone(), now: now.clone() },
            (Some(was), None) => Change::Removed { item, was: was.clone() },
            (None, now) => Change::Added { item, now: now.cloned().unwrap_or_default() },
        };
        match allowed.iter().find(|entry| entry.covers(change.item())) {
            Some(entry) => diff.allowed.push((change, entry)),
            None => diff.unexpected.push(change),
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::{Allowed, Item, Subject};

    #[test]
    fn tells_what_differs_and_sets_apart_what_may() {
        static MAY: &[Allowed] = &[Allowed { subject: Subject::File, pattern: "/var/log/**", reason: "logs" }];
        let tree = |files: &[(&str, &str)]| {
            let item = |name: &str| Item { subject: Subject::File, name: name.to_owned() };
            files.iter().map(|(name, value)| (item(name), (*value).to_owned())).collect()
        };
        let before = tree(&[("/a", "1"), ("/b", "1"), ("/c", "1"), ("/var/log/x", "1")]);
        let after = tree(&[("/a", "1"), ("/b", "2"), ("/d", "1"), ("/var/log/x", "2")]);
        let diff = between(&before, &after, MAY);
        assert_eq!(diff.to_string(), "changed file /b: 1 => 2\nremoved file /c: 1\nadded file /d: 1\n");
        let allowed: Vec<_> = diff.allowed.iter().map(|(change, entry)| (change.to_string(), entry.reason)).collect();
        assert_eq!(allowed, [("changed file /var/log/x: 1 => 2".to_owned(), "logs")]);
        assert!(between(&before, &before, &[]).is_empty());
    }
}
