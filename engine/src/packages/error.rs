//! What goes wrong with package managers, told to its reader.

use std::fmt;
use std::io;

use charly_ir::facts::PackageManager;
use charly_ir::message::Problem;

/// Why something about packages could not be told or done.
#[derive(Debug)]
pub struct PackageError {
    /// What is the matter.
    pub fault: Fault,
    /// The end of what the manager wrote; empty where it was not asked.
    pub evidence: String,
}

/// What is the matter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A program could not be started.
    #[error("`{0}` could not be started")]
    Start(String, #[source] io::Error),
    /// No repository knows these packages.
    #[error("no repository has {}", list(names))]
    Unknown {
        /// The packages.
        names: Vec<String>,
        /// Names that are like them.
        similar: Vec<String>,
    },
    /// A name that the manager would take for an option, a pattern or a removal.
    #[error("`{0}` is not a package's name")]
    BadName(String),
    /// An option that would defeat what the engine relies on.
    #[error("the option `{0}` is not a candy's to give")]
    BadOption(String),
    /// Another program holds the manager's lock.
    #[error("the package database is locked{}", by(.0.as_deref()))]
    Locked(Option<String>),
    /// The repositories cannot be reached.
    #[error("the repositories cannot be reached")]
    Offline,
    /// What an index names is not there any more.
    #[error("a repository no longer has what its index names")]
    Stale,
    /// A file system is full.
    #[error("there is not enough space left for the packages")]
    DiskFull,
    /// Packages are held at their version and would have to change.
    #[error("held packages would have to change")]
    Held,
    /// The dependencies cannot be met.
    #[error("the packages' dependencies cannot be met")]
    Unmet,
    /// Packages would have to go.
    #[error("{} would have to be removed", list(.0))]
    WouldRemove(Vec<String>),
    /// Packages would get older.
    #[error("{} would get older", list(.0))]
    WouldDowngrade(Vec<String>),
    /// Packages that the candy excludes are needed.
    #[error("{} would come too, and the candy excludes it", list(.0))]
    NeedsExcluded(Vec<String>),
    /// Packages that are not the transaction's would have to go with it.
    #[error("{} would have to go as well", list(.0))]
    WouldGoToo(Vec<String>),
    /// The manager was interrupted earlier and must be repaired first.
    #[error("the package manager was interrupted earlier")]
    Interrupted,
    /// The manager failed in another way.
    #[error("`{0}` failed")]
    Failed(String),
    /// The manager's answer was not understood.
    #[error("the answer of `{0}` was not understood")]
    Answer(String),
    /// A file of the venue could not be read or removed.
    #[error("`{0}` could not be looked at or removed")]
    Path(String, #[source] io::Error),
}

impl PackageError {
    /// Takes a fault that no output shows.
    pub fn new(fault: Fault) -> Self {
        Self { fault, evidence: String::new() }
    }

    /// Judges a program's failure by what it wrote last.
    pub(super) fn judge(manager: PackageManager, program: &str, tail: &str) -> Self {
        let fault = classify(manager, tail).unwrap_or_else(|| Fault::Failed(program.to_owned()));
        Self { fault, evidence: tail.to_owned() }
    }

    /// Returns the error as the controller shows it.
    pub fn problem(&self) -> Problem {
        let mut problem = Problem::from_error(&self.fault);
        // The last lines say most; the controller's log has the rest.
        let lines: Vec<_> = self.evidence.lines().collect();
        problem.because.extend(lines[lines.len().saturating_sub(12)..].iter().map(ToString::to_string));
        match self.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match &self.fault {
            Fault::Unknown { similar, .. } if !similar.is_empty() => format!("did you mean {}?", list(similar)),
            Fault::Unknown { .. } => {
                "look the name up on this distribution, or add the repository that has it to the candy".into()
            }
            Fault::BadName(_) => "give the plain name, optionally as `name=version`".into(),
            Fault::BadOption(_) => "leave the option out".into(),
            Fault::Locked(_) => "wait until the other program is done, then run the same command again".into(),
            Fault::Offline => {
                "check the venue's network, proxy and name resolution, then run the same command again".into()
            }
            Fault::Stale => "the mirror is being updated; run the same command again later".into(),
            Fault::DiskFull => "make room on the venue, then run the same command again".into(),
            Fault::Held => "release the hold, or leave the package out of the candy".into(),
            Fault::Unmet | Fault::WouldRemove(_) | Fault::WouldDowngrade(_) => {
                "choose packages that go with what is installed, or change what is installed first".into()
            }
            Fault::NeedsExcluded(_) => "take the name out of `exclude`, or leave out what needs it".into(),
            Fault::WouldGoToo(_) => "remove what depends on it first, then run the same command again".into(),
            Fault::Interrupted => "run the same command again with root's rights: it repairs the manager first".into(),
            Fault::Start(..) | Fault::Failed(_) | Fault::Answer(_) | Fault::Path(..) => return None,
        })
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for PackageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// Recognises the faults that have a cure, by the words of the managers under `LC_ALL=C.UTF-8`.
fn classify(manager: PackageManager, tail: &str) -> Option<Fault> {
    let has = |words: &[&str]| words.iter().any(|word| tail.contains(word));
    // What every manager takes from libc or libcurl.
    if has(&[
        "No space left on device",
        "enough free space",
        "more space needed",
        "too full",
        "not enough free disk space",
    ]) {
        return Some(Fault::DiskFull);
    }
    let unknown = unknown_names(manager, tail);
    if !unknown.is_empty() {
        return Some(Fault::Unknown { names: unknown, similar: Vec::new() });
    }
    if has(&["Could not get lock", "lock was locked by", "unable to lock database", "Unable to lock database"]) {
        return Some(Fault::Locked(holder(tail)));
    }
    if has(&["dpkg was interrupted"]) {
        return Some(Fault::Interrupted);
    }
    if has(&[
        "404  Not Found",
        "error: 404",
        "code: 404",
        "Hash Sum mismatch",
        "unexpected size",
        "package mentioned in index not found",
    ]) {
        return Some(Fault::Stale);
    }
    if has(&[
        "Temporary failure resolving",
        "Could not resolve",
        "Could not connect",
        "Couldn't resolve host",
        "Couldn't connect",
        "Network is unreachable",
        "Connection timed out",
        "Unable to connect to",
        "temporary error (try again later)",
        "Failed to download metadata",
        "Cannot prepare internal mirrorlist",
    ]) {
        return Some(Fault::Offline);
    }
    if has(&["Held packages were changed", "held broken packages"]) {
        return Some(Fault::Held);
    }
    if has(&[
        "unmet dependencies",
        "Unable to correct problems",
        "unable to satisfy dependency",
        "could not satisfy dependencies",
        "conflicting dependencies",
        "unresolvable package conflicts",
        "nothing provides",
        "conflicting requests",
        "unable to select packages",
    ]) {
        return Some(Fault::Unmet);
    }
    None
}

/// Reads the names that a manager says it does not know.
fn unknown_names(manager: PackageManager, tail: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in tail.lines().map(str::trim) {
        let name = match manager {
            PackageManager::Apt => line.strip_prefix("E: Unable to locate package ").or_else(|| {
                let rest = line.strip_prefix("E: Package '")?;
                rest.strip_suffix("' has no installation candidate")
            }),
            PackageManager::Dnf => line
                .strip_prefix("No match for argument: ")
                .or_else(|| line.strip_prefix("Error: Unable to find a match: ")),
            PackageManager::Pacman => line.strip_prefix("error: target not found: "),
            PackageManager::Apk => line.strip_suffix(" (no such package):"),
        };
        for name in name.into_iter().flat_map(str::split_whitespace).map(str::to_owned) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Reads who holds a lock from `It is held by process 1234 (apt-get)` or `locked by another process with pid 1234`.
fn holder(tail: &str) -> Option<String> {
    let after = |mark: &str| tail.split_once(mark).map(|(_, rest)| rest.lines().next().unwrap_or_default());
    if let Some(rest) = after("It is held by process ") {
        let (pid, name) = rest.split_once(" (")?;
        return Some(format!("`{}` (process {pid})", name.split(')').next()?));
    }
    let pid: String = after("with pid ")?.chars().take_while(char::is_ascii_digit).collect();
    (!pid.is_empty()).then(|| format!("process {pid}"))
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut out: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        out.push(format!("{} more", names.len() - SHOWN));
    }
    match out.as_slice() {
        [] | [_] => out.concat(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PackageManager::{Apk, Apt, Dnf, Pacman};

    #[test]
    fn failures_are_told_by_their_cause() {
        for (manager, tail, want) in [
            (
                Apt,
                "E: Unable to locate package nginz\nE: Package 'awk' has no installation candidate",
                "no repository has `nginz` and `awk`",
            ),
            (
                Apt,
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4242 (unattended-upgr)\nE: Unable to acquire",
                "the package database is locked by `unattended-upgr` (process 4242)",
            ),
            (
                Apt,
                "dpkg: error: dpkg frontend lock was locked by another process with pid 77\nNote: x",
                "the package database is locked by process 77",
            ),
            (
                Apt,
                "E: Failed to fetch http://x/y.deb  404  Not Found [IP: ::1 80]",
                "a repository no longer has what its index names",
            ),
            (Apt, "W: Failed to fetch x  Temporary failure resolving 'x'", "the repositories cannot be reached"),
            (
                Apt,
                "E: You don't have enough free space in /var/cache/apt/archives/.",
                "there is not enough space left for the packages",
            ),
            (Apt, "E: Held packages were changed and -y was used", "held packages would have to change"),
            (
                Apt,
                "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct",
                "the package manager was interrupted earlier",
            ),
            (Apt, "boom", "`apt-get` failed"),
            (
                Dnf,
                "No match for argument: a\nNo match for argument: b\nError: Unable to find a match: a b",
                "no repository has `a` and `b`",
            ),
            (Pacman, "error: target not found: nosuch", "no repository has `nosuch`"),
            (Pacman, "error: failed to init transaction (unable to lock database)", "the package database is locked"),
            (
                Apk,
                "ERROR: unable to select packages:\n  nosuch (no such package):\n    required by: world[nosuch]",
                "no repository has `nosuch`",
            ),
        ] {
            let program = if manager == Apt { "apt-get" } else { manager.name() };
            assert_eq!(PackageError::judge(manager, program, tail).to_string(), want);
        }
    }

    #[test]
    fn a_problem_shows_the_end_and_a_way_on() {
        let tail =
            (0..30).map(|n| n.to_string()).chain(["E: Unable to locate package ngix".into()]).collect::<Vec<_>>();
        let mut error = PackageError::judge(Apt, "apt-get", &tail.join("\n"));
        if let Fault::Unknown { similar, .. } = &mut error.fault {
            similar.push("nginx".into());
        }
        let problem = error.problem();
        assert_eq!(problem.because.len(), 12);
        assert_eq!(problem.because[11], "E: Unable to locate package ngix");
        assert_eq!(problem.hint.as_deref(), Some("did you mean `nginx`?"));
    }
}
