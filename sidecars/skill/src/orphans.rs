//! What a run has left outside its process group: found among the orphans, known by its session.
//!
//! A program may put processes in groups of their own, as shells with job control and `timeout` do; the filter keeps
//! all of them in the run's session, which nothing else is in. Once the first process of a run has ended, whatever is
//! left of it are orphans, or will be when those have ended. Orphans are children of the supervisor, and the kernel
//! lists these: to learn that there is none costs one system call.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::time::timeout;

use crate::spawn::watch;

/// Bytes read of the list at once, and what a number in it takes at most.
const CHUNK: usize = 4096;
const LONGEST: usize = 11;

/// How often the list is read until it stays the same: while orphans come and go, the kernel may leave one out.
const READINGS: usize = 8;

/// Holds the list of the supervisor's children, where the kernel has one.
#[derive(Debug)]
pub(crate) struct Orphans {
    list: Option<File>,
    /// This very process, which is in the list.
    own: Pid,
}

impl Orphans {
    /// Opens the list of this process's parent, if that is the supervisor.
    pub(crate) fn open(supervised: bool) -> Self {
        let own = rustix::process::getpid();
        let open = || -> Option<File> {
            let parent = rustix::process::getppid()?.as_raw_nonzero();
            let list = File::open(format!("/proc/{parent}/task/{parent}/children")).ok()?;
            let is_shown = read(&list).ok()?.contains(&own);
            is_shown.then_some(list)
        };
        Self { list: supervised.then(open).flatten(), own }
    }

    /// Tells whether a run's processes are found outside its group too.
    pub(crate) fn are_listed(&self) -> bool {
        self.list.is_some()
    }

    /// Kills what is left of a session whose first process has ended and is not reaped yet, and waits for its death,
    /// for some time. Returns whether nothing is left.
    pub(crate) async fn end(&self, session: Pid, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut dead = HashSet::new();
        loop {
            let left = self.left(session, &dead);
            if left.is_empty() {
                return true;
            }
            for pid in left {
                kill(pid, session);
                let time = end.saturating_duration_since(Instant::now());
                if time.is_zero() || !died(pid, time).await {
                    return false;
                }
                dead.insert(pid);
            }
        }
    }

    /// Kills what there is of a session now.
    pub(crate) fn kill(&self, session: Pid) {
        for pid in self.left(session, &HashSet::new()) {
            kill(pid, session);
        }
    }

    /// Returns the orphans of a session that are not known to be dead.
    fn left(&self, session: Pid, dead: &HashSet<Pid>) -> HashSet<Pid> {
        let Some(list) = &self.list else { return HashSet::new() };
        let mut before = None;
        for _ in 0..READINGS {
            let shown = read(list).unwrap_or_default();
            if !shown.contains(&self.own) {
                // The supervisor is gone, and orphans are anybody's. That happens once, when the server is to end.
                return search(session);
            }
            let is_left = |pid: &&Pid| **pid != self.own && !dead.contains(*pid) && session_of(**pid) == Some(session);
            let left: HashSet<Pid> = shown.iter().filter(is_left).copied().collect();
            if !left.is_empty() || shown.len() <= 1 || before.as_ref() == Some(&shown) {
                return left;
            }
            before = Some(shown);
        }
        HashSet::new()
    }
}

fn read(list: &File) -> io::Result<HashSet<Pid>> {
    let mut text = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let count = list.read_at(&mut chunk, text.len() as u64)?;
        text.extend_from_slice(&chunk[..count]);
        // It fills what it is given, but for a number that does not fit.
        if count < CHUNK - LONGEST {
            break;
        }
    }
    let numbers = text.split(|byte| *byte == b' ').filter_map(|word| str::from_utf8(word).ok()?.parse().ok());
    Ok(numbers.filter_map(Pid::from_raw).collect())
}

/// Looks for a session's processes among all there are, those apart that are dead.
fn search(session: Pid) -> HashSet<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| Look::at(*pid).is_some_and(|look| look.session == Some(session) && !look.is_dead))
        .collect()
}

/// Holds what the kernel shows of a process. A session or a group of another process namespace has no number here.
struct Look {
    is_dead: bool,
    group: Option<Pid>,
    session: Option<Pid>,
}

impl Look {
    fn at(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let is_dead = matches!(fields.next()?, "Z" | "X");
        // Both are -1 for one that is just being reaped.
        let mut number = |at| Some(fields.nth(at)?.parse().ok().filter(|number| *number >= 0).and_then(Pid::from_raw));
        Some(Self { is_dead, group: number(1)?, session: number(0)? })
    }
}

fn session_of(pid: Pid) -> Option<Pid> {
    Look::at(pid)?.session
}

/// Kills a process and its whole group, which lies in the session it lies in.
fn kill(pid: Pid, session: Pid) {
    if let Some(Look { group: Some(group), session: Some(own), .. }) = Look::at(pid)
        && own == session
    {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Waits until a process has ended; the supervisor reaps it.
async fn died(pid: Pid, patience: Duration) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let Ok(handle) = watch(handle) else { return false };
    timeout(patience, handle.readable()).await.is_ok()
}
