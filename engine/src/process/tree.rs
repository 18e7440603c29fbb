//! Processes and their parents, from /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use rustix::process::{Pid, Signal, kill_process};

/// What `/proc/PID/stat` says about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The program's name, cut to fifteen bytes by the kernel.
    pub comm: String,
    /// The state's letter; `Z` is one that has ended and was not waited for.
    pub state: char,
    /// The parent's number.
    pub parent: i32,
    /// When it started, in clock ticks since the machine's boot.
    pub started: u64,
}

impl Stat {
    /// Reads the stat of one process; nothing where it is gone.
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold blanks and parentheses itself.
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let mut fields = text.get(close + 1..)?.split_ascii_whitespace();
        Some(Self {
            comm: text.get(open + 1..close)?.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }

    /// Tells whether the process has ended and is only remembered.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Returns all processes that can be seen.
pub fn processes() -> io::Result<BTreeMap<i32, Stat>> {
    let entries = fs::read_dir("/proc")?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect())
}

/// Returns the living descendants of a process.
pub(super) fn descendants(root: i32) -> io::Result<BTreeSet<i32>> {
    Ok(below(root, &processes()?))
}

/// Sends a signal to every living descendant of a process and returns how many there were.
pub(super) fn signal_descendants(root: i32, signal: Signal) -> io::Result<usize> {
    let found = descendants(root)?;
    for pid in found.iter().copied().filter_map(Pid::from_raw) {
        // One that has just ended, or that became another user's, is not to be signalled; the caller looks again.
        let _ = kill_process(pid, signal);
    }
    Ok(found.len())
}

fn below(root: i32, all: &BTreeMap<i32, Stat>) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let (mut found, mut queue) = (BTreeSet::new(), vec![root]);
    while let Some(parent) = queue.pop() {
        // The listing is not taken in one instant, so a reused number could close a circle.
        queue.extend(children.get(&parent).into_iter().flatten().filter(|pid| **pid != root && found.insert(**pid)));
    }
    // A dead one may still have living threads' children on record, so it is followed and then left out.
    found.retain(|pid| all.get(pid).is_some_and(|stat| !stat.is_dead()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_is_read() {
        let tail = "S 7 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 4242 9 9";
        let stat = Stat::parse(&format!("12 (a) (b c) {tail}")).unwrap();
        assert_eq!(stat, Stat { comm: "a) (b c".into(), state: 'S', parent: 7, started: 4242 });
        for text in ["", "12", "12 (a", "12 (a) ", "12 (a) S x", "12 )a( S 7"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn descendants_are_followed_through_the_dead_and_circles() {
        let stat = |parent, state| Stat { comm: String::new(), state, parent, started: 0 };
        let all = BTreeMap::from([
            (1, stat(0, 'S')),
            (2, stat(1, 'S')),
            (3, stat(2, 'Z')),
            (4, stat(3, 'R')),
            (5, stat(1, 'S')),
            (6, stat(7, 'S')),
            (7, stat(6, 'S')),
        ]);
        assert_eq!(below(2, &all), BTreeSet::from([4]));
        assert_eq!(below(1, &all), BTreeSet::from([2, 4, 5]));
        assert_eq!(below(6, &all), BTreeSet::from([7]));
    }

    #[test]
    fn this_process_is_among_all() {
        let own = i32::try_from(std::process::id()).unwrap();
        let all = processes().unwrap();
        assert!(all.contains_key(&own) && all[&own].started > 0);
    }
}
