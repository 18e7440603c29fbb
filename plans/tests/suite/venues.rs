//! Venues to compile for.

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, PackageManager, User};

/// Returns the facts of a machine with an os-release file such as this.
pub(crate) fn facts(os_release: &str, manager: PackageManager, init: Init) -> Facts {
    Facts {
        os: Os::parse(os_release),
        arch: "x86_64".into(),
        hostname: "venue".into(),
        boot: BootMark::default(),
        init,
        package_manager: Some(manager),
        user: User { name: "ann".into(), uid: 1000, gid: 1000, home: "/home/ann".into(), shell: "/bin/bash".into() },
    }
}

/// Returns Debian 13.
pub(crate) fn debian() -> Facts {
    facts("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n", PackageManager::Apt, Init::Systemd)
}

/// Returns every distribution that candies are compiled for.
pub(crate) fn distributions() -> Vec<Facts> {
    let ubuntu = "ID=ubuntu\nVERSION_ID=24.04\nID_LIKE=debian\nVERSION_CODENAME=noble\n";
    vec![
        facts("ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n", PackageManager::Apt, Init::Systemd),
        debian(),
        facts(ubuntu, PackageManager::Apt, Init::Systemd),
        facts("ID=fedora\nVERSION_ID=42\n", PackageManager::Dnf, Init::Systemd),
        facts("ID=arch\n", PackageManager::Pacman, Init::Systemd),
        facts("ID=alpine\nVERSION_ID=3.22.1\n", PackageManager::Apk, Init::None),
    ]
}
