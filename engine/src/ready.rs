//! What of the venue's start is not over.
//!
//! All of it is read from files that anybody may read, so that no probe needs root and a machine that is ready pays for a few
//! `stat`s. A file that is not there, or makes no sense, is never evidence.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use charly_ir::facts::{Facts, Init, PackageManager};
use charly_ir::ready::{Finding, Probe, Seen};
use serde_json::Value;

use crate::process::tree::Stat;

/// A start that is not over after so many seconds will not be.
const STARTING_S: u64 = 600;

/// What the kernel counts the start of processes in, wherever this runs.
const TICKS_A_SECOND: u64 = 100;

/// The most that is kept of what a probe goes by.
const EVIDENCE: usize = 1000;

/// Looks for what is not over, or went wrong, on the machine that this runs on.
pub fn look(facts: &Facts) -> Vec<Finding> {
    let place = Place { root: PathBuf::from("/"), facts };
    let is_set_up = cloud_init(&place.at("/run/cloud-init"));
    let waits = matches!(&is_set_up, Some(finding) if finding.seen == Seen::Pending);
    let state = if facts.init == Init::Systemd && (waits || is_young()) { systemd_state() } else { None };
    let start = state.as_deref().and_then(start);
    // Its last stage is part of the start, so that nothing more comes of it afterwards.
    let is_over = start.is_none() && state.is_some();
    let is_set_up = is_set_up.map(|found| match found {
        Finding { seen: Seen::Pending, evidence, .. } if is_over => {
            finding(Probe::CloudInit, Seen::Failed, format!("it ended without a result: {evidence}"))
        }
        found => found,
    });
    [start, is_set_up, place.package_lock(), place.user_bus()].into_iter().flatten().collect()
}

/// Where to look, and for whom.
struct Place<'a> {
    root: PathBuf,
    facts: &'a Facts,
}

impl Place<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Tells whether somebody is at work with the package manager.
    fn package_lock(&self) -> Option<Finding> {
        let manager = self.facts.package_manager?;
        let pending = |evidence| finding(Probe::PackageLock, Seen::Pending, evidence);
        let locks = match manager {
            PackageManager::Apt => {
                &["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock"][..]
            }
            PackageManager::Dnf => &["/usr/lib/sysimage/rpm/.rpm.lock", "/var/lib/rpm/.rpm.lock"],
            PackageManager::Apk => &["/usr/lib/apk/db/lock", "/lib/apk/db/lock"],
            // Its lock is the file itself, which may be left over: pacman says more of that than can be known here.
            PackageManager::Pacman => return None,
        };
        let held = fs::read_to_string(self.at("/proc/locks")).unwrap_or_default();
        locks.iter().find_map(|lock| {
            let file = fs::metadata(self.at(lock)).ok()?;
            let pid = holder(&held, file.dev(), file.ino())?;
            let name = Stat::of(pid).map_or_else(|| format!("process {pid}"), |stat| format!("{} ({pid})", stat.comm));
            Some(pending(format!("{name} holds {lock}")))
        })
    }

    /// Tells whether the user's own manager, where it is to run without a login, does not listen yet.
    fn user_bus(&self) -> Option<Finding> {
        let user = &self.facts.user;
        let lingers = self.at(&format!("/var/lib/systemd/linger/{}", user.name)).exists();
        let bus = format!("/run/user/{}/bus", user.uid);
        // Without the package that brings it there never will be one, and the step that wants it says so.
        let comes = self.at("/usr/lib/systemd/user/dbus.socket").exists();
        let is_missing = self.facts.init == Init::Systemd && lingers && comes && !self.at(&bus).exists();
        is_missing.then(|| finding(Probe::UserBus, Seen::Pending, format!("there is no {bus}")))
    }
}

fn finding(probe: Probe, seen: Seen, evidence: impl Into<String>) -> Finding {
    Finding { probe, seen, evidence: evidence.into().chars().take(EVIDENCE).collect() }
}

/// Tells whether the machine, or the container, has not been up for long.
fn is_young() -> bool {
    let up = fs::read_to_string("/proc/uptime").ok();
    let up: Option<u64> = up.as_deref().and_then(|text| text.split('.').next()?.parse().ok());
    let began = Stat::of(1).map(|stat| stat.started / TICKS_A_SECOND);
    up.zip(began).is_some_and(|(up, began)| up.saturating_sub(began) < STARTING_S)
}

/// Asks systemd how far it has come; nothing where it cannot be asked.
fn systemd_state() -> Option<String> {
    let mut systemctl = Command::new("systemctl");
    systemctl.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null());
    // Its exit code says whether all is well, which is not asked.
    let output = systemctl.output().ok()?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!state.is_empty() && state != "unknown").then_some(state)
}

/// Judges what systemd says of itself.
fn start(state: &str) -> Option<Finding> {
    let evidence = match state {
        "running" | "degraded" | "maintenance" => return None,
        "stopping" => "it is going down".to_owned(),
        _ => format!("systemd says {state}"),
    };
    Some(finding(Probe::Start, Seen::Pending, evidence))
}

/// Judges how far cloud-init has come, by the files that it leaves for those who want to know.
fn cloud_init(run: &Path) -> Option<Finding> {
    let read = |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(run.join(name)).ok()?).ok() };
    let is_at_work = run.join("enabled").exists() || run.join("status.json").exists();
    if !is_at_work || run.join("disabled").exists() {
        return None;
    }
    let status = read("status.json").unwrap_or_default();
    let told = |seen, evidence| Some(finding(Probe::CloudInit, seen, evidence));
    if !run.join("result.json").exists() {
        let stage = status.pointer("/v1/stage").and_then(Value::as_str).unwrap_or("unknown");
        return told(Seen::Pending, format!("it is at the stage {stage}"));
    }
    let result = read("result.json").unwrap_or_default();
    let stages = || status.get("v1").and_then(Value::as_object).into_iter().flat_map(|stages| stages.values());
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut errors: Vec<String> = result.pointer("/v1/errors").map(texts).unwrap_or_default();
    errors.extend(stages().filter_map(|stage| stage.get("errors")).flat_map(texts));
    errors.dedup();
    if !errors.is_empty() {
        return told(Seen::Failed, errors.join("; "));
    }
    let by_level = stages().filter_map(|stage| stage.get("recoverable_errors")?.as_object());
    let warnings: Vec<String> = by_level.flat_map(|levels| levels.values()).flat_map(texts).collect();
    if warnings.is_empty() { None } else { told(Seen::Degraded, warnings.join("; ")) }
}

/// Finds who holds a lock on a file, in the text of `/proc/locks`.
fn holder(locks: &str, dev: u64, inode: u64) -> Option<i32> {
    let (major, minor) = (u64::from(rustix::fs::major(dev)), u64::from(rustix::fs::minor(dev)));
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        // Who only waits for a lock is marked by an arrow, and does not hold it.
        let [_, _, _, _, pid, at, ..] = fields[..] else { return None };
        let mut at = at.split(':');
        let number = |text: Option<&str>, radix| u64::from_str_radix(text?, radix).ok();
        let device = (number(at.next(), 16)?, number(at.next(), 16)?);
        let same = number(at.next(), 10)? == inode;
        // What is no disk has a number of its own for every view of it.
        let near = device == (major, minor) || device.0 == 0 || major == 0;
        (same && near).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let run = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(run.path().join(name), text).unwrap();
        }
        run
    }

    #[test]
    fn cloud_init_is_judged_by_what_it_leaves() {
        let at_work = r#"{"v1": {"stage": "modules-config", "init": {"errors": [], "finished": 1.0}}}"#;
        let degraded =
            r#"{"v1": {"stage": null, "init": {"errors": [], "recoverable_errors": {"WARNING": ["one", "two"]}}}}"#;
        let failed = r#"{"v1": {"stage": null, "modules-final": {"errors": ["('scripts_user', RuntimeError())"]}}}"#;
        let fine = r#"{"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"#;
        for (files, want) in [
            (&[][..], None),
            (&[("disabled", ""), ("status.json", at_work)], None),
            (&[("enabled", "")], Some((Seen::Pending, "it is at the stage unknown"))),
            (&[("enabled", ""), ("status.json", at_work)], Some((Seen::Pending, "it is at the stage modules-config"))),
            (&[("status.json", "{"), ("result.json", fine)], None),
            (&[("status.json", at_work), ("result.json", fine)], None),
            (&[("status.json", degraded), ("result.json", fine)], Some((Seen::Degraded, "one; two"))),
            (
                &[("status.json", failed), ("result.json", fine)],
                Some((Seen::Failed, "('scripts_user', RuntimeError())")),
            ),
            (
                &[("status.json", "{}"), ("result.json", r#"{"v1": {"errors": ["boom"]}}"#)],
                Some((Seen::Failed, "boom")),
            ),
            (&[("status.json", "{}"), ("result.json", "nonsense")], None),
        ] {
            let run = run_with(files);
            let found = cloud_init(run.path());
            let found = found.as_ref().map(|finding| (finding.seen, &*finding.evidence));
            assert_eq!(found, want, "{files:?}");
        }
    }

    #[test]
    fn systemds_word_is_judged() {
        for state in ["running", "degraded", "maintenance"] {
            assert_eq!(start(state), None, "{state}");
        }
        for state in ["initializing", "starting", "stopping", "offline"] {
            assert_eq!(start(state).map(|finding| finding.seen), Some(Seen::Pending), "{state}");
        }
    }

    #[test]
    fn a_locks_holder_is_found() {
        const LOCKS: &str = "1: POSIX  ADVISORY  WRITE 812 fe:00:4711 0 EOF\n\
            1: -> POSIX  ADVISORY  WRITE 900 fe:00:4712 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 77 00:2a:99 0 EOF\n\
            3: OFDLCK ADVISORY  READ -1 fe:00:5 0 EOF\nnonsense\n";
        let disk = rustix::fs::makedev(0xfe, 0);
        for (dev, inode, want) in [
            (disk, 4711, Some(812)),
            (disk, 4712, None),
            (rustix::fs::makedev(0xfe, 1), 4711, None),
            (rustix::fs::makedev(0, 0x55), 99, Some(77)),
            (disk, 5, Some(-1)),
            (disk, 1, None),
        ] {
            assert_eq!(holder(LOCKS, dev, inode), want, "{inode}");
        }
    }

    #[test]
    fn a_lock_that_is_held_is_seen() {
        use rustix::fs::{FlockOperation, flock};
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/apk/db");
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/proc", root.path().join("proc")).unwrap();
        let lock = fs::File::create(folder.join("lock")).unwrap();
        let mut facts = crate::facts::gather(Path::new("/")).unwrap();
        facts.package_manager = Some(PackageManager::Apk);
        let place = Place { root: root.path().to_owned(), facts: &facts };
        assert_eq!(place.package_lock(), None);
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let found = place.package_lock().unwrap();
        assert!(found.evidence.contains(&format!("({}) holds /lib/apk/db/lock", std::process::id())), "{found:?}");
    }

    #[test]
    fn only_a_user_who_lingers_waits_for_a_bus() {
        let root = tempfile::tempdir().unwrap();
        let mut facts = crate::facts::gather(Path::new("/")).unwrap();
        facts.init = Init::Systemd;
        let place = Place { root: root.path().to_owned(), facts: &facts };
        let make = |path: &str| {
            let path = place.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert_eq!(place.user_bus(), None);
        make(&format!("/var/lib/systemd/linger/{}", facts.user.name));
        assert_eq!(place.user_bus(), None, "nothing brings one");
        make("/usr/lib/systemd/user/dbus.socket");
        assert_eq!(place.user_bus().map(|finding| finding.seen), Some(Seen::Pending));
        make(&format!("/run/user/{}/bus", facts.user.uid));
        assert_eq!(place.user_bus(), None);
    }
}
