//! Drives apk. Written from what is known of its formats; it was never run.
//!
//! apk keeps a list of what was asked for (the world) and nothing that the world does not need: a package's mark is its
//! place in the world, and removing a package takes what only it needed along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

use super::error::{Fault, PackageError};
use super::manager::{Account, Manager};
use super::runner::{Finished, Runner, Sink, Tools};
use super::set::{Mark, Package, PackageSet, Providers, State};
use super::simulation::Simulation;
use super::{quiet, relative, words};

/// apk, as Alpine has it.
#[derive(Debug)]
pub struct Apk {
    tools: Tools,
}

const DATABASE: &str = "lib/apk/db/installed";
const WORLD: &str = "etc/apk/world";

impl Apk {
    /// Opens the apk of a root.
    pub fn new(root: &Path, runner: Box<dyn Runner>) -> Self {
        Self { tools: Tools::new(root, runner) }
    }

    fn apk(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        let root = self.tools.root().to_string_lossy().into_owned();
        let mut argv = vec!["apk", "--no-progress", "--wait", "600"];
        if self.tools.is_elsewhere() {
            argv.extend(["--root", &root]);
        }
        argv.extend(rest);
        self.tools.run(&argv, sink)
    }

    fn succeed(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<String, PackageError> {
        Ok(self.apk(rest, sink)?.judged(PackageManager::Apk, "apk")?.stdout)
    }

    fn read(&self, path: &str) -> Result<String, PackageError> {
        fs::read_to_string(self.tools.root().join(path))
            .map_err(|error| PackageError::new(Fault::Path(format!("/{path}"), error)))
    }

    fn arguments<'a>(request: &'a Packages, names: &[&'a str]) -> Result<Vec<&'a str>, PackageError> {
        let defeats = ["--root", "-p", "--force", "-f", "--upgrade", "-u", "--initdb", "--allow-untrusted"];
        words::names(names.iter().copied(), is_name)?;
        let mut out = words::options(request, &defeats)?;
        out.extend(names);
        Ok(out)
    }
}

impl Manager for Apk {
    fn kind(&self) -> PackageManager {
        PackageManager::Apk
    }

    fn snapshot(&mut self) -> Result<PackageSet, PackageError> {
        Ok(packages(&self.read(DATABASE)?, &self.read(WORLD)?))
    }

    fn simulate_install(&mut self, request: &Packages, names: &[&str]) -> Result<Simulation, PackageError> {
        let arguments = Self::arguments(request, names)?;
        Ok(simulation(&self.succeed(&[&["add", "--simulate"], arguments.as_slice()].concat(), &mut quiet())?))
    }

    fn install(&mut self, request: &Packages, names: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        let arguments = Self::arguments(request, names)?;
        self.succeed(&[&["add"], arguments.as_slice()].concat(), sink).map(drop)
    }

    fn simulate_remove(&mut self, names: &[&str]) -> Result<BTreeSet<String>, PackageError> {
        let answer = self.succeed(&[&["del", "--simulate"], names].concat(), &mut quiet())?;
        Ok(simulation(&answer).removals.into_keys().collect())
    }

    fn remove(&mut self, purge: &[&str], keep: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        if !keep.is_empty() {
            return self.succeed(&[&["del"], keep, purge].concat(), sink).map(drop);
        }
        self.succeed(&[&["del", "--purge"], purge].concat(), sink).map(drop)
    }

    fn set_mark(&mut self, mark: Mark, names: &[&str]) -> Result<(), PackageError> {
        // Taking a package out of the world keeps it where something else of the world needs it.
        let verb = match mark {
            Mark::Manual => "add",
            Mark::Auto => "del",
        };
        self.succeed(&[&[verb], names].concat(), &mut quiet()).map(drop)
    }

    fn refresh(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        self.succeed(&["update"], sink)?;
        self.tools.fresh = true;
        Ok(())
    }

    fn fresh(&mut self) -> &mut bool {
        &mut self.tools.fresh
    }

    fn repair(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        self.succeed(&["fix"], sink).map(drop)
    }

    fn edited(&mut self, names: &[&str]) -> Result<Vec<PathBuf>, PackageError> {
        let files = self.files(names)?;
        let answer = self.succeed(&["audit"], &mut quiet())?;
        let changed =
            answer.lines().filter_map(|line| line.strip_prefix("U ")).map(|path| relative(Path::new(path.trim())));
        Ok(changed.filter(|path| files.contains(path)).collect())
    }

    fn owned(&mut self, paths: &[&Path]) -> Result<BTreeSet<PathBuf>, PackageError> {
        let files = files(&self.read(DATABASE)?, |_| true);
        Ok(paths.iter().filter(|path| files.contains(**path)).map(|path| (*path).to_owned()).collect())
    }

    fn files(&mut self, names: &[&str]) -> Result<BTreeSet<PathBuf>, PackageError> {
        Ok(files(&self.read(DATABASE)?, |name| names.contains(&name)))
    }

    fn scripts(&mut self, name: &str) -> Result<String, PackageError> {
        // apk keeps scripts in a compressed archive; only declarations can be read without unpacking it.
        let files = self.files(&[name])?;
        Ok(self.tools.with_declarations(String::new(), &files))
    }

    fn delete_account(&mut self, account: Account<'_>) -> Result<(), PackageError> {
        self.tools.delete_account(["deluser", "delgroup"], account)
    }

    fn available(&mut self, prefix: &str) -> Result<Vec<String>, PackageError> {
        let answer = self.succeed(&["search", "--quiet", &format!("{prefix}*")], &mut quiet())?;
        Ok(answer.lines().map(str::to_owned).collect())
    }
}

/// One package of apk's database: its fields by their letters.
struct Record<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Record<'a> {
    fn read(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    fn field(&self, letter: &str) -> &'a str {
        self.0.get(letter).copied().unwrap_or_default()
    }

    /// Returns the bare names of a list; conflicts are no names.
    fn terms(&self, letter: &str) -> impl Iterator<Item = &'a str> {
        self.field(letter).split_whitespace().filter(|term| !term.starts_with('!')).map(bare_name)
    }
}

/// Reads apk's database of installed packages and the world.
fn packages(database: &str, world: &str) -> PackageSet {
    let world: BTreeSet<&str> = world.split_whitespace().map(bare_name).collect();
    let records = || database.split("\n\n").map(Record::read).filter(|record| !record.field("P").is_empty());
    let mut providers = Providers::default();
    for record in records() {
        for capability in std::iter::once(record.field("P")).chain(record.terms("p")) {
            providers.add(capability, record.field("P"));
        }
    }
    let package = |record: Record<'_>| {
        let name = record.field("P");
        let package = Package {
            version: record.field("V").to_owned(),
            arch: record.field("A").to_owned(),
            state: State::Installed,
            mark: if world.contains(name) { Mark::Manual } else { Mark::Auto },
            provides: record.terms("p").map(str::to_owned).collect(),
            needs: record.terms("D").filter_map(|term| providers.resolve([term], name)).collect(),
        };
        (name.to_owned(), package)
    };
    PackageSet(records().map(package).collect())
}

/// Reads the paths of packages from the database: a folder's line comes before those of its files.
fn files(database: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let (mut is_wanted, mut folder) = (false, PathBuf::new());
    for (key, value) in database.lines().filter_map(|line| line.split_once(':')) {
        match key {
            "P" => is_wanted = wanted(value),
            "F" => {
                folder = PathBuf::from(value);
                if is_wanted && !value.is_empty() {
                    out.insert(folder.clone());
                }
            }
            "R" if is_wanted => drop(out.insert(folder.join(value))),
            _ => {}
        }
    }
    out
}

/// Reads lines such as `(1/2) Installing pcre2 (10.43-r0)` and `(2/2) Upgrading musl (1.2.4-r0 -> 1.2.4-r2)`.
fn simulation(answer: &str) -> Simulation {
    let mut out = Simulation::default();
    for line in answer.lines() {
        let Some((_, act)) = line.split_once(") ").filter(|(count, _)| count.starts_with('(')) else { continue };
        let Some((verb, rest)) = act.split_once(' ') else { continue };
        let Some((name, versions)) = rest.split_once(" (") else { continue };
        let (name, versions) = (name.to_owned(), versions.trim_end_matches(')'));
        let pair =
            || versions.split_once(" -> ").map(|(old, new)| (old.to_owned(), new.to_owned())).unwrap_or_default();
        match verb {
            "Installing" => drop(out.installs.insert(name, versions.to_owned())),
            "Upgrading" => drop(out.upgrades.insert(name, pair())),
            "Downgrading" => drop(out.downgrades.insert(name, pair())),
            "Purging" => drop(out.removals.insert(name, versions.to_owned())),
            _ => {}
        }
    }
    out
}

/// Takes the name alone of `so:libc.musl-x86_64.so.1=1`, `nginx>=1.2`, `foo~1` or `foo@edge`.
fn bare_name(term: &str) -> &str {
    term.split(['<', '>', '=', '~', '@']).next().unwrap_or(term)
}

/// Tells whether apk takes a word for a package, and not for an option, a conflict or a file.
fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._:=~@<>".contains(c);
    !word.is_empty() && !word.starts_with(['-', '!', '.']) && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "\
C:Q1abc=
P:musl
V:1.2.5-r10
A:x86_64
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755

C:Q1def=
P:nginx
V:1.28.0-r3
A:x86_64
D:/bin/sh so:libc.musl-x86_64.so.1 !nginx-old
p:cmd:nginx=1.28.0-r3
F:etc/nginx
R:nginx.conf
F:usr/sbin
R:nginx
";

    #[test]
    fn the_database_is_read() {
        let set = packages(DATABASE, "alpine-base nginx@edge\n");
        assert_eq!(set.0["nginx"].needs, [vec!["musl"]]);
        assert_eq!((set.0["nginx"].mark, set.0["musl"].mark), (Mark::Manual, Mark::Auto));
        assert_eq!(set.resolve("cmd:nginx"), Some("nginx"));
        let want = ["etc/nginx", "etc/nginx/nginx.conf", "usr/sbin", "usr/sbin/nginx"].map(PathBuf::from);
        assert_eq!(files(DATABASE, |name| name == "nginx"), want.into());
    }

    #[test]
    fn a_simulation_is_read() {
        let text = "\
(1/4) Installing pcre2 (10.43-r0)
(2/4) Upgrading musl (1.2.4-r0 -> 1.2.4-r2)
(3/4) Downgrading zlib (1.3-r1 -> 1.2-r0)
(4/4) Purging old (1-r0)
OK: 10 MiB in 20 packages
";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            simulation(text),
            Simulation {
                installs: [pair("pcre2", "10.43-r0")].into(),
                upgrades: [("musl".to_owned(), pair("1.2.4-r0", "1.2.4-r2"))].into(),
                removals: [pair("old", "1-r0")].into(),
                downgrades: [("zlib".to_owned(), pair("1.3-r1", "1.2-r0"))].into(),
            }
        );
    }
}
