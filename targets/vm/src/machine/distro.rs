//! What differs from distribution to distribution: who logs in, what a bootstrap makes.

use super::spec::{Bootstrap, Source};

/// Distributions by the word that their images' addresses hold, each with the user that its images come with.
const USERS: &[(&str, &str)] = &[
    ("debian", "debian"),
    ("ubuntu", "ubuntu"),
    ("fedora", "fedora"),
    ("rocky", "rocky"),
    ("almalinux", "almalinux"),
    ("centos", "cloud-user"),
    ("arch", "arch"),
    ("alpine", "alpine"),
    ("opensuse", "opensuse"),
];

/// Distributions that can be bootstrapped, each with its releases, the current one last.
const RELEASES: &[(&str, &[(&str, &str)])] =
    &[("debian", &[("12", "bookworm"), ("13", "trixie")]), ("ubuntu", &[("22.04", "jammy"), ("24.04", "noble")])];

/// Returns the name of the distribution that a source holds, where it says so.
pub(super) fn name(source: &Source) -> Option<&'static str> {
    let text = match source {
        Source::Bootstrap(bootstrap) => &bootstrap.distro,
        Source::CloudImage { url, .. } => url,
        Source::Clone { .. } | Source::Imported { .. } => return None,
    };
    let text = text.to_ascii_lowercase();
    USERS.iter().find(|(distro, _)| text.contains(distro)).map(|(distro, _)| *distro)
}

/// Returns the user that a source's machines are reached as where nothing is said.
pub(super) fn user(source: &Source) -> &'static str {
    let distro = name(source);
    USERS.iter().find(|(known, _)| distro == Some(known)).map_or("charly", |(_, user)| user)
}

/// Returns the current suite of a distribution that can be bootstrapped.
pub(super) fn bootstrapped(distro: &str) -> Option<&'static str> {
    let releases = RELEASES.iter().find(|(known, _)| *known == distro)?.1;
    releases.last().map(|(_, suite)| *suite)
}

/// Reads a distribution's short name, such as `debian-13`.
pub fn release(text: &str) -> Option<Bootstrap> {
    let (distro, release) = text.split_once('-').unwrap_or((text, ""));
    let (distro, releases) = RELEASES.iter().find(|(known, _)| *known == distro)?;
    let named = releases.iter().find(|(number, suite)| [*number, *suite].contains(&release));
    let suite = if release.is_empty() { releases.last() } else { named }?.1;
    Some(Bootstrap {
        distro: (*distro).to_owned(),
        suite: suite.to_owned(),
        packages: Vec::new(),
        kernel_args: Vec::new(),
    })
}

/// Returns the short names of all distributions that can be bootstrapped.
pub fn releases() -> impl Iterator<Item = String> {
    let all = |(distro, releases): &'static (&str, &[(&str, &str)])| {
        releases.iter().map(move |(number, _)| format!("{distro}-{number}"))
    };
    RELEASES.iter().flat_map(all)
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
            assert_eq!(release(text).map(|found| found.suite).as_deref(), want, "{text}");
        }
        assert_eq!(releases().collect::<Vec<_>>(), ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"]);
    }

    #[test]
    fn users_are_those_of_the_images() {
        for (url, want) in [
            ("https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-amd64.qcow2", "debian"),
            ("https://download.fedoraproject.org/pub/Fedora-Cloud-Base.qcow2", "fedora"),
            ("file:///srv/mine.qcow2", "charly"),
        ] {
            assert_eq!(user(&Source::CloudImage { url: url.to_owned(), checksum: None }), want);
        }
    }
}
