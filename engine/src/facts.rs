//! Gathers what an engine says about its venue.

use std::fs;
use std::path::Path;

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, PackageManager};

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
        boot: boot_mark(),
        init: init(root),
        package_manager: PackageManager::find(&os, |path| lookup::exists(root, path)),
        user: Accounts::new(root).own()?,
        os,
    })
}

/// Reads os-release; a root without one has an operating system without a name.
fn os(root: &Path) -> Os {
    let text = Os::FILES.into_iter().find_map(|path| lookup::read_text(root, path, CAP).ok());
    Os::parse(&text.unwrap_or_default())
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_ascii_lowercase())
}

fn init(root: &Path) -> Init {
    // The folder's presence is what sd_booted(3) asks for.
    if lookup::is_live(root) && Path::new("/run/systemd/system").is_dir() {
        return Init::Systemd;
    }
    Init::offline(|path| lookup::exists(root, path))
}

/// Returns the mark of the boot under way.
pub fn boot_mark() -> BootMark {
    BootMark::new(boot_id().as_deref(), Stat::of(1).map(|stat| stat.started))
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
        assert_eq!(facts.boot, boot_mark());
    }
}
