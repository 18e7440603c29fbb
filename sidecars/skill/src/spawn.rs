//! The one place that makes processes, and the only one with `unsafe` code.
//!
//! A run is started with `clone(CLONE_VM | CLONE_VFORK)`, as glibc's `posix_spawn` and Go's `syscall` package do it: the
//! child borrows the parent's memory until it executes the program, so starting costs the same however large the
//! server is, while the parent's thread waits. `std::process::Command` is not enough here: it cannot execute a file by
//! its handle, hands out no process handle, and copies the page tables as soon as a closure runs in the child.
//!
//! The child therefore makes system calls on data that was laid out before, and nothing else: it allocates nothing,
//! takes no lock and cannot unwind.
#![expect(unsafe_code, reason = "starting a process in a sandbox of its own needs raw system calls; they are all here")]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::process::Pid;
use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdRegisterError},
};

/// What the child's stack needs is a few frames of system calls; glibc's own minimum is smaller.
const STACK: usize = 64 * 1024;

/// The descriptor that a script's interpreter reads the script from.
const SCRIPT: RawFd = 3;

/// Holds everything a child is given.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: BorrowedFd<'a>,
    /// The argument array, `argv[0]` included.
    pub(crate) arguments: &'a [CString],
    /// The whole environment as `NAME=value`.
    pub(crate) environment: &'a [CString],
    /// Standard input, output and error.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    pub(crate) folder: BorrowedFd<'a>,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) limits: &'a [ResourceLimit],
    pub(crate) ruleset: Option<BorrowedFd<'a>>,
    /// The system call filter.
    pub(crate) filter: Option<&'a [libc::sock_filter]>,
}

/// Holds the ids a run gets; it has no supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Bounds one resource, soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResourceLimit {
    pub(crate) resource: Resource,
    pub(crate) most: u64,
}

/// Names a resource of `setrlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    CoreBytes,
    CpuSeconds,
    DataBytes,
    FileBytes,
    OpenFiles,
    Processes,
}

/// Holds a started child that nobody has waited for yet.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    /// Becomes readable when the child has ended.
    pub(crate) handle: OwnedFd,
}

/// Says which step between the server and the program failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub(crate) struct SpawnError {
    pub(crate) step: &'static str,
    #[source]
    pub(crate) source: io::Error,
}

/// Keeps the server's memory and environment from processes of the same user: `/proc/<pid>/environ` holds credentials.
pub(crate) fn hide_own_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(Into::into)
}

/// Starts the program; it leads a session and a process group whose number is its pid.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
    let arguments = pointers(launch.arguments);
    let environment = pointers(launch.environment);
    let filter = launch.filter.map(program_of);
    let child = Child { launch, arguments: &arguments, environment: &environment, filter, failure: Failure::default() };
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
    let mut handle: c_int = -1;

    let blocked = BlockedSignals::now();
    // SAFETY: the stack belongs to the child alone and outlives it, since the parent stays suspended (CLONE_VFORK)
    // until the child has executed the program or ended; likewise everything `child` points to. The top is aligned
    // down to 16 bytes as both architectures want it. The handle is written before `clone` returns.
    let pid = unsafe {
        let end = stack.as_mut_ptr().add(STACK);
        let top = end.sub(end as usize % 16);
        libc::clone(
            enter,
            top.cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            ptr::from_ref(&child).cast_mut().cast::<c_void>(),
            &raw mut handle,
        )
    };
    let outcome = io::Error::last_os_error();
    drop(blocked);

    let Some(pid) = Pid::from_raw(pid.max(0)) else {
        return Err(SpawnError { step: "make a process", source: outcome });
    };
    // SAFETY: the kernel has just made this descriptor for us.
    let handle = unsafe { OwnedFd::from_raw_fd(handle) };
    match child.failure.get() {
        None => Ok(Spawned { pid, handle }),
        Some(error) => {
            // The child ended at once; only its entry is left.
            let options = rustix::process::WaitIdOptions::EXITED;
            let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&handle)), options);
            Err(error)
        }
    }
}

/// Filters the system calls of the calling thread from now on.
pub(crate) fn filter_this_thread(filter: &[libc::sock_filter]) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: the instructions outlive the call.
    if unsafe { install(&program_of(filter)) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn program_of(filter: &[libc::sock_filter]) -> libc::sock_fprog {
    libc::sock_fprog { len: u16::try_from(filter.len()).unwrap_or(u16::MAX), filter: filter.as_ptr().cast_mut() }
}

/// Lets the runtime watch a process's handle; gives the handle back where it cannot.
pub(crate) fn watch(handle: OwnedFd) -> Result<AsyncFd<OwnedFd>, (OwnedFd, io::Error)> {
    // SAFETY: the handle is open, and belongs to the result, which takes it out of the runtime before it is closed.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(AsyncFdRegisterError::into_parts)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// Holds what the child reads, and the failure it leaves behind.
struct Child<'a> {
    launch: &'a Launch<'a>,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    filter: Option<libc::sock_fprog>,
    failure: Failure,
}

/// Steps of the child that can fail, in their order.
const STEPS: [&str; 11] = [
    "start a session",
    "connect the standard streams",
    "enter the working folder",
    "set a resource limit",
    "change the user",
    "give up capabilities",
    "tie the run to the server",
    "give up new privileges",
    "apply the file rules",
    "apply the system call filter",
    "execute the program",
];

/// Holds the step and error number at which the child gave up, if it did.
#[derive(Default)]
struct Failure {
    step: AtomicI32,
    error: AtomicI32,
}

impl Failure {
    fn get(&self) -> Option<SpawnError> {
        match self.error.load(Ordering::Acquire) {
            0 => None,
            error => {
                let step = usize::try_from(self.step.load(Ordering::Acquire)).ok().and_then(|at| STEPS.get(at));
                Some(SpawnError { step: step.copied().unwrap_or("start"), source: io::Error::from_raw_os_error(error) })
            }
        }
    }
}

extern "C" fn enter(child: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its `Child`, which lives while the parent is suspended; it is only read,
    // its atomics aside.
    let child = unsafe { &*child.cast::<Child<'_>>() };
    for (step, act) in (0..).zip(ACTS) {
        // SAFETY: these are the child's own steps, run once, in order, in the child.
        if unsafe { act(child) } == -1 {
            let error = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
            child.failure.step.store(step, Ordering::Release);
            child.failure.error.store(error, Ordering::Release);
            break;
        }
    }
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// The child's steps, one for each of [`STEPS`]; -1 means that `errno` tells why not.
const ACTS: [unsafe fn(&Child<'_>) -> c_int; STEPS.len()] = [
    start_session,
    connect_stdio,
    enter_folder,
    set_limits,
    change_user,
    give_up_capabilities,
    tie_to_server,
    give_up_privileges,
    apply_ruleset,
    apply_filter,
    execute,
];

unsafe fn start_session(_: &Child<'_>) -> c_int {
    // Handlers of the server must not run in the child, and signals it ignores (SIGPIPE) must not stay ignored in the
    // program. The server has nothing to do with real-time signals.
    // SAFETY: plain system calls on a local value.
    unsafe {
        let mut default: libc::sigaction = MaybeUninit::zeroed().assume_init();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..32 {
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
        libc::setsid()
    }
}

unsafe fn connect_stdio(child: &Child<'_>) -> c_int {
    for (target, source) in (0..).zip(&child.launch.stdio) {
        // SAFETY: plain system call. The sources lie above 2: the runtime fills 0 to 2 when a program starts.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } == -1 {
            return -1;
        }
    }
    // Everything of the server's is close-on-exec already; this is for what a library might have opened otherwise.
    // SAFETY: plain system call; kernels without it (before 5.11) leave what is there.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    0
}

unsafe fn enter_folder(child: &Child<'_>) -> c_int {
    // SAFETY: plain system calls.
    unsafe {
        libc::umask(0o022);
        libc::fchdir(child.launch.folder.as_raw_fd())
    }
}

unsafe fn set_limits(child: &Child<'_>) -> c_int {
    for limit in child.launch.limits {
        let resource = match limit.resource {
            Resource::CoreBytes => libc::RLIMIT_CORE,
            Resource::CpuSeconds => libc::RLIMIT_CPU,
            Resource::DataBytes => libc::RLIMIT_DATA,
            Resource::FileBytes => libc::RLIMIT_FSIZE,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::Processes => libc::RLIMIT_NPROC,
        };
        let mut current = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: plain system calls on a local value.
        unsafe {
            libc::getrlimit(resource, &raw mut current);
            // A limit that is tighter already stays.
            let most = limit.most.min(current.rlim_max);
            let wanted = libc::rlimit { rlim_cur: most, rlim_max: most };
            if libc::setrlimit(resource, &raw const wanted) == -1 {
                return -1;
            }
        }
    }
    0
}

unsafe fn change_user(child: &Child<'_>) -> c_int {
    let Some(Identity { user, group }) = child.launch.identity else { return 0 };
    // The C library's functions would change every thread of the server; the system calls change this one process.
    // SAFETY: plain system calls.
    unsafe {
        if libc::syscall(libc::SYS_setgroups, 0_usize, ptr::null::<libc::gid_t>()) == -1
            || libc::syscall(libc::SYS_setresgid, *group, *group, *group) == -1
            || libc::syscall(libc::SYS_setresuid, *user, *user, *user) == -1
        {
            return -1;
        }
    }
    0
}

/// Even a run of root's has no capability: some of them open other processes' environments, past every other rule.
unsafe fn give_up_capabilities(_: &Child<'_>) -> c_int {
    /// The header and data of `capset`, which the C library does not declare.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    /// Being root gives no capabilities back on execution; this and its lock.
    const NO_ROOT: c_int = 0b11;

    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: plain system calls on local values of the kernel's own layout. A server without CAP_SETPCAP cannot set
    // the first, and has few capabilities to begin with.
    unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, NO_ROOT, 0, 0, 0);
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        failed(libc::syscall(libc::SYS_capset, ptr::from_ref(&header), none.as_ptr()))
    }
}

unsafe fn tie_to_server(_: &Child<'_>) -> c_int {
    // The thread that clones is one of the runtime's own workers, which live as long as the server does.
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }
}

unsafe fn give_up_privileges(_: &Child<'_>) -> c_int {
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }
}

unsafe fn apply_ruleset(child: &Child<'_>) -> c_int {
    let Some(ruleset) = child.launch.ruleset else { return 0 };
    // SAFETY: plain system call.
    failed(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) })
}

unsafe fn apply_filter(child: &Child<'_>) -> c_int {
    let Some(filter) = &child.filter else { return 0 };
    // SAFETY: the filter's instructions live while the parent is suspended.
    failed(unsafe { install(filter) })
}

unsafe fn install(filter: &libc::sock_fprog) -> libc::c_long {
    // SAFETY: plain system call; the kernel copies the instructions that `filter` points to.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0_usize,
            ptr::from_ref::<libc::sock_fprog>(filter),
        )
    }
}

unsafe fn execute(child: &Child<'_>) -> c_int {
    // SAFETY: plain system calls; both arrays end with a null pointer.
    unsafe {
        let mut none: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        let handle = child.launch.program.as_raw_fd();
        execute_handle(handle, child);
        // A script's interpreter opens the script through the handle, which the kernel refuses while it is to be
        // closed on execution; so only scripts get one that stays open.
        if io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) {
            // A script finds itself at `/dev/fd/3`, always; what lay there was the parent's.
            let done =
                if handle == SCRIPT { libc::fcntl(handle, libc::F_SETFD, 0) } else { libc::dup2(handle, SCRIPT) };
            if done != -1 {
                execute_handle(SCRIPT, child);
            }
        }
        -1
    }
}

unsafe fn execute_handle(handle: RawFd, child: &Child<'_>) {
    // SAFETY: as in `execute`; it returns only when it failed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            handle,
            c"".as_ptr(),
            child.arguments.as_ptr(),
            child.environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
}

fn failed(result: libc::c_long) -> c_int {
    if result == -1 { -1 } else { 0 }
}

/// Blocks every signal of this thread until dropped.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn now() -> Self {
        // SAFETY: both sets are local and initialised by the calls.
        unsafe {
            let mut all: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            let mut before: libc::sigset_t = MaybeUninit::zeroed().assume_init();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores the set that was read before.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut());
        }
    }
}
