//! What differs from distribution to distribution: who logs in, what a bootstrap makes.

use charly_target_core::distribution::{self, Release};

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
    distribution::release(distro).map(|release| release.suite)
}

/// Reads a distribution's short name, such as `debian-13`.
pub fn release(text: &str) -> Option<Bootstrap> {
    let Release { distro, suite } = distribution::release(text)?;
    let (distro, suite) = (distro.to_owned(), suite.to_owned());
    Some(Bootstrap { distro, suite, packages: Vec::new(), kernel_args: Vec::new(), uefi: false })
}

#[cfg(test)]
mod tests {
    use super::*;

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
