//! What the kernel forbids a run: files through Landlock, system calls through seccomp.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

use libc::sock_filter;

use crate::{seccomp::Filters, settings::SandboxMode};

/// Where programs and what they need lie; readable and executable for every skill. Homes, `/var`, `/run/secrets` and
/// other places where credentials live are not among them.
const SYSTEM: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
];

/// Devices that hold nothing.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The newest Landlock interface this module was written for; an older kernel enforces what it knows.
const NEWEST: ABI = ABI::V9;

/// Says that the sandbox that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("the sandbox is required, but the kernel offers {0}")]
    Incomplete(String),
    #[error("cannot build the file rules")]
    Rules(#[from] landlock::RulesetError),
    #[error("cannot open `{path}` for the file rules", path = .0.display())]
    Path(PathBuf, #[source] landlock::PathFdError),
}

/// Holds what every run's sandbox is made of.
#[derive(Debug)]
pub(crate) struct Sandbox {
    files: Option<Files>,
    calls: Option<Filters>,
    landlock: String,
    seccomp: &'static str,
}

#[derive(Debug)]
struct Files {
    system: Vec<PathFd>,
    devices: Vec<PathFd>,
}

/// Holds the folders and files that a manifest adds to what a skill may use.
#[derive(Debug, Default)]
pub(crate) struct FileGrants {
    read: Vec<PathFd>,
    write: Vec<PathFd>,
}

impl FileGrants {
    pub(crate) fn open(read: &[PathBuf], write: &[PathBuf]) -> Result<Self, SandboxError> {
        let open = |paths: &[PathBuf]| -> Result<Vec<PathFd>, SandboxError> {
            paths
                .iter()
                .map(|path| PathFd::new(path).map_err(|error| SandboxError::Path(path.clone(), error)))
                .collect()
        };
        Ok(Self { read: open(read)?, write: open(write)? })
    }
}

impl Sandbox {
    /// Finds out what the kernel offers and prepares it. `groups` tells whether a run may have several process groups.
    pub(crate) fn prepare(mode: SandboxMode, groups: bool) -> Result<Self, SandboxError> {
        if mode == SandboxMode::Off {
            return Ok(Self { files: None, calls: None, landlock: "off".into(), seccomp: "off" });
        }
        let (landlock, files) = match landlock_status() {
            LandlockStatus::Available { effective_abi, .. } => {
                let open = |paths: &[PathBuf]| paths.iter().filter_map(|path| PathFd::new(path).ok()).collect();
                let (system, devices) = (open(&outermost(&SYSTEM)), open(&outermost(&DEVICES)));
                (format!("{effective_abi:?}"), Some(Files { system, devices }))
            }
            LandlockStatus::NotEnabled => ("not enabled in this kernel".into(), None),
            LandlockStatus::NotImplemented => ("not in this kernel".into(), None),
        };
        let calls = Filters::prepare(groups);
        let seccomp = if calls.is_some() { "on" } else { "not available" };
        let sandbox = Self { files, calls, landlock, seccomp };
        if mode == SandboxMode::Require && !sandbox.is_complete() {
            return Err(SandboxError::Incomplete(sandbox.describe()));
        }
        Ok(sandbox)
    }

    /// Tells whether both halves are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.files.is_some() && self.calls.is_some()
    }

    /// Tells whether runs of one user are kept from each other's memory and environment.
    pub(crate) fn separates_runs(&self) -> bool {
        self.files.is_some()
    }

    /// Tells whether a manifest's `network: false` can be kept.
    pub(crate) fn can_cut_network(&self) -> bool {
        self.calls.is_some()
    }

    /// Says in a few words what is enforced.
    pub(crate) fn describe(&self) -> String {
        format!("landlock: {}, seccomp: {}", self.landlock, self.seccomp)
    }

    /// Makes the file rules of one run: the system's folders, the program, its private folder and its grants.
    pub(crate) fn ruleset(
        &self,
        program: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        grants: &FileGrants,
    ) -> Result<Option<OwnedFd>, SandboxError> {
        let Some(files) = &self.files else { return Ok(None) };
        let all = AccessFs::from_all(NEWEST);
        let look = AccessFs::from_read(NEWEST);
        let change = all & !AccessFs::Execute;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rule(beneath(program, look))?
            .add_rule(beneath(folder, change))?;
        for path in files.system.iter().chain(&grants.read) {
            rules = rules.add_rule(beneath(path.as_fd(), look))?;
        }
        for path in files.devices.iter().chain(&grants.write) {
            rules = rules.add_rule(beneath(path.as_fd(), change))?;
        }
        Ok(rules.into())
    }

    /// Returns the system call filter of a run.
    pub(crate) fn filter(&self, network: bool) -> Option<&[sock_filter]> {
        self.calls.as_ref().map(|filters| filters.get(network))
    }
}

/// Returns the paths that exist and do not lie beneath another of them: on most systems `/bin`, `/lib` and their like
/// lead into `/usr`, and every rule costs each run a little.
fn outermost(paths: &[&str]) -> Vec<PathBuf> {
    let found: BTreeSet<PathBuf> = paths.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
    let inside = |path: &PathBuf| path.ancestors().skip(1).any(|above| found.contains(above));
    found.iter().filter(|path| !inside(path)).cloned().collect()
}

fn beneath(path: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> PathBeneath<BorrowedFd<'_>> {
    PathBeneath::new(path, access)
}

/// Asks the kernel by restricting a thread that does nothing else and ends.
fn landlock_status() -> LandlockStatus {
    let probe = || {
        let created = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.create()?;
        created.no_new_privs(true).restrict_self().map(|status| status.landlock)
    };
    thread::spawn(probe).join().ok().and_then(Result::ok).unwrap_or(LandlockStatus::NotImplemented)
}

impl From<SandboxError> for io::Error {
    fn from(error: SandboxError) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_others_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("usr/bin")).unwrap();
        std::fs::create_dir(base.join("usrlocal")).unwrap();
        std::os::unix::fs::symlink("usr/bin", base.join("bin")).unwrap();
        let paths = ["usr", "bin", "usrlocal", "gone"].map(|name| base.join(name).display().to_string());
        let paths = paths.each_ref().map(String::as_str);
        assert_eq!(outermost(&paths), [base.join("usr"), base.join("usrlocal")]);
    }
}
