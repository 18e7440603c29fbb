//! One guest, from its first boot to its last trace.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::image::Image;
use crate::snapshot::{self, Snapshot, Sums};
use crate::{Error, Lab, host, nspawn, qemu};

/// The strength of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container booted by its own systemd: the host's kernel, everything else its own.
    Nspawn,
    /// A virtual machine.
    Qemu,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nspawn => "nspawn",
            Self::Qemu => "qemu",
        })
    }
}

/// What a command in a guest gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command as it was given.
    pub command: String,
    /// The exit status.
    pub status: i32,
    /// Standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard error; what is not UTF-8 is replaced.
    pub stderr: String,
}

impl Output {
    /// Gives the standard output of a command that succeeded.
    pub fn success(self) -> Result<String, Error> {
        if self.status == 0 {
            return Ok(self.stdout);
        }
        Err(Error::Command { command: self.command, status: self.status, stderr: self.stderr.trim().to_owned() })
    }
}

/// A guest that is up, or was; dropping it takes it down unless it was made to be kept.
#[derive(Debug)]
pub struct Guest {
    lab: Lab,
    id: String,
    name: String,
    kind: Kind,
    number: u8,
    /// The lock that says this process wants the guest; `None` for one that outlives it.
    owner: Option<File>,
    /// Digests of files as they were last seen.
    sums: Mutex<Sums>,
}

impl Guest {
    /// Where sshd listens.
    pub fn address(&self) -> Ipv4Addr {
        match self.kind {
            Kind::Nspawn => nspawn::address(self.number),
            Kind::Qemu => Ipv4Addr::LOCALHOST,
        }
    }

    /// The port sshd answers on.
    pub fn port(&self) -> u16 {
        match self.kind {
            Kind::Nspawn => 22,
            Kind::Qemu => 22000 + u16::from(self.number),
        }
    }

    /// The file of the private key every user of the guest trusts.
    pub fn key(&self) -> PathBuf {
        self.lab.state().join("id_ed25519")
    }

    /// The guest's public host key, as in `ssh-ed25519 AAAA…`; each guest has its own.
    pub fn host_key(&self) -> Result<String, Error> {
        let line = host::read(&self.folder().join("host_key.pub"))?;
        Ok(line.split(' ').take(2).collect::<Vec<_>>().join(" "))
    }

    /// The host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The strength.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The file the guest's console is written to.
    pub fn console(&self) -> PathBuf {
        self.folder().join("console.log")
    }

    /// Runs a command by a user's login shell and waits for it.
    ///
    /// A failing command is an [`Output`]; only a guest that cannot be reached is an error, and so is the status 255,
    /// which ssh keeps for that.
    pub fn ssh(&self, user: &str, command: &str) -> Result<Output, Error> {
        self.ssh_from(user, command, Stdio::null())
    }

    /// Runs a command as [`Guest::ssh`] does, with a standard input.
    pub fn ssh_from(&self, user: &str, command: &str, stdin: impl Into<Stdio>) -> Result<Output, Error> {
        let output = self.ssh_raw(user, command, stdin.into())?;
        Ok(Output {
            command: command.to_owned(),
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Prepares an ssh of this guest's user, for a command with a terminal or a stream of its own.
    pub fn ssh_command(&self, user: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes"])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .args(["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6"])
            .arg("-i")
            .arg(self.key())
            .args(["-p", &self.port().to_string(), &format!("{user}@{}", self.address())]);
        ssh
    }

    /// Copies a file of the host into the guest, owned by the user who places it.
    pub fn put(&self, user: &str, source: &Path, destination: &str, mode: u32) -> Result<(), Error> {
        let file = File::open(source).map_err(Error::io(format!("open `{}`", source.display())))?;
        // By sh whatever the login shell is, and with no second interpreter for the path.
        let quoted = format!("'{}'", destination.replace('\'', r"'\''"));
        let command = format!("sh -c 'cat >\"$1\" && chmod \"$2\" \"$1\"' sh {quoted} {mode:o}");
        self.ssh_from(user, &command, file)?.success().map(drop)
    }

    /// Drops the guest's network: packets vanish in both directions, connections stay as they are.
    pub fn cut(&self) -> Result<(), Error> {
        self.link(false)
    }

    /// Puts the guest's network back and waits until the guest has noticed.
    pub fn mend(&self) -> Result<(), Error> {
        self.link(true)?;
        self.settle("come back to the network", |_| true)
    }

    /// Cuts the power: every process ends at once, without a shutdown; the disk stays.
    pub fn pull(&self) -> Result<(), Error> {
        self.cgroup()?.kill()
    }

    /// Starts a guest that was pulled or powered off, on the same disk, and waits until it is settled.
    pub fn boot(&self) -> Result<(), Error> {
        self.start()?;
        self.settle("boot", |_| true)
    }

    /// Says which boot this is: an identifier that is new after each.
    pub fn boot_id(&self) -> Result<String, Error> {
        let id = self.ssh("root", "cat /proc/sys/kernel/random/boot_id")?.success()?;
        Ok(id.trim().to_owned())
    }

    /// Reboots the guest and waits until it is settled again.
    pub fn reboot(&self) -> Result<(), Error> {
        let before = self.boot_id()?;
        // The connection may end before the command does.
        let _ = self.ssh("root", "systemctl reboot");
        self.await_reboot(&before)
    }

    /// Waits until the guest is settled in another boot than the one named.
    pub fn await_reboot(&self, boot_id: &str) -> Result<(), Error> {
        self.settle("come back from its reboot", |now| now != boot_id)
    }

    /// Takes an inventory of the running guest.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut sums = self.sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        snapshot::take(&mut sums, &self.folder().join("files"), |script, input| {
            let stdin = match input {
                Some(path) => File::open(path).map_err(Error::io("open the list of files"))?.into(),
                None => Stdio::null(),
            };
            let output = self.ssh_raw("root", script, stdin)?;
            if output.status.success() {
                return Ok(output.stdout);
            }
            Err(Error::Inventory(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        })
    }

    /// Takes the guest down and deletes all it left. Dropping does the same, but cannot say what went wrong.
    pub fn down(mut self) -> Result<(), Error> {
        self.take_down()
    }

    pub(crate) fn load(lab: &Lab, id: &str, owner: Option<File>) -> Result<Self, Error> {
        let text = host::read(&lab.runs().join(id).join("guest"))?;
        let unreadable = || Error::Name(format!("the guest `{id}` is not described as one"));
        let [kind, number, name] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(unreadable()) };
        Ok(Self {
            lab: lab.clone(),
            id: id.to_owned(),
            name: name.to_owned(),
            kind: if kind == "qemu" { Kind::Qemu } else { Kind::Nspawn },
            number: number.parse().map_err(|_| unreadable())?,
            owner,
            sums: Mutex::default(),
        })
    }

    /// Lays the guest's disk over the image and gives it its identity.
    pub(crate) fn create(&self, image: &Image) -> Result<(), Error> {
        let (folder, key) = (self.folder(), self.folder().join("host_key"));
        host::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &self.name, "-f", host::text(&key)])?;
        match self.kind {
            Kind::Nspawn => {
                *self.sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Sums::load(&image.sums())?;
                nspawn::create(&folder, &self.id, &self.name, self.number, image)
            }
            Kind::Qemu => qemu::create(&self.lab, &folder, &self.name, image),
        }
    }

    /// Lets the guest outlive this process.
    pub(crate) fn keep(&mut self) -> Result<(), Error> {
        host::write(&self.folder().join("kept"), "")?;
        self.owner = None;
        Ok(())
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Ends the guest and deletes all it has; the caller holds the lab's lock.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        self.pull()?;
        if self.kind == Kind::Nspawn {
            nspawn::remove(&self.folder(), &self.id, self.number)?;
        }
        host::remove(&self.folder())
    }

    fn take_down(&mut self) -> Result<(), Error> {
        self.owner = None;
        let _lock = self.lab.lock("lock")?;
        // Somebody's sweep may have been quicker, once the owner's lock was gone.
        if self.folder().join("guest").exists() {
            self.remove()?;
        }
        self.lab.stop_when_empty()
    }

    fn ssh_raw(&self, user: &str, command: &str, stdin: Stdio) -> Result<std::process::Output, Error> {
        let output = self.ssh_command(user).arg(command).stdin(stdin).output().map_err(Error::io("run `ssh`"))?;
        if output.status.code() != Some(255) {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Unreachable { guest: self.name.clone(), stderr })
    }

    /// Waits until systemd has nothing more to start, in a boot the caller is content with.
    fn settle(&self, what: &'static str, content: impl Fn(&str) -> bool) -> Result<(), Error> {
        const ASK: &str = "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait";
        let group = self.cgroup()?;
        let patience = Duration::from_secs(if self.kind == Kind::Nspawn { 60 } else { 900 });
        let address = SocketAddr::new(self.address().into(), self.port());
        let end = Instant::now() + patience;
        while Instant::now() < end && group.populated() && !self.crashed() {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
                && let Ok(answer) = self.ssh("root", ASK)
            {
                let mut lines = answer.stdout.lines();
                let boot_id = lines.next().unwrap_or_default();
                if content(boot_id) && matches!(lines.next(), Some("running" | "degraded")) {
                    return Ok(());
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(Error::NotReady { guest: self.name.clone(), what, console: self.last_words() })
    }

    /// The end of what the guest, and the program that runs it, have printed.
    fn last_words(&self) -> String {
        let logs = [self.folder().join("qemu.log"), self.console()];
        let text: String = logs
            .iter()
            .filter_map(|log| fs::read(log).ok())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn start(&self) -> Result<(), Error> {
        match self.kind {
            Kind::Nspawn => nspawn::start(&self.folder(), &self.id, &self.name, &self.cgroup()?),
            Kind::Qemu => {
                let image = self.lab.image(Kind::Qemu, false)?;
                qemu::start(&self.lab, &self.folder(), self.port(), &image, &self.cgroup()?)
            }
        }
    }

    /// Says whether the guest's own kernel has failed since it was started.
    fn crashed(&self) -> bool {
        let console = if self.kind == Kind::Qemu { fs::read(self.console()).unwrap_or_default() } else { Vec::new() };
        let console = String::from_utf8_lossy(&console);
        ["] Oops: ", "] Kernel panic", "] BUG: "].iter().any(|sign| console.contains(sign))
    }

    fn link(&self, up: bool) -> Result<(), Error> {
        match self.kind {
            Kind::Nspawn => nspawn::link(self.number, up),
            Kind::Qemu => qemu::link(&self.folder(), up),
        }
    }

    fn cgroup(&self) -> Result<Cgroup, Error> {
        Cgroup::named(&format!("charly-lab-{}", self.id))
    }

    fn folder(&self) -> PathBuf {
        self.lab.runs().join(&self.id)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A guest without an owner is kept; one that was taken down has none any more. What fails here is left to
        // the next sweep, which finds the lock free.
        if self.owner.is_some() {
            if thread::panicking() {
                let _ = fs::copy(self.console(), self.lab.state().join(format!("{}.console.log", self.name)));
            }
            let _ = self.take_down();
        }
    }
}
