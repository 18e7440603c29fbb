//! The lab: its state folder, who may use it, and what is up in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::image::{self, Image};
use crate::{Error, Guest, Kind, host, proxy};

/// Programs the lab runs, each with the Debian package it comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("ssh", "openssh-client"),
    ("apt-cacher-ng", "apt-cacher-ng"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// Gives the lab to a test that needs it, or tells the run why that test is skipped.
///
/// The reason goes straight to standard error, past the capture of the test harness. With `CHARLY_LAB=1` in the
/// environment a skip is a failure: that is how a run says it means to test everything.
///
/// # Panics
///
/// If the lab is demanded and cannot be had.
pub fn require() -> Option<Lab> {
    let Some(reason) = missing() else { return Some(Lab::from_env()) };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("CHARLY_LAB").is_none_or(|wish| wish != "1"), "the lab is demanded, but {reason}");
    // A test run whose standard error is closed has nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
    None
}

/// Says what this machine lacks to carry the lab, if anything.
pub fn missing() -> Option<String> {
    if !fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        return Some("the lab's guests need root".into());
    }
    let folders: Vec<_> = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Path::new).into();
    let absent = |program: &str| !folders.iter().any(|folder| folder.join(program).exists());
    let packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| absent(program)).map(|(_, package)| *package).collect();
    (!packages.is_empty()).then(|| format!("packages are missing: {} (run `tests/lab/install`)", packages.join(" ")))
}

/// A place on this machine where guests are made.
#[derive(Debug, Clone)]
pub struct Lab {
    state: PathBuf,
    mirror: Option<String>,
    suite: String,
    accelerator: String,
}

impl Lab {
    /// A lab that keeps its images and guests in a folder.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        // Emulation works everywhere; in more than one thread of it some kernels do not boot.
        let accelerator = "tcg,thread=single".into();
        Self { state: state.into(), mirror: None, suite: "trixie".into(), accelerator }
    }

    /// The lab the environment asks for: `CHARLY_LAB_DIR` (default `/var/tmp/charly-lab`), `CHARLY_LAB_MIRROR` (default
    /// what this machine's apt uses) and `CHARLY_LAB_ACCEL` (what QEMU runs on, default emulation; `kvm` where it works).
    pub fn from_env() -> Self {
        let state = std::env::var_os("CHARLY_LAB_DIR").map_or("/var/tmp/charly-lab".into(), PathBuf::from);
        let lab = Self { mirror: std::env::var("CHARLY_LAB_MIRROR").ok(), ..Self::new(state) };
        match std::env::var("CHARLY_LAB_ACCEL") {
            Ok(accelerator) => Self { accelerator, ..lab },
            Err(_) => lab,
        }
    }

    /// Boots a fresh container guest and waits until it is settled; dropping it leaves nothing.
    ///
    /// The name becomes the host name. Two guests of one process need two names; other processes may use the same.
    pub fn nspawn(&self, name: &str) -> Result<Guest, Error> {
        self.up(Kind::Nspawn, name, false)
    }

    /// Boots a fresh virtual machine and waits until cloud-init is done; dropping it leaves nothing.
    pub fn qemu(&self, name: &str) -> Result<Guest, Error> {
        self.up(Kind::Qemu, name, false)
    }

    /// Boots a guest that outlives this process, until [`Guest::down`].
    pub fn keep(&self, kind: Kind, name: &str) -> Result<Guest, Error> {
        self.up(kind, name, true)
    }

    /// Finds a guest made by [`Lab::keep`].
    pub fn find(&self, name: &str) -> Result<Guest, Error> {
        let folder = self.runs().join(checked(name)?);
        if folder.join("kept").exists() {
            return Guest::load(self, name, None);
        }
        Err(Error::Name(format!("no guest `{name}` is up")))
    }

    /// The names of all guests there are, those of running tests included.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let Ok(entries) = fs::read_dir(self.runs()) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list the guests"))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Takes every guest down that no running process holds, and stops the package proxy when none is left.
    pub fn clean(&self) -> Result<(), Error> {
        let _lock = self.lock("lock")?;
        for name in self.list()? {
            let _ = fs::remove_file(self.runs().join(name).join("kept"));
        }
        self.sweep()?;
        self.stop_when_empty()
    }

    /// Makes the image of a kind; `fresh` even if there is one, from today's packages.
    pub fn build(&self, kind: Kind, fresh: bool) -> Result<(), Error> {
        self.image(kind, fresh).map(drop)
    }

    /// The folder of images, guests and the package cache.
    pub fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.state.join("run")
    }

    pub(crate) fn accelerator(&self) -> &str {
        &self.accelerator
    }

    pub(crate) fn suite(&self) -> &str {
        &self.suite
    }

    pub(crate) fn image(&self, kind: Kind, fresh: bool) -> Result<Image, Error> {
        image::image(self, kind, fresh)
    }

    /// The mirror Debian's packages come from: the one asked for, else the one this machine uses.
    pub(crate) fn mirror(&self) -> Result<String, Error> {
        if let Some(mirror) = &self.mirror {
            return Ok(mirror.clone());
        }
        let release = host::read(Path::new("/etc/os-release"))?;
        let own = || {
            ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]
                .iter()
                .filter_map(|path| fs::read_to_string(path).ok())
                .find_map(|sources| mirror_in(&sources))
        };
        release.lines().any(|line| line == "ID=debian").then(own).flatten().ok_or_else(|| {
            Error::Host("this machine's apt names no Debian mirror; set `CHARLY_LAB_MIRROR` to the URL of one".into())
        })
    }

    /// The private key all guests trust, made on first use.
    pub(crate) fn key(&self) -> Result<PathBuf, Error> {
        let key = self.state.join("id_ed25519");
        if !key.exists() {
            host::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", host::text(&key)])?;
        }
        Ok(key)
    }

    /// Waits for a lock below the state folder and holds it until the file is dropped.
    pub(crate) fn lock(&self, name: &str) -> Result<File, Error> {
        host::mkdir(&self.state)?;
        let path = self.state.join(name);
        let file = File::create(&path).map_err(Error::io(format!("open `{}`", path.display())))?;
        file.lock().map_err(Error::io(format!("lock `{}`", path.display())))?;
        Ok(file)
    }

    /// Stops the proxy if there is no guest and no image is being made; the caller holds the lab's lock.
    pub(crate) fn stop_when_empty(&self) -> Result<(), Error> {
        let building = File::open(self.state.join("image/lock")).is_ok_and(|lock| lock.try_lock().is_err());
        if building || !self.list()?.is_empty() { Ok(()) } else { proxy::stop(self) }
    }

    fn up(&self, kind: Kind, name: &str, keep: bool) -> Result<Guest, Error> {
        checked(name)?;
        let image = self.image(kind, false)?;
        let id = if keep { name.to_owned() } else { format!("{name}-{}", std::process::id()) };
        let folder = self.runs().join(&id);
        let owner = {
            let _lock = self.lock("lock")?;
            host::mkdir(&self.runs())?;
            self.sweep()?;
            if folder.exists() {
                return Err(Error::Name(format!("a guest `{id}` is up already")));
            }
            let number = self.free_number()?;
            host::mkdir(&folder)?;
            let owner = self.lock(&format!("run/{id}/owner"))?;
            host::write(&folder.join("guest"), format!("{kind} {number} {name}"))?;
            proxy::start(self)?;
            owner
        };
        let mut guest = Guest::load(self, &id, Some(owner))?;
        guest.create(&image)?;
        guest.boot()?;
        if keep {
            guest.keep()?;
        }
        Ok(guest)
    }

    /// Takes down what processes that are no more have left; the caller holds the lab's lock.
    fn sweep(&self) -> Result<(), Error> {
        for id in self.list()? {
            let folder = self.runs().join(&id);
            let held = File::open(folder.join("owner")).is_ok_and(|owner| owner.try_lock().is_err());
            if held || folder.join("kept").exists() {
                continue;
            }
            match Guest::load(self, &id, None) {
                Ok(guest) => guest.remove()?,
                // Its maker died before it had written what it is: there is nothing but the folder.
                Err(_) => host::remove(&folder)?,
            }
        }
        Ok(())
    }

    /// The first number no guest of this machine has: it names the link, the subnet and the port.
    fn free_number(&self) -> Result<u8, Error> {
        let mut taken = BTreeSet::new();
        for id in self.list()? {
            taken.insert(Guest::load(self, &id, None)?.number());
        }
        (1..200)
            .filter(|number| !taken.contains(number))
            .filter(|number| !Path::new(&format!("/sys/class/net/lab{number}")).exists())
            .find(|number| TcpListener::bind(("127.0.0.1", 22000 + u16::from(*number))).is_ok())
            .ok_or_else(|| Error::Host("199 guests are up".into()))
    }
}

/// Refuses names that are no host names.
fn checked(name: &str) -> Result<&str, Error> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 40 && name.chars().all(good) {
        return Ok(name);
    }
    Err(Error::Name(format!("`{name}` is no name for a guest: lower-case letters, digits and `-`, a letter first")))
}

/// Finds the first mirror in a file of apt's sources, of either form.
fn mirror_in(sources: &str) -> Option<String> {
    sources.lines().map(str::trim).find_map(|line| {
        if let Some(uris) = line.strip_prefix("URIs:") {
            return uris.split_whitespace().next().map(str::to_owned);
        }
        let entry = line.strip_prefix("deb ")?.trim_start();
        let entry = entry.strip_prefix('[').map_or(Some(entry), |rest| Some(rest.split_once(']')?.1))?;
        entry.split_whitespace().next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::{checked, mirror_in};

    #[test]
    fn finds_the_mirror_in_both_forms_of_sources() {
        for (sources, expected) in [
            ("# comment\nTypes: deb\nURIs: http://one/debian http://two/debian\n", Some("http://one/debian")),
            ("deb http://one/debian bookworm main\n", Some("http://one/debian")),
            ("deb [signed-by=/k arch=amd64] http://one/debian bookworm main\n", Some("http://one/debian")),
            ("# deb http://one/debian bookworm main\ndeb-src http://two/debian bookworm main\n", None),
            ("", None),
        ] {
            assert_eq!(mirror_in(sources).as_deref(), expected, "{sources:?}");
        }
    }

    #[test]
    fn takes_host_names_only() {
        for good in ["a", "web-1", "x9"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "1a", "A", "a.b", "a/b", "..", "a b", &"a".repeat(41)] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
