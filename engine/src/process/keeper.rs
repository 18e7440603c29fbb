//! The keeper, and the little that happens between fork and exec.
//!
//! The engine forks the keeper, the keeper forks the program. The keeper adopts orphans (it is their *subreaper*), waits for
//! all that end below it, and reports how the program ended on a pipe. It lives as long as there are processes below it,
//! or until the engine kills it. Should the engine die first, the kernel tells the keeper, which then kills the program's
//! process group: nothing may go on writing while a later run recovers.
//!
//! This is the one place of the crate with `unsafe`: what runs here is a fork of a program that may have had threads, so it
//! calls the kernel and nothing that takes a lock or memory.
#![expect(unsafe_code, reason = "fork, and file descriptors by number in the forked process, have no safe form")]

use std::ffi::{CStr, CString, c_int, c_long};
use std::fs::File;
use std::io::{self, PipeReader, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, memfd_create};
use rustix::process::{Pid, Signal};

use super::Program;

/// A program under way.
#[derive(Debug)]
pub(super) struct Kept {
    /// The keeper.
    pub(super) keeper: Child,
    /// The program's standard output.
    pub(super) stdout: PipeReader,
    /// The program's standard error.
    pub(super) stderr: PipeReader,
    /// Gives the program's wait status as four bytes, then ends.
    pub(super) status: PipeReader,
}

/// What the forked processes need, made before the fork because they may not allocate.
struct Setup {
    engine: Option<Pid>,
    status: RawFd,
    script: Option<CString>,
    cwd: CString,
    user: Option<Switch>,
}

struct Switch {
    uid: rustix::process::Uid,
    gid: rustix::process::Gid,
    groups: Vec<rustix::process::Gid>,
}

/// Starts a program below a keeper of its own.
pub(super) fn start(program: &Program) -> io::Result<Kept> {
    let [name, arguments @ ..] = program.argv.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a program without a name"));
    };
    if rustix::process::getuid() != rustix::process::geteuid() {
        // The program could take the real user's rights back, and a shell does so by itself.
        let why = "a program cannot be started while acting as another user";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let (status, status_writer) = io::pipe()?;
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    let stdin = if program.stdin.is_empty() { Stdio::null() } else { Stdio::from(in_memory(&program.stdin)?) };
    let setup = Setup {
        engine: Some(rustix::process::getpid()),
        status: status_writer.as_raw_fd(),
        script: program.script.as_ref().map(|path| CString::new(path.as_os_str().as_bytes())).transpose()?,
        cwd: CString::new(program.cwd.as_os_str().as_bytes())?,
        user: switch(program),
    };
    if let Some(user) = &setup.user {
        // Without this the program could not open its own /dev/stdout and /dev/stderr.
        for pipe in [&stdout_writer, &stderr_writer] {
            rustix::fs::fchown(pipe, Some(user.uid), Some(user.gid))?;
        }
    }
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(&program.env);
    command.stdin(stdin).stdout(stdout_writer).stderr(stderr_writer);
    // SAFETY: `enter` only makes system calls on what was prepared above; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || enter(&setup)) };
    Ok(Kept { keeper: command.spawn()?, stdout, stderr, status })
}

/// Returns whom to switch to. A user without root's rights can only be itself, and has its groups already.
fn switch(program: &Program) -> Option<Switch> {
    let user = program.user.as_ref()?;
    let own = rustix::process::geteuid();
    (own.is_root() || own.as_raw() != user.uid).then(|| Switch {
        uid: rustix::process::Uid::from_raw(user.uid),
        gid: rustix::process::Gid::from_raw(user.gid),
        groups: user.groups.iter().map(|group| rustix::process::Gid::from_raw(*group)).collect(),
    })
}

/// Holds bytes in a file without a name, so that a program that reads late or never cannot block the run.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Turns the forked process into the keeper and goes on, in a further fork, towards the program.
fn enter(setup: &Setup) -> io::Result<()> {
    // A session of its own, so that a terminal's Ctrl-C reaches neither keeper nor program.
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    if rustix::process::getppid() != setup.engine {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let inherited = block_signals();
    // SAFETY: this process has one thread, and both sides go on with system calls alone.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: `inherited` was filled by sigprocmask and outlives the call.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const inherited, std::ptr::null_mut()) };
            become_program(setup)
        }
        program => keep(program, setup.status, setup.script.as_deref()),
    }
}

/// Does what is left before the exec: the program's session, descriptors, user and folder, in this order.
fn become_program(setup: &Setup) -> io::Result<()> {
    rustix::process::setsid()?;
    // Marked rather than closed: the standard library reports a failed exec on one of them.
    close_from(3, libc::CLOSE_RANGE_CLOEXEC);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    if let Some(user) = &setup.user {
        rustix::thread::set_thread_groups(&user.groups)?;
        rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid)?;
        rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid)?;
    }
    // As the user: root may be kept out of a home that lies on another machine.
    rustix::process::chdir(setup.cwd.as_c_str())?;
    Ok(())
}

/// Waits for everything below until nothing is left.
fn keep(program: c_int, status: RawFd, script: Option<&CStr>) -> ! {
    let _ = rustix::thread::set_name(c"charly-keeper");
    // The pipes of the program must end with the program, so the keeper may not hold them.
    close_range(0, status - 1, 0);
    close_from(status + 1, 0);
    loop {
        match reap(program, status) {
            // SAFETY: leaves at once; no destructor or handler of the engine may run twice.
            Left::Nothing => unsafe { libc::_exit(0) },
            Left::Some => {}
        }
        if next_signal() == libc::SIGTERM {
            if let Some(script) = script {
                let _ = rustix::fs::unlink(script);
            }
            // By its own number, too: on its way to the exec it has no group yet.
            // SAFETY: as above; a failure to kill means that there is nothing left to kill.
            unsafe {
                libc::kill(-program, libc::SIGKILL);
                libc::kill(program, libc::SIGKILL);
                libc::_exit(0)
            }
        }
    }
}

enum Left {
    Nothing,
    Some,
}

/// Waits for all that have ended, reports the program's status, and tells whether others are left.
fn reap(program: c_int, status: RawFd) -> Left {
    loop {
        let mut raw = 0;
        // SAFETY: `raw` is a valid place for the status.
        match unsafe { libc::waitpid(-1, &raw mut raw, libc::WNOHANG) } {
            0 => return Left::Some,
            pid if pid == program => {
                let bytes = raw.to_ne_bytes();
                // SAFETY: the buffer is valid for its length. A write this short to a pipe is whole or fails, and then
                // the engine, which would have read it, is gone.
                unsafe {
                    libc::write(status, bytes.as_ptr().cast(), bytes.len());
                }
            }
            pid if pid > 0 => {}
            // No child at all: an interruption cannot be, as all signals are blocked.
            _ => return Left::Nothing,
        }
    }
}

/// Blocks all signals, so that none is lost before it is waited for, and returns the mask before.
fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain memory that the calls fill; SIGCHLD's default makes ended children wait to be reaped.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        before
    }
}

/// Waits for a child's end or the engine's.
fn next_signal() -> c_int {
    // SAFETY: the set is plain memory that the calls fill; the information about the signal is not asked for.
    unsafe {
        let mut awaited = std::mem::zeroed();
        libc::sigemptyset(&raw mut awaited);
        libc::sigaddset(&raw mut awaited, libc::SIGCHLD);
        libc::sigaddset(&raw mut awaited, libc::SIGTERM);
        libc::sigwaitinfo(&raw const awaited, std::ptr::null_mut())
    }
}

fn close_from(first: RawFd, flags: libc::c_uint) {
    close_range(first, RawFd::MAX, flags);
}

/// Closes, or marks to be closed, all descriptors of a range in a forked process.
fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) {
    if last < first {
        return;
    }
    // SAFETY: the forked process uses none of these descriptors any more, or only until its exec.
    unsafe {
        let [first_arg, last_arg, flags_arg] = [first, last, flags.cast_signed()].map(c_long::from);
        if libc::syscall(libc::SYS_close_range, first_arg, last_arg, flags_arg) == 0 {
            return;
        }
        // Linux before 5.11.
        for fd in first..=last.min(OLD_KERNELS_LAST_FD) {
            if flags == 0 {
                libc::close(fd);
            } else {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Where the search for open descriptors ends on kernels without `close_range`: far beyond the usual limit of 1024.
const OLD_KERNELS_LAST_FD: RawFd = 65_535;
