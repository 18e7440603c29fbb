//! What an engine says about its venue, unasked, when it starts.

use serde::{Deserialize, Serialize};

use crate::boot::BootMark;
use crate::text::Tokens;

/// The venue as the engine found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The operating system, from os-release.
    pub os: Os,
    /// The machine's architecture as `uname -m` writes it, such as `x86_64`.
    pub arch: String,
    /// The machine's own name.
    pub hostname: String,
    /// The boot under way.
    pub boot: BootMark,
    /// What supervises services.
    pub init: Init,
    /// The package manager found, absent where none of the known ones is there.
    pub package_manager: Option<PackageManager>,
    /// The user the engine runs as.
    pub user: User,
}

/// An operating system as its os-release file names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Os {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `13`; rolling distributions have none.
    pub version_id: Option<String>,
    /// `ID_LIKE`, nearest relative first.
    pub id_like: Vec<String>,
    /// `VERSION_CODENAME`, such as `trixie`.
    pub codename: Option<String>,
    /// `PRETTY_NAME`, for people.
    pub pretty_name: String,
}

/// What supervises services on a venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// systemd runs as PID 1.
    Systemd,
    /// systemd is installed and not running: an image or a temporary root. Units can be enabled, not started.
    SystemdOffline,
    /// Neither.
    None,
}

/// A package manager that the engine knows how to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageManager {
    /// Debian, Ubuntu and their kin.
    Apt,
    /// Fedora and its kin.
    Dnf,
    /// Arch and its kin.
    Pacman,
    /// Alpine.
    Apk,
}

impl PackageManager {
    /// Returns the program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }
}

/// A user of the venue, as its passwd database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The numeric id.
    pub uid: u32,
    /// The id of the main group.
    pub gid: u32,
    /// The home folder.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

impl User {
    /// Returns what tokens stand for where this is the deploying user.
    pub fn tokens(&self) -> Tokens {
        let home = self.home.trim_end_matches('/').to_owned();
        Tokens { home, user: self.name.clone(), uid: self.uid, gid: self.gid }
    }
}

impl PackageManager {
    /// Finds the manager of a root by the programs in it. A machine may have others' managers too (Debian has a dnf package),
    /// so the distribution's own is looked for first.
    pub fn find(os: &Os, exists: impl Fn(&str) -> bool) -> Option<Self> {
        let own = std::iter::once(&os.id).chain(&os.id_like).find_map(|id| match id.as_str() {
            "debian" | "ubuntu" => Some(Self::Apt),
            "fedora" | "rhel" | "centos" => Some(Self::Dnf),
            "arch" => Some(Self::Pacman),
            "alpine" => Some(Self::Apk),
            _ => None,
        });
        own.into_iter().chain([Self::Apt, Self::Dnf, Self::Pacman, Self::Apk]).find(|manager| {
            let programs: &[&str] = match manager {
                Self::Apt => &["/usr/bin/apt-get"],
                Self::Dnf => &["/usr/bin/dnf", "/usr/bin/dnf5"],
                Self::Pacman => &["/usr/bin/pacman"],
                Self::Apk => &["/sbin/apk", "/usr/sbin/apk", "/usr/bin/apk"],
            };
            programs.iter().any(|path| exists(path))
        })
    }
}

impl Init {
    /// Tells what would supervise services in a root where nothing runs.
    pub fn offline(exists: impl Fn(&str) -> bool) -> Self {
        let programs = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
        if programs.into_iter().any(exists) { Self::SystemdOffline } else { Self::None }
    }
}

impl Os {
    /// The files that os-release(5) names, the first of which that is there is the one to be read.
    pub const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

    /// Reads the text of an os-release file. Unknown keys are passed over, quotes and backslashes undone.
    pub fn parse(os_release: &str) -> Self {
        let mut os = Self::default();
        for line in os_release.lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let value = unquote(value);
            match key {
                "ID" => os.id = value.to_ascii_lowercase(),
                "VERSION_ID" if !value.is_empty() => os.version_id = Some(value),
                "ID_LIKE" => os.id_like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_CODENAME" if !value.is_empty() => os.codename = Some(value),
                "PRETTY_NAME" => os.pretty_name = value,
                _ => {}
            }
        }
        os
    }

    /// Returns `id-version`, or the bare id of a rolling distribution.
    pub fn tag(&self) -> String {
        match &self.version_id {
            Some(version) => format!("{}-{version}", self.id),
            None => self.id.clone(),
        }
    }
}

/// Undoes the quoting that os-release(5) allows.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let (inner, escapes) = match value.as_bytes() {
        [b'"', .., b'"'] if value.len() > 1 => (&value[1..value.len() - 1], true),
        [b'\'', .., b'\''] if value.len() > 1 => (&value[1..value.len() - 1], false),
        _ => (value, true),
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if escapes => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_its_manual_says() {
        let os = Os::parse(
            "# c\nID=\"rocky\"\nVERSION_ID='9.4'\nID_LIKE=\"rhel centos fedora\"\nPRETTY_NAME=\"A \\\"B\\\"\"\nJUNK\n",
        );
        assert_eq!(os.tag(), "rocky-9.4");
        assert_eq!(os.id_like, ["rhel", "centos", "fedora"]);
        assert_eq!(os.pretty_name, "A \"B\"");
        assert_eq!(Os::parse("ID=arch\nVERSION_ID=\n").tag(), "arch");
    }
}
