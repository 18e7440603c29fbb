//! One control group for each guest: everything in it can be ended at once, as a power cut does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, host};

/// A control group at the top of the unified hierarchy.
#[derive(Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Names a group; it exists once something is started in it.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let mounts = host::read(Path::new("/proc/self/mounts"))?;
        let top = unified(&mounts).ok_or_else(|| Error::Host("no cgroup2 file system is mounted".into()))?;
        Ok(Self(Path::new(top).join(name)))
    }

    /// Starts a program in the group, detached from this process, its output going to a file.
    pub(crate) fn start(&self, program: &[&str], log: &Path) -> Result<(), Error> {
        // The shell joins the group before it forks: nobody ever sees the program outside.
        const JOIN: &str = r#"echo $$ >"$0/cgroup.procs" && exec setsid --fork "$@""#;
        host::mkdir(&self.0)?;
        let opened = || Error::io(format!("open `{}`", log.display()));
        let stdout = File::options().create(true).append(true).open(log).map_err(opened())?;
        let stderr = stdout.try_clone().map_err(opened())?;
        let status = Command::new("sh")
            .args(["-c", JOIN, host::text(&self.0)])
            .args(program)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .map_err(Error::io(format!("start `{}`", program[0])))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Program { program: program.join(" "), stderr: format!("see `{}`", log.display()) })
    }

    /// Says whether any process is in the group.
    pub(crate) fn populated(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Ends every process of the group at once and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        if !self.0.exists() {
            return Ok(());
        }
        host::write(&self.0.join("cgroup.kill"), "1")?;
        let end = Instant::now() + Duration::from_secs(30);
        while self.populated() {
            if Instant::now() > end {
                return Err(Error::Host(format!("processes in `{}` do not end", self.0.display())));
            }
            thread::sleep(Duration::from_millis(5));
        }
        remove(&self.0)
    }
}

/// Removes a group and the groups below it, the deepest first.
fn remove(group: &Path) -> Result<(), Error> {
    let doing = || Error::io(format!("remove the control group `{}`", group.display()));
    for entry in fs::read_dir(group).map_err(doing())? {
        let entry = entry.map_err(doing())?;
        if entry.file_type().map_err(doing())?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group).map_err(doing())
}

/// Finds where the unified hierarchy is mounted.
fn unified(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn finds_the_unified_hierarchy_on_every_kind_of_host() {
        for (mounts, expected) in [
            ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", Some("/sys/fs/cgroup")),
            (
                "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
                Some("/sys/fs/cgroup/unified"),
            ),
            ("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", None),
            ("", None),
        ] {
            assert_eq!(unified(mounts), expected);
        }
    }
}
