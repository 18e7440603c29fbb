//! What of a run is no part of the image.
//!
//! A run leaves traces beside what it was for: logs, caches, the day on which a password was set. They differ each time, so
//! that nobody could tell whether an image changed. The list is closed, and stands in the user's guide.

use std::collections::BTreeSet;

use crate::layer::{Entry, Kind};

use super::bundle::MOUNT_POINTS;

/// What is known of a path in the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Below {
    pub(super) is_dir: bool,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Folders in which nothing of a run is kept; they themselves are.
const EMPTIED: &[&str] = &[
    "run",
    "tmp",
    "var/cache/apt",
    "var/cache/dnf",
    "var/cache/libdnf5",
    "var/cache/ldconfig",
    "var/cache/pacman/pkg",
    "var/lib/apt/lists",
    "var/tmp",
];

/// The folder whose files are no part of an image, though what logs into it needs its folders.
const LOGS: &str = "var/log";

/// Folders that are no part of an image at all: the engine's own ledgers, which speak of a machine.
const LEDGERS: &[&str] = &["root/.config/opencharly", "var/lib/opencharly"];

/// Files that a run makes and nobody reads again.
const DROPPED: &[&str] = &[
    "etc/.pwd.lock",
    "etc/group-",
    "etc/gshadow-",
    "etc/machine-id",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat",
    "var/cache/debconf/templates.dat-old",
    "var/cache/debconf/tmp.ci",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
];

/// The file whose third field is a day.
pub(super) const SHADOW: &str = "etc/shadow";

/// Keeps of what a run changed what is part of the image, and lets nothing be later than the epoch.
///
/// `entries` is sorted by path, each folder before what lies in it, and so is what is returned.
pub(super) fn tidy<T>(entries: Vec<(Entry, T)>, below: &dyn Fn(&str) -> Option<Below>, epoch: u64) -> Vec<(Entry, T)> {
    // What lies in a folder that was made anew has nothing below it, whatever lies there below the one that is gone.
    let opaque: BTreeSet<String> = entries
        .iter()
        .filter(|(entry, _)| entry.kind == Kind::OpaqueDir)
        .map(|(entry, _)| entry.path.clone())
        .collect();
    let is_hidden = |path: &str| path.match_indices('/').any(|(at, _)| opaque.contains(&path[..at]));
    let below = |path: &str| if is_hidden(path) { None } else { below(path) };
    let mut kept = Vec::with_capacity(entries.len());
    // Folders that hold something of the image, and those that held something that is none.
    let (mut full, mut emptied) = (BTreeSet::new(), BTreeSet::new());
    // From the last to the first, so that a folder is judged once it is known what is left in it.
    for (mut entry, content) in entries.into_iter().rev() {
        let path = entry.path.as_str();
        // A folder that is new hides nothing.
        if entry.kind == Kind::OpaqueDir && below(path).is_none() {
            entry.kind = Kind::Dir;
        }
        let is_dir = matches!(entry.kind, Kind::Dir | Kind::OpaqueDir);
        if is_dropped(path, &entry.kind) {
            emptied.extend(parent(path).map(str::to_owned));
            continue;
        }
        if is_dir && !full.contains(path) {
            let unchanged =
                |below: Below| below.is_dir && (below.mode, below.uid, below.gid) == (entry.mode, entry.uid, entry.gid);
            let nothing_new = match below(path) {
                Some(below) => entry.kind == Kind::Dir && entry.xattrs.is_empty() && unchanged(below),
                None => emptied.contains(path) || MOUNT_POINTS.contains(&path),
            };
            if nothing_new {
                emptied.extend(parent(path).map(str::to_owned));
                continue;
            }
        }
        full.extend(parent(path).map(str::to_owned));
        entry.mtime = entry.mtime.min(epoch);
        kept.push((entry, content));
    }
    kept.reverse();
    kept
}

fn is_dropped(path: &str, kind: &Kind) -> bool {
    let is_in = |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.starts_with('/'));
    let is_log = is_in(&LOGS) && !matches!(kind, Kind::Dir | Kind::OpaqueDir);
    let is_mounted_file = MOUNT_POINTS.contains(&path) && *kind == Kind::File { size: 0 };
    is_log
        || EMPTIED.iter().any(is_in)
        || LEDGERS.iter().any(|folder| path == *folder || is_in(folder))
        || DROPPED.contains(&path)
        || is_mounted_file
}

fn parent(path: &str) -> Option<&str> {
    if path.is_empty() { None } else { Some(path.rsplit_once('/').map_or("", |(parent, _)| parent)) }
}

/// Sets the day on which passwords were last changed to the epoch's, in every line that the layers below have not.
pub(super) fn shadow(text: &str, before: &str, epoch: u64) -> String {
    let day = (epoch / 86_400).to_string();
    let known: BTreeSet<&str> = before.lines().collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if !known.contains(line) && fields.len() > 2 && !fields[2].is_empty() {
            fields[2] = &day;
        }
        out.push_str(&fields.join(":"));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(path: &str, kind: Kind) -> (Entry, ()) {
        let xattrs = BTreeMap::new();
        (Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, mtime: 200, xattrs }, ())
    }

    #[test]
    fn traces_of_a_run_are_no_part_of_an_image() {
        let file = || Kind::File { size: 1 };
        let below = |path: &str| {
            let known = ["", "etc", "root", "var", "var/lib", "var/log", "usr"].contains(&path);
            known.then_some(Below { is_dir: true, mode: 0o755, uid: 0, gid: 0 })
        };
        let entries = vec![
            entry("", Kind::Dir),
            entry("etc", Kind::Dir),
            entry("etc/machine-id", file()),
            entry("etc/resolv.conf", Kind::File { size: 0 }),
            entry("proc", Kind::Dir),
            entry("root", Kind::Dir),
            entry("root/.config", Kind::Dir),
            entry("root/.config/opencharly", Kind::Dir),
            entry("root/.config/opencharly/installed", Kind::Dir),
            entry("srv", Kind::Dir),
            entry("usr", Kind::Dir),
            entry("usr/new", file()),
            entry("var", Kind::Dir),
            entry("var/lib", Kind::Dir),
            entry("var/lib/opencharly", Kind::Dir),
            entry("var/log", Kind::Dir),
            entry("var/log/app", Kind::Dir),
            entry("var/log/dpkg.log", file()),
        ];
        let kept: Vec<_> =
            tidy(entries, &below, 100).into_iter().map(|(entry, ())| (entry.path, entry.mtime)).collect();
        let want = ["", "srv", "usr", "usr/new", "var", "var/log", "var/log/app"].map(|path| (path.to_owned(), 100));
        assert_eq!(kept, want);
    }

    #[test]
    fn a_folder_that_changed_is_kept_though_it_is_empty() {
        let below = |_: &str| Some(Below { is_dir: true, mode: 0o700, uid: 0, gid: 0 });
        assert_eq!(tidy(vec![entry("srv", Kind::Dir)], &below, 1).len(), 1);
        let opaque = vec![entry("srv", Kind::OpaqueDir)];
        assert_eq!(tidy(opaque, &|_| Some(Below { is_dir: true, mode: 0o755, uid: 0, gid: 0 }), 1).len(), 1);
    }

    #[test]
    fn what_lies_in_a_folder_made_anew_is_kept() {
        let below = |_: &str| Some(Below { is_dir: true, mode: 0o755, uid: 0, gid: 0 });
        let entries = vec![
            entry("opt", Kind::Dir),
            entry("opt/x", Kind::OpaqueDir),
            entry("opt/x/y", Kind::Dir),
            entry("opt/x/z", Kind::Dir),
        ];
        let kept: Vec<_> = tidy(entries, &below, 1).into_iter().map(|(entry, ())| entry.path).collect();
        assert_eq!(kept, ["opt", "opt/x", "opt/x/y", "opt/x/z"]);
    }

    #[test]
    fn days_of_new_passwords_are_the_epochs() {
        let before = "root:*:19000:0:99999:7:::\n";
        let after = "root:*:19000:0:99999:7:::\nann:!:20600::::::\nbob:!::::::\n";
        let want = "root:*:19000:0:99999:7:::\nann:!:10::::::\nbob:!::::::\n";
        assert_eq!(shadow(after, before, 10 * 86_400), want);
    }
}
