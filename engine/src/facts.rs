//! Gathers what an engine says about its venue.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use charly_ir::facts::{Facts, Init, Os, PackageManager};
use serde::{Deserialize, Serialize};

use crate::accounts::{AccountError, Accounts};
use crate::lookup;
use crate::process::tree::Stat;

/// The largest os-release file that is believed.
const CAP: u64 = 64 << 10;

/// Gathers the facts of a root.
pub fn gather(root: &Path) -> Result<Facts, AccountError> {
    let os = os(root);
    let uname = rustix::system::uname();
    Ok(Facts {
        arch: uname.machine().to_string_lossy().into_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        boot_id: boot_id(),
        init: init(root),
        package_manager: package_manager(root, &os),
        user: Accounts::new(root).own()?,
        os,
    })
}

/// Reads os-release where os-release(5) says it is; a root without one has an operating system without a name.
fn os(root: &Path) -> Os {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.into_iter().find_map(|path| lookup::read_text(root, path, CAP).ok());
    Os::parse(&text.unwrap_or_default())
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim().to_ascii_lowercase();
    is_uuid(&text).then_some(text)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn init(root: &Path) -> Init {
    // The folder's presence is what sd_booted(3) asks for.
    if lookup::is_live(root) && Path::new("/run/systemd/system").is_dir() {
        return Init::Systemd;
    }
    let programs = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
    if programs.into_iter().any(|path| lookup::exists(root, path)) { Init::SystemdOffline } else { Init::None }
}

/// Finds the manager. A machine may have others' managers too (Debian has a dnf package), so the distribution's own is
/// looked for first.
fn package_manager(root: &Path, os: &Os) -> Option<PackageManager> {
    let own = std::iter::once(&os.id).chain(&os.id_like).find_map(|id| match id.as_str() {
        "debian" | "ubuntu" => Some(PackageManager::Apt),
        "fedora" | "rhel" | "centos" => Some(PackageManager::Dnf),
        "arch" => Some(PackageManager::Pacman),
        "alpine" => Some(PackageManager::Apk),
        _ => None,
    });
    let all = [PackageManager::Apt, PackageManager::Dnf, PackageManager::Pacman, PackageManager::Apk];
    own.into_iter().chain(all).find(|manager| {
        let programs: &[&str] = match manager {
            PackageManager::Apt => &["/usr/bin/apt-get"],
            PackageManager::Dnf => &["/usr/bin/dnf", "/usr/bin/dnf5"],
            PackageManager::Pacman => &["/usr/bin/pacman"],
            PackageManager::Apk => &["/sbin/apk", "/usr/sbin/apk", "/usr/bin/apk"],
        };
        programs.iter().any(|path| lookup::exists(root, path))
    })
}

/// Tells one boot of a venue from the next.
///
/// The kernel's boot id alone does not: in a container it may be the host's, and stays while the container reboots. There
/// the start of process 1 differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BootMark {
    boot_id: Option<String>,
    init_started: Option<u64>,
}

/// A text that is no boot mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the mark of a boot")]
pub struct ParseBootMarkError(String);

impl BootMark {
    /// Takes the mark of the boot under way.
    pub fn current() -> Self {
        Self { boot_id: boot_id(), init_started: Stat::of(1).map(|stat| stat.started) }
    }
}

impl fmt::Display for BootMark {
    /// Writes `BOOT-ID/TICKS`, with `-` for what could not be told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.boot_id.as_deref().unwrap_or("-"))?;
        match self.init_started {
            Some(ticks) => write!(f, "{ticks}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for BootMark {
    type Err = ParseBootMarkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseBootMarkError(text.chars().take(80).collect());
        let (boot_id, ticks) = text.split_once('/').ok_or_else(error)?;
        let boot_id = match boot_id {
            "-" => None,
            id if is_uuid(id) => Some(id.to_owned()),
            _ => return Err(error()),
        };
        let init_started = match ticks {
            "-" => None,
            ticks => Some(ticks.parse().map_err(|_| error())?),
        };
        Ok(Self { boot_id, init_started })
    }
}

impl From<BootMark> for String {
    fn from(mark: BootMark) -> Self {
        mark.to_string()
    }
}

impl TryFrom<String> for BootMark {
    type Error = ParseBootMarkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        temp
    }

    #[test]
    fn a_roots_facts_are_its_own() {
        let (debian, fedora) = ("ID=debian\nVERSION_ID=13\n", "ID=nobara\nID_LIKE=\"rhel fedora\"\n");
        for (files, tag, init, manager) in [
            (vec![], "", Init::None, None),
            (vec![("usr/lib/os-release", "ID=arch\n")], "arch", Init::None, None),
            (
                vec![("etc/os-release", debian), ("usr/lib/os-release", "ID=x\n"), ("usr/lib/systemd/systemd", "")],
                "debian-13",
                Init::SystemdOffline,
                None,
            ),
            (
                vec![("etc/os-release", debian), ("usr/bin/dnf", ""), ("usr/bin/apt-get", "")],
                "debian-13",
                Init::None,
                Some(PackageManager::Apt),
            ),
            (
                vec![("etc/os-release", fedora), ("usr/bin/dnf5", ""), ("usr/bin/apt-get", "")],
                "nobara",
                Init::None,
                Some(PackageManager::Dnf),
            ),
            (vec![("sbin/apk", "")], "", Init::None, Some(PackageManager::Apk)),
        ] {
            let root = root_with(&files);
            let facts = gather(root.path()).unwrap();
            assert_eq!((&*facts.os.tag(), facts.init, facts.package_manager), (tag, init, manager), "{files:?}");
        }
    }

    #[test]
    fn an_os_release_may_be_a_link_within_the_root() {
        let root = root_with(&[("usr/lib/os-release", "ID=alpine\n"), ("etc/x", "")]);
        std::os::unix::fs::symlink("/usr/lib/os-release", root.path().join("etc/os-release")).unwrap();
        assert_eq!(gather(root.path()).unwrap().os.id, "alpine");
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = gather(Path::new("/")).unwrap();
        assert!(!facts.arch.is_empty());
        assert_eq!(facts.user.uid, rustix::process::geteuid().as_raw());
        assert!(facts.boot_id.is_none_or(|id| is_uuid(&id)));
    }

    #[test]
    fn a_boot_mark_survives_printing_and_tells_boots_apart() {
        let current = BootMark::current();
        assert_eq!(current.to_string().parse(), Ok(current.clone()));
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let marks = [format!("{id}/7"), format!("{id}/8"), format!("{id}/-"), "-/7".into(), "-/-".into()];
        let parsed: Vec<BootMark> = marks.iter().map(|mark| mark.parse().unwrap()).collect();
        for (i, mark) in parsed.iter().enumerate() {
            assert_eq!(parsed.iter().position(|other| other == mark), Some(i));
        }
        for text in ["", id, "x/7", &format!("{id}/x"), &format!("{}/7", id.to_uppercase())] {
            assert!(text.parse::<BootMark>().is_err(), "{text}");
        }
    }
}
