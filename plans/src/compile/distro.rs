//! Which sections of a candy hold on a venue, and which wins.

use charly_ir::facts::{Facts, PackageManager};

use crate::schema::{DistroSection, Map, Spanned};

/// A venue's names, from the least to the most specific: family, relatives from afar to near, distribution, version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of(facts: &Facts) -> Self {
        let os = &facts.os;
        let mut names = Vec::new();
        names.extend(facts.package_manager.map(|manager| family(manager).to_owned()));
        names.extend(os.id_like.iter().rev().cloned());
        names.push(os.id.clone());
        if let Some(version) = &os.version_id {
            // `rhel-9` holds on 9.4, and `rhel-9.4` is more specific.
            if let Some((major, _)) = version.split_once('.') {
                names.push(format!("{}-{major}", os.id));
            }
            names.push(format!("{}-{version}", os.id));
        }
        Self(names)
    }

    /// Returns how specific a selector is, where it holds. A selector of several parts is as specific as the best one.
    pub(super) fn rank(&self, selector: &str) -> Option<usize> {
        selector.split(',').filter_map(|part| self.position(part.trim())).max()
    }

    /// Returns the most specific value of a mapping by distribution.
    pub(super) fn choose<'m, T>(&self, map: &'m Map<T>) -> Option<&'m T> {
        let ranked = map.iter().filter_map(|(selector, value)| Some((self.rank(selector)?, value)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, value)| value)
    }

    /// Returns the sections that hold, from the least to the most specific.
    pub(super) fn sections<'m>(&self, map: &'m Map<DistroSection>) -> Vec<(&'m Spanned<String>, &'m DistroSection)> {
        let ranked = map.iter().filter_map(|(name, section)| {
            // Of two sections for one distribution, the one for it alone is more specific.
            Some(((self.rank(name)?, std::cmp::Reverse(name.split(',').count())), name, section))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _, _)| *rank);
        ranked.into_iter().map(|(_, name, section)| (name, section)).collect()
    }

    fn position(&self, part: &str) -> Option<usize> {
        // `fedora:43` is how package maps write `fedora-43`.
        let part = part.replace(':', "-");
        self.0.iter().rposition(|name| *name == part)
    }
}

/// Returns the family of distributions that use a package manager.
pub(super) fn family(manager: PackageManager) -> &'static str {
    match manager {
        PackageManager::Apt => "deb",
        PackageManager::Dnf => "rpm",
        PackageManager::Pacman => "pac",
        PackageManager::Apk => "apk",
    }
}

#[cfg(test)]
mod tests {
    use charly_ir::boot::BootMark;
    use charly_ir::facts::{Init, Os, User};

    use super::*;

    fn names(os_release: &str, manager: PackageManager) -> Names {
        let user = User { name: "u".into(), uid: 1, gid: 1, home: "/h".into(), shell: "/bin/sh".into() };
        Names::of(&Facts {
            os: Os::parse(os_release),
            arch: "x86_64".into(),
            hostname: "h".into(),
            boot: BootMark::default(),
            init: Init::Systemd,
            package_manager: Some(manager),
            user,
        })
    }

    #[test]
    fn the_cascade_goes_from_family_to_version() {
        let mint = names("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=22.1\n", PackageManager::Apt);
        let selectors = ["deb", "debian", "ubuntu", "linuxmint", "linuxmint-22", "linuxmint-22.1"];
        let ranks: Vec<_> = selectors.iter().map(|selector| mint.rank(selector)).collect();
        assert_eq!(ranks, (0..6).map(Some).collect::<Vec<_>>());
        for (selector, want) in
            [("debian,ubuntu", Some(2)), ("fedora, deb", Some(0)), ("ubuntu-24.04", None), ("rpm", None)]
        {
            assert_eq!(mint.rank(selector), want, "{selector}");
        }
        let arch = names("ID=arch\n", PackageManager::Pacman);
        assert_eq!((arch.rank("pac"), arch.rank("arch"), arch.rank("arch-1")), (Some(0), Some(1), None));
        assert_eq!(names("ID=fedora\nVERSION_ID=43\n", PackageManager::Dnf).rank("fedora:43"), Some(2));
    }
}
