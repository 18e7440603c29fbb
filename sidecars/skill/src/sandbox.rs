//! What the kernel forbids a run: files through Landlock, system calls through seccomp.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    thread,
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::settings::SandboxMode;

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
    #[error("cannot build the system call filter")]
    Filter(#[from] seccompiler::BackendError),
    #[error("cannot build the file rules")]
    Rules(#[from] landlock::RulesetError),
    #[error("cannot open `{path}` for the file rules", path = .0.display())]
    Path(PathBuf, #[source] landlock::PathFdError),
}

/// Holds what every run's sandbox is made of.
#[derive(Debug)]
pub(crate) struct Sandbox {
    files: Option<Files>,
    calls: Option<Calls>,
    landlock: String,
}

#[derive(Debug)]
struct Files {
    system: Vec<PathFd>,
    devices: Vec<PathFd>,
}

#[derive(Debug)]
struct Calls {
    /// Refuses what no skill needs.
    harmful: BpfProgram,
    /// As `harmful`, and making sockets.
    harmful_and_sockets: BpfProgram,
    /// Pretends to start sessions and process groups.
    groups: BpfProgram,
    /// Says that `clone3`, whose flags a filter cannot read, does not exist.
    absent: BpfProgram,
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
    /// Finds out what the kernel offers and prepares it.
    pub(crate) fn prepare(mode: SandboxMode) -> Result<Self, SandboxError> {
        if mode == SandboxMode::Off {
            return Ok(Self { files: None, calls: None, landlock: "off".into() });
        }
        let (landlock, files) = match landlock_status() {
            LandlockStatus::Available { effective_abi, .. } => {
                let open = |paths: &[&str]| paths.iter().filter_map(|path| PathFd::new(path).ok()).collect();
                (format!("{effective_abi:?}"), Some(Files { system: open(&SYSTEM), devices: open(&DEVICES) }))
            }
            LandlockStatus::NotEnabled => ("not enabled in this kernel".into(), None),
            LandlockStatus::NotImplemented => ("not in this kernel".into(), None),
        };
        let calls = Calls::build()?.filter(Calls::work);
        let sandbox = Self { files, calls, landlock };
        if mode == SandboxMode::Require && !sandbox.is_complete() {
            return Err(SandboxError::Incomplete(sandbox.describe()));
        }
        Ok(sandbox)
    }

    /// Tells whether both halves are there.
    pub(crate) fn is_complete(&self) -> bool {
        self.files.is_some() && self.calls.is_some()
    }

    /// Tells whether a manifest's `network: false` can be kept.
    pub(crate) fn can_cut_network(&self) -> bool {
        self.calls.is_some()
    }

    /// Says in a few words what is enforced.
    pub(crate) fn describe(&self) -> String {
        let seccomp = if self.calls.is_some() { "on" } else { "not available" };
        format!("landlock: {}, seccomp: {seccomp}", self.landlock)
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

    /// Returns the system call filters of a run, to be installed in this order.
    pub(crate) fn filters(&self, network: bool) -> Vec<&[seccompiler::sock_filter]> {
        self.calls.as_ref().map_or_else(Vec::new, |calls| {
            let harmful = if network { &calls.harmful } else { &calls.harmful_and_sockets };
            vec![&calls.groups[..], &calls.absent, harmful]
        })
    }
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

impl Calls {
    /// Compiles the filters; none for an architecture that has no table.
    fn build() -> Result<Option<Self>, seccompiler::BackendError> {
        let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(None) };
        let filter = |rules: Rules, action| -> Result<BpfProgram, seccompiler::BackendError> {
            SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()
        };
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let mut sockets = harmful()?;
        add(&mut sockets, &[libc::SYS_socket]);
        Ok(Some(Self {
            harmful: filter(harmful()?, refuse.clone())?,
            harmful_and_sockets: filter(sockets, refuse)?,
            groups: filter(plain(&[libc::SYS_setsid, libc::SYS_setpgid]), SeccompAction::Errno(0))?,
            absent: filter(plain(&[libc::SYS_clone3]), SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?,
        }))
    }

    /// Tells whether the kernel takes the filters, by filtering a thread that does nothing else and ends.
    fn work(&self) -> bool {
        let filters = [self.groups.clone(), self.harmful_and_sockets.clone()];
        thread::spawn(move || filters.iter().all(|filter| seccompiler::apply_filter(filter).is_ok()))
            .join()
            .unwrap_or(false)
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn plain(calls: &[i64]) -> Rules {
    let mut rules = Rules::new();
    add(&mut rules, calls);
    rules
}

/// Adds calls, on x86-64 under their x32 numbers too: those would be another way in.
fn add(rules: &mut Rules, calls: &[i64]) {
    for &call in calls {
        rules.insert(call, Vec::new());
        if cfg!(target_arch = "x86_64") {
            rules.insert(call | X32, Vec::new());
        }
    }
}

const X32: i64 = 0x4000_0000;

/// The calls that are refused: what reaches into other processes or the kernel, changes mounts or namespaces, or goes
/// around this very filter. It is not a list of everything a program may need, because tools vary; the container's own
/// profile stays in force beneath it.
fn harmful() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = plain(&[
        // Other processes.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        libc::SYS_perf_event_open,
        // The kernel.
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_syslog,
        libc::SYS_acct,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_quotactl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_vhangup,
        // Mounts and namespaces.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        // Its operations are not system calls and no filter sees them.
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ]);
    #[cfg(target_arch = "x86_64")]
    {
        add(&mut rules, &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_kexec_file_load]);
        // The calls that exist under x32 numbers of their own (execve, ptrace, process_vm_readv and their like).
        for call in 512..=547 {
            rules.insert(X32 | call, Vec::new());
        }
    }
    // Threads and processes are made with the same call as namespaces.
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let with_flag = |flag: i32| {
        let flag = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?])
    };
    rules.insert(libc::SYS_clone, namespaces.into_iter().map(with_flag).collect::<Result<_, _>>()?);
    Ok(rules)
}

impl From<SandboxError> for io::Error {
    fn from(error: SandboxError) -> Self {
        io::Error::other(error)
    }
}
