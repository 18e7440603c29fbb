//! What may differ on a machine that was given something and had it taken away again.

use crate::{Item, Subject};

/// An entry of the list: these may differ, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// What they are.
    pub subject: Subject,
    /// Their names: `*` stands for anything but `/`, `**` for anything.
    pub pattern: &'static str,
    /// Why.
    pub reason: &'static str,
}

impl Allowed {
    /// Says whether an item is meant.
    pub fn covers(&self, item: &Item) -> bool {
        self.subject == item.subject && matches(self.pattern, &item.name)
    }
}

const fn file(pattern: &'static str, reason: &'static str) -> Allowed {
    Allowed { subject: Subject::File, pattern, reason }
}

const fn unit(subject: Subject, pattern: &'static str, reason: &'static str) -> Allowed {
    Allowed { subject, pattern, reason }
}

/// The list every test of "as it was" uses. It is short on purpose: an entry is a promise not kept, with its reason.
pub static ALLOWED: &[Allowed] = &[
    file("/var/log/**", "logs record that something happened"),
    file("/var/cache/apt/**", "apt's cache of packages and lists"),
    file("/var/lib/apt/**", "apt's lists and its form of the automatic marks, which are compared as such"),
    file("/var/cache/charly**", "root's own copy of the engine, which a user could replace no more"),
    file("/var/cache/debconf/**", "debconf's answers, kept for a later installation"),
    file("/var/cache/man/**", "man-db's index of manual pages"),
    file("/var/cache/ldconfig/**", "ldconfig's memory of the libraries it saw"),
    file("/var/lib/dpkg/status", "dpkg's database, in another order; packages are compared as such"),
    file("/var/lib/dpkg/*-old", "dpkg's backup copies of its databases"),
    file("/var/lib/ucf/hashfile.*", "ucf's backup copies of its database, kept whatever is removed"),
    file("/var/lib/ucf/registry.*", "ucf's backup copies of its database, kept whatever is removed"),
    file("/etc/passwd-", "backup copy that every change of a user leaves"),
    file("/etc/group-", "backup copy that every change of a group leaves"),
    file("/etc/shadow-", "backup copy that every change of a user leaves"),
    file("/etc/gshadow-", "backup copy that every change of a group leaves"),
    file("/etc/subuid-", "backup copy that every change of a user leaves"),
    file("/etc/subgid-", "backup copy that every change of a user leaves"),
    file("/var/lib/systemd/random-seed", "systemd's seed, new at every boot"),
    file("/var/lib/systemd/timers/*", "when systemd's timers last fired"),
    file("/tmp/systemd-private-**", "a service's own /tmp, named after the boot"),
    file("/var/tmp/systemd-private-**", "a service's own /var/tmp, named after the boot"),
    unit(Subject::Unit, "run-user-*.mount", "somebody is logged in"),
    unit(Subject::Unit, "user-runtime-dir@*.service", "somebody is logged in"),
    unit(Subject::Unit, "user@*.service", "somebody is logged in; lingering is compared as such"),
    unit(Subject::UserUnit, "* dbus.*", "every user's manager starts it"),
    unit(Subject::UserUnit, "* dirmngr.socket", "every user's manager starts it"),
    unit(Subject::UserUnit, "* gpg-agent*.socket", "every user's manager starts it"),
    unit(Subject::UserUnit, "* keyboxd.socket", "every user's manager starts it"),
    unit(Subject::UserUnit, "* ssh-agent.socket", "every user's manager starts it"),
];

fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    let (tail, deep) = tail.strip_prefix('*').map_or((tail, false), |tail| (tail, true));
    let reach = if deep { rest.len() } else { rest.find('/').unwrap_or(rest.len()) };
    (0..=reach).filter(|end| rest.is_char_boundary(*end)).any(|end| matches(tail, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, matches};

    #[test]
    fn matches_whole_names() {
        for (pattern, name, expected) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/a/*-old", "/a/status-old", true),
            ("/a/*-old", "/a/b/x-old", false),
            ("user@*.service", "user@1000.service", true),
            ("user@*.service", "user@1000.slice", false),
            ("*", "", true),
            ("/ä*ü", "/äöü", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn every_entry_is_narrow_and_has_a_reason() {
        for entry in ALLOWED {
            assert!(!entry.reason.is_empty(), "{entry:?}");
            let plain = entry.pattern.replace('*', "");
            assert!(plain.len() >= 6 && plain != "/var/lib/" && plain != "/etc/", "too wide: {entry:?}");
        }
    }
}
