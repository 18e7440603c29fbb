//! Reads the answers of rpm and dnf.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::packages::relative;
use crate::packages::set::{Mark, Package, PackageSet, Providers, State};

/// What is asked of rpm for each package: a line about it, then one for each of its provisions and requirements.
pub(super) const FORMAT: &str = "N\\t%{NAME}\\t%{ARCH}\\t%{EVR}\\n[P\\t%{PROVIDES}\\n][R\\t%{REQUIRES}\\n]";

/// What is asked of rpm for the files of each package.
pub(super) const FILES: &str = "[%{FILENAMES}\\t%{=NAME}.%{=ARCH}\\n]";

/// What is asked of rpm for the versions of packages.
pub(super) const VERSIONS: &str = "%{NAME}\\t%{EVR}\\n";

/// One package of rpm's answer.
struct Row<'a> {
    key: String,
    id: String,
    arch: &'a str,
    version: &'a str,
    provides: Vec<&'a str>,
    requires: Vec<&'a str>,
}

/// Reads the answers to [`FORMAT`] and [`FILES`] and what dnf says was asked for. `None`: a line is not of the form.
pub(super) fn packages(answer: &str, files: &str, user: &str) -> Option<PackageSet> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for line in answer.lines() {
        let (kind, rest) = line.split_once('\t')?;
        if kind == "N" {
            let [name, arch, version] = rest.split('\t').collect::<Vec<_>>().try_into().ok()?;
            let id = format!("{name}.{arch}");
            rows.push(Row { key: key(name, arch), id, arch, version, provides: vec![], requires: vec![] });
        } else {
            let row = rows.last_mut()?;
            if kind == "P" { &mut row.provides } else { &mut row.requires }.push(rest);
        }
    }
    // Imported signing keys are kept among the packages and are none.
    rows.retain(|row| !row.id.starts_with("gpg-pubkey."));
    let keys: BTreeMap<&str, &str> = rows.iter().map(|row| (row.id.as_str(), row.key.as_str())).collect();
    let by_path: BTreeSet<&str> = file_requirements(answer).into_iter().collect();
    let mut providers = Providers::default();
    for row in &rows {
        for capability in &row.provides {
            providers.add(capability, &row.key);
        }
    }
    for (path, id) in files.lines().filter_map(|line| line.rsplit_once('\t')) {
        if let Some(key) = keys.get(id).filter(|_| by_path.contains(path)) {
            providers.add(path, key);
        }
    }
    let user: BTreeSet<&str> = user.lines().map(str::trim).collect();
    let package = |row: &Row<'_>| Package {
        version: row.version.to_owned(),
        arch: row.arch.to_owned(),
        state: State::Installed,
        mark: if user.contains(row.id.as_str()) { Mark::Manual } else { Mark::Auto },
        provides: row.provides.iter().map(ToString::to_string).collect(),
        needs: row
            .requires
            .iter()
            .flat_map(|term| clauses(term))
            .filter_map(|clause| providers.resolve(clause, &row.key))
            .collect(),
    };
    Some(PackageSet(rows.iter().map(|row| (row.key.clone(), package(row))).collect()))
}

/// Returns what packages require by path, which only the lists of files can resolve.
pub(super) fn file_requirements(answer: &str) -> Vec<&str> {
    answer.lines().filter_map(|line| line.strip_prefix("R\t")).filter(|term| term.starts_with('/')).collect()
}

/// Splits a requirement into clauses of alternatives. Conditions of rich dependencies are not evaluated: what they name is
/// taken as needed, which holds a package rather than losing it.
fn clauses(term: &str) -> Vec<Vec<&str>> {
    let Some(rich) = term.strip_prefix('(') else {
        return if term.starts_with("rpmlib(") { vec![] } else { vec![vec![term]] };
    };
    let words: Vec<&str> = rich.split_whitespace().collect();
    let mut names = Vec::new();
    let mut words_left = words.iter();
    while let Some(&word) = words_left.next() {
        match word {
            "and" | "or" | "if" | "else" | "unless" | "with" | "without" => {}
            "<" | "<=" | "=" | ">=" | ">" => drop(words_left.next()),
            _ => names.push(balanced(word.trim_start_matches('('))),
        }
    }
    if words.contains(&"or") { vec![names] } else { names.into_iter().map(|name| vec![name]).collect() }
}

/// Drops closing parentheses that were not opened within the word, as the last one in `libfoo(x))`.
fn balanced(mut word: &str) -> &str {
    while word.ends_with(')') && word.matches(')').count() > word.matches('(').count() {
        word = &word[..word.len() - 1];
    }
    word
}

fn key(name: &str, arch: &str) -> String {
    if arch == "noarch" || arch == std::env::consts::ARCH || arch == "(none)" {
        name.to_owned()
    } else {
        format!("{name}.{arch}")
    }
}

/// Returns a key's bare name.
pub(super) fn without_arch(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((name, "i386" | "i686" | "x86_64" | "aarch64" | "armv7hl" | "ppc64le" | "s390x")) => name,
        _ => key,
    }
}

/// What dnf's table says it would do; versions are those that come, or those of what goes.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Table {
    pub(super) installs: BTreeMap<String, String>,
    pub(super) upgrades: BTreeMap<String, String>,
    pub(super) downgrades: BTreeMap<String, String>,
    pub(super) removals: BTreeMap<String, String>,
}

/// Reads the table that dnf prints before it asks. `None`: there is none.
pub(super) fn table(answer: &str) -> Option<Table> {
    // Columns are as wide as what is in them: with short names one space is all that parts them.
    let is_head = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&"Package") && words.get(2) == Some(&"Version")
    };
    let mut lines = answer.lines().skip_while(|line| !is_head(line));
    lines.next()?;
    let mut out = Table::default();
    let mut section = "";
    // A long name pushes the rest of its row to the next line, so rows are gathered by words.
    let mut row: Vec<&str> = Vec::new();
    for line in lines {
        if line.starts_with("Transaction Summary") {
            break;
        }
        if let Some(headline) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            section = headline;
            row.clear();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"replacing") {
            // `replacing` one's own older version is an upgrade; another package's name is one that goes.
            let old = words.get(1).map_or("", |word| {
                if words.len() > 3 { word } else { word.rsplit_once('.').map_or(*word, |(name, _)| name) }
            });
            if row.first() != Some(&old) {
                out.removals.insert(
                    old.to_owned(),
                    words
                        .iter()
                        .skip(1)
                        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))
                        .copied()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
            continue;
        }
        if line.starts_with("  ") && row.len() < 4 {
            row.extend(words);
        } else {
            row = words;
        }
        let [name, arch, version, ..] = row.as_slice() else { continue };
        let changes = match section {
            "Upgrading" => &mut out.upgrades,
            "Downgrading" => &mut out.downgrades,
            _ if section.starts_with("Removing") => &mut out.removals,
            _ if section.starts_with("Installing") => &mut out.installs,
            _ => continue,
        };
        changes.insert(key(name, arch), without_zero_epoch(version).to_owned());
    }
    Some(out)
}

/// dnf 5 writes an epoch that rpm leaves out.
fn without_zero_epoch(version: &str) -> &str {
    version.strip_prefix("0:").unwrap_or(version)
}

/// Reads the changed configuration files from `rpm -V`: `S.5....T.  c /etc/foo`.
pub(super) fn edited(answer: &str) -> Vec<PathBuf> {
    let changed = |line: &str| {
        let (flags, rest) = line.split_once(' ')?;
        let path = rest.trim_start().strip_prefix("c ")?;
        (flags.as_bytes().get(2) == Some(&b'5')).then(|| relative(Path::new(path.trim_start())))
    };
    answer.lines().filter_map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn rpm_is_read() {
        let answer = "\
N\tserver\tnoarch\t1-1
P\tserver
R\t/usr/share/base-tool/data
R\tcap(dep)
R\trpmlib(FileDigests)
R\t((a >= 1 or libdep) if server)
N\tlibdep\tnoarch\t1:2-1
P\tcap(dep)
P\tlibdep
N\tbase-tool\tnoarch\t1-1
N\tgpg-pubkey\t(none)\tabc-1
";
        let files = "/usr/share/base-tool/data\tbase-tool.noarch\n/etc/other\tserver.noarch\n";
        let set = packages(answer, files, "\nserver.noarch\n").unwrap();
        assert_eq!(set.0.keys().collect::<Vec<_>>(), ["base-tool", "libdep", "server"]);
        let server = &set.0["server"];
        assert_eq!(server.mark, Mark::Manual);
        assert_eq!(server.needs, [vec!["base-tool"], vec!["libdep"]]);
        assert_eq!((set.0["libdep"].mark, set.0["libdep"].version.as_str()), (Mark::Auto, "1:2-1"));
        assert_eq!(set.resolve("cap(dep)"), Some("libdep"));
    }

    #[test]
    fn rich_requirements_are_taken_apart() {
        for (term, want) in [
            ("plain", vec![vec!["plain"]]),
            ("libc.so.6(GLIBC_2.3)(64bit)", vec![vec!["libc.so.6(GLIBC_2.3)(64bit)"]]),
            ("(a or b(x))", vec![vec!["a", "b(x)"]]),
            ("(a >= 1 if b)", vec![vec!["a"], vec!["b"]]),
        ] {
            assert_eq!(clauses(term), want, "{term}");
        }
    }

    #[test]
    fn the_table_of_dnf_4_is_read() {
        let table = table(include_str!("samples/dnf4-install")).unwrap();
        let long = "app-with-a-really-long-package-name-that-wraps-columns-in-tables";
        assert_eq!(
            table.installs,
            owned(&[(long, "1.20-1"), ("base-tool", "1-1"), ("libdep", "1-1"), ("wide", "1:1-1")])
        );
        assert_eq!(table.upgrades, owned(&[("server", "2-1")]));
        assert_eq!(table.removals, owned(&[("old-thing", "1-1")]));
    }

    #[test]
    fn the_table_of_dnf_5_is_read() {
        let table = table(include_str!("samples/dnf5-install")).unwrap();
        assert_eq!(table.installs, owned(&[("nginx", "1:1.28.0-1.fc42"), ("nginx-core", "1:1.28.0-1.fc42")]));
        assert_eq!(table.upgrades, owned(&[("openssl-libs", "1:3.2.4-3.fc42")]));
        assert_eq!(table.removals, owned(&[]));
    }

    #[test]
    fn short_names_make_narrow_columns() {
        let answer = "Updating and loading repositories:\n\
                      Package Arch   Version  Repository      Size\n\
                      Installing:\n app    noarch 0:1.20-1 home        10.0   B\n\
                      Installing dependencies:\n libdep noarch 0:1-1    home         7.0   B\n\
                      Transaction Summary:\n Installing:         2 packages\n";
        assert_eq!(table(answer).unwrap().installs, owned(&[("app", "1.20-1"), ("libdep", "1-1")]));
    }

    #[test]
    fn nothing_to_do_has_no_table() {
        assert_eq!(table("Package server-1-1.noarch is already installed.\nNothing to do.\n"), None);
    }
}
