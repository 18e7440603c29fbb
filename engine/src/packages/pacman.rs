//! Drives pacman.
//!
//! Indexes are refreshed only where a package is unknown or gone from the mirror: Arch supports no partial upgrades, and
//! fresh indexes beside old packages are how one begins. A package that wants newer libraries upgrades them, which the
//! simulation shows.

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
use super::{listed, quiet, relative, words};

/// pacman, as Arch and its kin have it.
#[derive(Debug)]
pub struct Pacman {
    tools: Tools,
}

const LOCK: &str = "var/lib/pacman/db.lck";

impl Pacman {
    /// Opens the pacman of a root.
    pub fn new(root: &Path, runner: Box<dyn Runner>) -> Self {
        Self { tools: Tools::new(root, runner) }
    }

    fn pacman(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        let root = self.tools.root().to_string_lossy().into_owned();
        let mut argv = vec!["pacman"];
        if self.tools.is_elsewhere() {
            argv.extend(["--sysroot", &root]);
        }
        argv.extend(rest);
        self.tools.run(&argv, sink)
    }

    fn succeed(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<String, PackageError> {
        let finished = self.pacman(rest, sink)?;
        if finished.is_success() {
            return Ok(finished.stdout);
        }
        let mut error = PackageError::judge(self.kind(), "pacman", &finished.tail);
        if let Fault::Locked(holder @ None) = &mut error.fault {
            *holder = self.lock_holder().map(|pid| format!("process {pid}"));
        }
        Err(error)
    }

    /// Returns the process that the lock file names.
    fn lock_holder(&self) -> Option<u32> {
        fs::read_to_string(self.tools.root().join(LOCK)).ok()?.trim().parse().ok()
    }

    fn arguments(request: &Packages, names: &[&str]) -> Result<Vec<String>, PackageError> {
        let defeats = [
            "--root",
            "--sysroot",
            "--dbpath",
            "--config",
            "--ask",
            "-r",
            "-b",
            "-d",
            "--nodeps",
            "--overwrite",
            "--dbonly",
        ];
        words::names(words::all(request, names), is_name)?;
        let mut out: Vec<String> = words::options(request, &defeats)?.into_iter().map(str::to_owned).collect();
        out.extend(request.exclude.iter().map(|name| format!("--assume-installed={name}")));
        if request.files.is_empty() {
            out.extend(names.iter().map(ToString::to_string));
        } else {
            out.extend(request.files.iter().cloned());
        }
        Ok(out)
    }

    fn versions(&mut self) -> Result<BTreeMap<String, String>, PackageError> {
        let answer = self.succeed(&["-Q"], &mut quiet())?;
        let pair = |line: &str| line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
        Ok(answer.lines().filter_map(pair).collect())
    }

    /// Tells whether one version is older than another, by pacman's own comparison.
    fn is_older(&mut self, version: &str, than: &str) -> Result<bool, PackageError> {
        Ok(self.tools.run(&["vercmp", version, than], &mut quiet())?.stdout.trim() == "-1")
    }
}

impl Manager for Pacman {
    fn kind(&self) -> PackageManager {
        PackageManager::Pacman
    }

    fn snapshot(&mut self) -> Result<PackageSet, PackageError> {
        packages(&self.succeed(&["-Qi"], &mut quiet())?)
            .ok_or_else(|| PackageError::new(Fault::Answer("pacman".into())))
    }

    fn simulate_install(&mut self, request: &Packages, names: &[&str]) -> Result<Simulation, PackageError> {
        let arguments = Self::arguments(request, names)?;
        let arguments = words::borrowed(&arguments);
        let how = ["--needed", "--print", "--print-format", "%n %v"];
        let coming = self.succeed(&[&[operation(request)], &how[..], arguments.as_slice()].concat(), &mut quiet())?;
        let now = self.versions()?;
        let mut out = Simulation::default();
        for (name, new) in coming.lines().filter_map(|line| line.split_once(' ')) {
            match now.get(name) {
                None => drop(out.installs.insert(name.to_owned(), new.to_owned())),
                Some(old) if old == new => {}
                Some(old) => {
                    let older = self.is_older(new, old)?;
                    let changes = if older { &mut out.downgrades } else { &mut out.upgrades };
                    changes.insert(name.to_owned(), (old.clone(), new.to_owned()));
                }
            }
        }
        // `--print` says nothing of conflicts, which would make an installation ask to remove a package. What is in no
        // repository is not known there: with such a conflict the installation itself ends before it begins.
        if !out.installs.is_empty() && request.files.is_empty() {
            let names: Vec<&str> = out.installs.keys().map(String::as_str).collect();
            let about = self.succeed(&[&["-Si", "--"], names.as_slice()].concat(), &mut quiet())?;
            for record in records(&about) {
                for conflict in record.words("Conflicts With") {
                    if let Some(version) = now.get(conflict) {
                        out.removals.insert(conflict.to_owned(), version.clone());
                    }
                }
            }
        }
        Ok(out)
    }

    fn install(&mut self, request: &Packages, names: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        let arguments = Self::arguments(request, names)?;
        let arguments = words::borrowed(&arguments);
        // Without a terminal the answer to a conflict is no, and the transaction ends before it begins.
        let how = ["--needed", "--noconfirm", "--noprogressbar"];
        if request.files.is_empty() {
            return self.succeed(&[&["-S"], &how[..], arguments.as_slice()].concat(), sink).map(drop);
        }
        // Among the files are those of packages that nobody asked for by name.
        self.succeed(&[&["-U", "--asdeps"], &how[..], arguments.as_slice()].concat(), sink)?;
        self.set_mark(Mark::Manual, names)
    }

    fn simulate_remove(&mut self, names: &[&str]) -> Result<BTreeSet<String>, PackageError> {
        let answer = self
            .succeed(&[&["-R", "--cascade", "--print", "--print-format", "%n", "--"], names].concat(), &mut quiet())?;
        Ok(answer.lines().map(str::to_owned).collect())
    }

    fn remove(&mut self, purge: &[&str], keep: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        let base = ["-R", "--noconfirm", "--noprogressbar"];
        if keep.is_empty() {
            return self.succeed(&[&base[..], &["--nosave", "--"], purge].concat(), sink).map(drop);
        }
        // One transaction, since either may depend on the other; edited files are then left as `.pacsave`.
        self.succeed(&[&base[..], &["--"], keep, purge].concat(), sink).map(drop)
    }

    fn set_mark(&mut self, mark: Mark, names: &[&str]) -> Result<(), PackageError> {
        let word = match mark {
            Mark::Manual => "--asexplicit",
            Mark::Auto => "--asdeps",
        };
        self.succeed(&[&["-D", word, "--"], names].concat(), &mut quiet()).map(drop)
    }

    fn refresh(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        // Twice, for all of them anew: once would pass over an index that is as old, to the second, as the one that is here.
        self.succeed(&["-Syy", "--noconfirm", "--noprogressbar"], sink)?;
        self.tools.fresh = true;
        Ok(())
    }

    fn fresh(&mut self) -> &mut bool {
        &mut self.tools.fresh
    }

    fn is_interrupted(&self) -> bool {
        // A killed pacman leaves its lock behind. It names its process; where none of that number lives, nobody holds it.
        self.lock_holder().is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    }

    fn repair(&mut self, _sink: Sink<'_>) -> Result<(), PackageError> {
        if !self.is_interrupted() {
            return Ok(());
        }
        let path = self.tools.root().join(LOCK);
        fs::remove_file(&path).map_err(|error| PackageError::new(Fault::Path(path.display().to_string(), error)))
    }

    fn edited(&mut self, names: &[&str]) -> Result<Vec<PathBuf>, PackageError> {
        let answer = self.succeed(&[&["-Qii", "--"], names].concat(), &mut quiet())?;
        // Until pacman 6 `MODIFIED<tab>path`, from 7 on `path [modified]`.
        let path = |line: &str| {
            let line = line.trim_start_matches("Backup Files").trim_start_matches([' ', ':']);
            let path = line.strip_prefix("MODIFIED\t").or_else(|| line.strip_suffix(" [modified]"))?;
            Some(relative(Path::new(path.trim())))
        };
        Ok(answer.lines().filter_map(path).collect())
    }

    fn owned(&mut self, paths: &[&Path]) -> Result<BTreeSet<PathBuf>, PackageError> {
        let mut out = BTreeSet::new();
        for &path in paths {
            // One by one: the answer names the path as pacman resolved it.
            if self.pacman(&["-Qqo", "--", &format!("/{}", path.display())], &mut quiet())?.is_success() {
                out.insert(path.to_owned());
            }
        }
        Ok(out)
    }

    fn files(&mut self, names: &[&str]) -> Result<BTreeSet<PathBuf>, PackageError> {
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let answer = self.succeed(&[&["-Qlq", "--"], names].concat(), &mut quiet())?;
        Ok(listed(&answer).collect())
    }

    fn scripts(&mut self, name: &str) -> Result<String, PackageError> {
        let version = self.versions()?.remove(name).unwrap_or_default();
        let install = self.tools.root().join(format!("var/lib/pacman/local/{name}-{version}/install"));
        let files = self.files(&[name])?;
        Ok(self.tools.with_declarations(fs::read_to_string(install).unwrap_or_default(), &files))
    }

    fn delete_account(&mut self, account: Account<'_>) -> Result<(), PackageError> {
        self.tools.delete_account(["userdel", "groupdel"], account)
    }

    fn available(&mut self, prefix: &str) -> Result<Vec<String>, PackageError> {
        let answer = self.succeed(&["-Slq"], &mut quiet())?;
        Ok(answer.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
    }
}

/// Returns the operation that installs a request.
fn operation(request: &Packages) -> &'static str {
    if request.files.is_empty() { "-S" } else { "-U" }
}

/// One record of `pacman -Qi` or `-Si`.
struct Record<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Record<'a> {
    fn field(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn words(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.field(name).split_whitespace().filter(|word| *word != "None")
    }
}

fn records(answer: &str) -> impl Iterator<Item = Record<'_>> {
    let field = |line| str::split_once(line, " : ").map(|(name, value)| (name.trim(), value.trim()));
    answer
        .split("\n\n")
        .map(move |text| Record(text.lines().filter_map(field).collect()))
        .filter(|record| !record.0.is_empty())
}

/// Reads `pacman -Qi`. `None`: a record lacks its name.
fn packages(answer: &str) -> Option<PackageSet> {
    let records: Vec<Record<'_>> = records(answer).collect();
    let mut providers = Providers::default();
    for record in &records {
        let name = record.field("Name");
        if name.is_empty() {
            return None;
        }
        for capability in std::iter::once(name).chain(record.words("Provides").map(bare_name)) {
            providers.add(capability, name);
        }
    }
    let package = |record: &Record<'_>| {
        let name = record.field("Name");
        let mark = if record.field("Install Reason").starts_with("Explicitly") { Mark::Manual } else { Mark::Auto };
        let package = Package {
            version: record.field("Version").to_owned(),
            arch: record.field("Architecture").to_owned(),
            state: State::Installed,
            mark,
            provides: record.words("Provides").map(|word| bare_name(word).to_owned()).collect(),
            needs: record.words("Depends On").filter_map(|word| providers.resolve([bare_name(word)], name)).collect(),
        };
        (name.to_owned(), package)
    };
    Some(PackageSet(records.iter().map(package).collect()))
}

/// Takes the name alone of `libfoo.so=1-64` or `foo>=2`.
fn bare_name(term: &str) -> &str {
    term.split(['<', '>', '=']).next().unwrap_or(term)
}

/// Tells whether pacman takes a word for a package and not for an option.
fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._+-:=/".contains(c);
    !word.is_empty() && !word.starts_with(['-', '.']) && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacman_is_read() {
        let set = packages(include_str!("samples/pacman-Qi")).unwrap();
        let app = &set.0["app"];
        assert_eq!(
            (app.version.as_str(), app.mark, app.needs.as_slice()),
            ("1.20-1", Mark::Manual, &[vec!["libdep".to_owned()]][..])
        );
        let server = &set.0["server"];
        assert_eq!(server.needs, [vec!["libdep"], vec!["base-tool"]]);
        assert_eq!(set.0["libdep"].mark, Mark::Auto);
        assert_eq!(set.resolve("cap"), Some("libdep"));
        assert_eq!(packages("").unwrap(), PackageSet::default());
    }
}
