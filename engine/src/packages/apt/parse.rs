//! Reads the answers of dpkg-query and apt-get.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::packages::relative;
use crate::packages::set::{Mark, Package, PackageSet, Providers, State};
use crate::packages::simulation::Simulation;

/// What is asked of dpkg-query for each package, one line each.
pub(super) const FORMAT: &str =
    "${Package}\\t${Architecture}\\t${db:Status-Status}\\t${Version}\\t${Pre-Depends}\\t${Depends}\\t${Provides}\\n";

/// One line of dpkg-query's answer.
struct Row<'a> {
    key: String,
    name: &'a str,
    arch: &'a str,
    state: State,
    version: &'a str,
    depends: [&'a str; 2],
    provides: &'a str,
}

/// Reads the answer to [`FORMAT`] and that of `apt-mark showauto`. `None`: a line is not of the form asked for.
pub(super) fn packages(answer: &str, auto: &str) -> Option<PackageSet> {
    // dpkg is of the native architecture, whose packages go by their bare names.
    let native = answer.lines().find_map(|line| line.strip_prefix("dpkg\t")?.split('\t').next()).unwrap_or_default();
    let mut rows = Vec::new();
    for line in answer.lines() {
        let [name, arch, status, version, pre_depends, depends, provides] =
            line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let state = match status {
            "not-installed" => continue,
            "installed" => State::Installed,
            "config-files" => State::Residual,
            // half-installed, unpacked, half-configured, triggers-awaited, triggers-pending
            _ => State::Broken,
        };
        let key = if arch == native || arch == "all" { name.to_owned() } else { format!("{name}:{arch}") };
        rows.push(Row { key, name, arch, state, version, depends: [pre_depends, depends], provides });
    }
    let auto: BTreeSet<&str> = auto.lines().map(str::trim).collect();
    let mut providers = Providers::default();
    for row in rows.iter().filter(|row| row.state != State::Residual) {
        for capability in std::iter::once(row.name).chain(capabilities(row.provides)) {
            providers.add(capability, &row.key);
        }
    }
    let package = |row: &Row<'_>| Package {
        version: row.version.to_owned(),
        arch: row.arch.to_owned(),
        state: row.state,
        mark: if auto.contains(row.key.as_str()) { Mark::Auto } else { Mark::Manual },
        provides: capabilities(row.provides).map(str::to_owned).collect(),
        needs: row
            .depends
            .iter()
            .flat_map(|field| clauses(field))
            .filter_map(|clause| providers.resolve(clause, &row.key))
            .collect(),
    };
    Some(PackageSet(rows.iter().map(|row| (row.key.clone(), package(row))).collect()))
}

/// Splits `a (>= 1) | b:any, c` into its clauses, each the bare names of its alternatives.
fn clauses(field: &str) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    field.split(',').filter(|clause| !clause.trim().is_empty()).map(|clause| clause.split('|').filter_map(bare_name))
}

fn capabilities(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').filter_map(bare_name)
}

/// Takes the name alone of `name:any (>= 1)`.
fn bare_name(term: &str) -> Option<&str> {
    term.trim().split([' ', '(', ':', '[']).next().filter(|name| !name.is_empty())
}

/// Reads what `apt-get -s` says it would do.
pub(super) fn simulation(answer: &str) -> Simulation {
    let mut out = Simulation::default();
    let older: BTreeSet<&str> = listed_under(answer, "The following packages will be DOWNGRADED:").collect();
    let mut installed: BTreeMap<String, String> = BTreeMap::new();
    for line in answer.lines() {
        let mut words = line.split(' ');
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
        let name = name.to_owned();
        let old = words.clone().next().and_then(|word| word.strip_prefix('[')).and_then(|word| word.strip_suffix(']'));
        let new = words.find_map(|word| word.strip_prefix('('));
        match (verb, old, new) {
            ("Inst", None, Some(new)) => {
                installed.insert(name, new.to_owned());
            }
            ("Inst", Some(old), Some(new)) => {
                let versions = (old.to_owned(), new.to_owned());
                let changes = if older.contains(name.as_str()) { &mut out.downgrades } else { &mut out.upgrades };
                changes.insert(name, versions);
            }
            ("Remv" | "Purg", old, _) => {
                out.removals.insert(name, old.unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
    out.installs = installed;
    out
}

/// Returns the words of the indented lines that follow a headline.
fn listed_under<'a>(answer: &'a str, headline: &str) -> impl Iterator<Item = &'a str> {
    let lines = answer.lines().skip_while(move |line| *line != headline).skip(1);
    lines.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace)
}

/// Reads the changed configuration files from `dpkg --verify`: `??5?????? c /etc/foo`.
pub(super) fn edited(answer: &str) -> Vec<PathBuf> {
    let changed = |line: &str| {
        let (flags, rest) = line.split_once(' ')?;
        let path = rest.trim_start().strip_prefix("c ")?;
        // A configuration file that is gone (`missing`) holds no edit.
        (flags.as_bytes().get(2) == Some(&b'5')).then(|| relative(Path::new(path.trim_start())))
    };
    answer.lines().filter_map(changed).collect()
}

/// Writes a path so that dpkg-query takes it as it is, not as a pattern.
pub(super) fn literal_pattern(path: &Path) -> String {
    let mut out = String::from("/");
    for c in path.to_string_lossy().chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        let _ = out.write_char(c);
    }
    out
}

/// Reads the path of `package, other:amd64: /path`. Lines about diversions name no owner.
pub(super) fn owned_path(line: &str) -> Option<&str> {
    let (owners, path) = line.split_once(": ")?;
    (!owners.starts_with("diversion by ") && path.starts_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = include_str!("samples/dpkg-query");

    #[test]
    fn dpkg_query_is_read() {
        let set = packages(QUERY, "libc6\nredis-tools\nlibfoo:i386\n").unwrap();
        let redis = &set.0["redis-server"];
        assert_eq!(
            (redis.state, redis.mark, redis.version.as_str()),
            (State::Residual, Mark::Manual, "5:8.0.2-3+deb13u2")
        );
        assert_eq!(set.installed("redis-server"), None);
        assert_eq!(set.0["redis-tools"].mark, Mark::Auto);
        assert_eq!(set.0["libfoo:i386"].mark, Mark::Auto);
        assert_eq!(set.0["libfoo:i386"].needs, [vec!["libc6"]]);
        assert_eq!(set.0["base-files"].needs, [vec!["mawk"]]);
        assert_eq!(set.resolve("awk"), Some("mawk"));
        assert_eq!(set.0["half"].state, State::Broken);
        assert!(!set.0.contains_key("gone"));
        assert_eq!(packages("one line\n", ""), None);
    }

    #[test]
    fn apt_get_is_read() {
        let text = "\
The following packages will be DOWNGRADED:
  old1 old2
The following NEW packages will be installed:
  new
Remv mawk [1.3.4.20250131-1]
Purg redis [5:8]
Inst base-files [13.8] (13.8+deb13u7 Debian:13.7/stable [amd64])
Inst old1 [2.0] (1.0 Debian:13.7/stable [amd64]) []
Inst libc6:i386 (2.41 Debian:13.7/stable [i386])
Inst new (1:1.2 Debian:13.7/stable, Debian-Security:13/stable [all]) [half:amd64 ]
Conf new (1:1.2 Debian:13.7/stable [all])
";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            simulation(text),
            Simulation {
                installs: [pair("libc6:i386", "2.41"), pair("new", "1:1.2")].into(),
                upgrades: [("base-files".into(), pair("13.8", "13.8+deb13u7"))].into(),
                removals: [pair("mawk", "1.3.4.20250131-1"), pair("redis", "5:8")].into(),
                downgrades: [("old1".into(), pair("2.0", "1.0"))].into(),
            }
        );
    }

    #[test]
    fn edits_and_owners_are_read() {
        assert_eq!(
            edited("??5?????? c /etc/redis/redis.conf\nmissing   c /etc/gone\n??5??????   /usr/bin/x\n"),
            [Path::new("etc/redis/redis.conf")]
        );
        assert_eq!(owned_path("a, b:amd64: /usr/share/doc: x"), Some("/usr/share/doc: x"));
        assert_eq!(owned_path("diversion by dash from: /bin/sh"), None);
        assert_eq!(literal_pattern(Path::new("a[b]*")), "/a\\[b]\\*");
    }
}
