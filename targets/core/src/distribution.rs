//! Distributions that can be made from their packages here: their releases, and where this machine gets packages from.

use std::fs;
use std::process::{Command, Stdio};

/// Distributions that can be made from their packages, each with its releases, the current one last.
const RELEASES: &[(&str, &[(&str, &str)])] =
    &[("debian", &[("12", "bookworm"), ("13", "trixie")]), ("ubuntu", &[("22.04", "jammy"), ("24.04", "noble")])];

/// A distribution's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The distribution.
    pub distro: &'static str,
    /// The suite that its packages are in.
    pub suite: &'static str,
}

/// Reads a release's short name, such as `debian-13` or `ubuntu-noble`; a distribution alone means its current one.
pub fn release(text: &str) -> Option<Release> {
    let (distro, release) = text.split_once('-').unwrap_or((text, ""));
    let (distro, releases) = RELEASES.iter().find(|(known, _)| *known == distro)?;
    let named = releases.iter().find(|(number, suite)| [*number, *suite].contains(&release));
    let suite = if release.is_empty() { releases.last() } else { named }?.1;
    Some(Release { distro, suite })
}

/// Returns the short names of all releases.
pub fn releases() -> impl Iterator<Item = String> {
    let all = |(distro, releases): &'static (&str, &[(&str, &str)])| {
        releases.iter().map(move |(number, _)| format!("{distro}-{number}"))
    };
    RELEASES.iter().flat_map(all)
}

/// Begins the command that makes a root from packages, and returns the sources that go last on it: this machine's own
/// mirror. Where it has none of that distribution there are none, and mmdebstrap takes those it knows.
pub fn mmdebstrap(distro: &str, suite: &str) -> (Command, Vec<String>) {
    let mut command = Command::new("mmdebstrap");
    command.env("LC_ALL", "C").stdin(Stdio::null()).args(["--quiet", "--format=tar", "--variant=minbase"]);
    if let Some(proxy) = proxy() {
        command.arg(format!("--aptopt=Acquire::http::Proxy \"{proxy}\""));
    }
    (command, mirrors(distro, suite, &sources()))
}

/// Returns what this machine's apt reads its packages from.
fn sources() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    let files = folder.filter_map(|entry| Some(entry.ok()?.path())).chain(["/etc/apt/sources.list".into()]);
    files.filter_map(|path| fs::read_to_string(path).ok()).collect::<Vec<_>>().join("\n")
}

/// Returns the sources of a suite: a mirror of its distribution, and what updates are taken from, where any are.
fn mirrors(distro: &str, suite: &str, sources: &str) -> Vec<String> {
    let components = if distro == "ubuntu" { "main universe" } else { "main" };
    let words = || sources.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let is_address = |word: &&str| word.starts_with("http://") || word.starts_with("https://");
    let named = |end: &str| words().filter(is_address).find(|word| word.trim_end_matches('/').ends_with(end));
    let Some(mirror) = named(&format!("/{distro}")) else { return Vec::new() };
    let mut lines = vec![format!("deb {mirror} {suite} {components}")];
    if words().any(|word| word.ends_with("-updates")) {
        lines.push(format!("deb {mirror} {suite}-updates {components}"));
    }
    if let Some(security) = named("/debian-security").filter(|_| distro == "debian") {
        lines.push(format!("deb {security} {suite}-security {components}"));
    }
    lines
}

/// Returns the proxy that this machine's apt goes through.
fn proxy() -> Option<String> {
    let dump = Command::new("apt-config").args(["dump", "Acquire::http::Proxy"]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(dump.stdout).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Acquire::http::Proxy \""))?;
    let proxy = line.strip_suffix("\";")?;
    (!proxy.is_empty() && !proxy.contains(['"', '\\'])).then(|| proxy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_releases() {
        for (text, want) in [
            ("debian-13", Some("trixie")),
            ("debian", Some("trixie")),
            ("debian-bookworm", Some("bookworm")),
            ("ubuntu-24.04", Some("noble")),
            ("debian-99", None),
            ("fedora-42", None),
            ("", None),
        ] {
            assert_eq!(release(text).map(|found| found.suite), want, "{text}");
        }
        assert_eq!(releases().collect::<Vec<_>>(), ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"]);
    }

    #[test]
    fn the_mirror_is_the_machines_own() {
        let sources = "# deb http://no/debian x\ndeb http://m/debian bookworm main\nURIs: http://s/debian-security/\nSuites: bookworm bookworm-updates";
        assert_eq!(
            mirrors("debian", "trixie", sources),
            [
                "deb http://m/debian trixie main",
                "deb http://m/debian trixie-updates main",
                "deb http://s/debian-security/ trixie-security main"
            ]
        );
        assert_eq!(mirrors("debian", "trixie", ""), Vec::<String>::new());
        assert_eq!(mirrors("ubuntu", "noble", "deb http://m/debian x main"), Vec::<String>::new());
    }
}
