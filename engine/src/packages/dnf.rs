//! Drives dnf (4 and 5) and rpm.
//!
//! Weak dependencies are not installed, for the reason given for apt; a candy that wants them says
//! `option: ["--setopt=install_weak_deps=True"]`. rpm's database is transactional: what an interrupted dnf left undone is
//! completed by the installation that follows, so there is nothing else to repair.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

use super::error::{Fault, PackageError};
use super::manager::{Account, Manager};
use super::runner::{Finished, Runner, Sink, Tools};
use super::set::{Mark, PackageSet};
use super::simulation::Simulation;
use super::{listed, quiet, words};

/// dnf, as Fedora and its kin have it.
#[derive(Debug)]
pub struct Dnf {
    tools: Tools,
    /// Whether this is dnf 5, once that was asked.
    five: Option<bool>,
}

impl Dnf {
    /// Opens the dnf of a root.
    pub fn new(root: &Path, runner: Box<dyn Runner>) -> Self {
        Self { tools: Tools::new(root, runner), five: None }
    }

    fn dnf(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        let root = format!("--installroot={}", self.tools.root().display());
        let mut argv = vec!["dnf", "--setopt=install_weak_deps=False", "--setopt=clean_requirements_on_remove=False"];
        if self.tools.is_elsewhere() {
            argv.push(&root);
        }
        argv.extend(rest);
        self.tools.run(&argv, sink)
    }

    /// Runs dnf for its effect.
    fn act(&mut self, rest: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        self.dnf(&[&["-y"], rest].concat(), sink)?.judged(PackageManager::Dnf, "dnf").map(drop)
    }

    /// Asks dnf what it would do; it then ends with a failure that is none.
    fn simulate(&mut self, rest: &[&str]) -> Result<parse::Table, PackageError> {
        let finished = self.dnf(&[&["--assumeno"], rest].concat(), &mut quiet())?;
        match parse::table(&finished.stdout) {
            Some(table) => Ok(table),
            None => finished.judged(PackageManager::Dnf, "dnf").map(|_| parse::Table::default()),
        }
    }

    fn rpm(&mut self, rest: &[&str]) -> Result<Finished, PackageError> {
        let root = self.tools.root().to_string_lossy().into_owned();
        let mut argv = vec!["rpm"];
        if self.tools.is_elsewhere() {
            argv.extend(["--root", &root]);
        }
        argv.extend(rest);
        self.tools.run(&argv, &mut quiet())
    }

    fn arguments(request: &Packages, names: &[&str]) -> Result<Vec<String>, PackageError> {
        let defeats =
            ["--allowerasing", "--installroot", "--root", "-y", "--assume", "--config", "-c", "--setopt=clean_"];
        words::names(words::all(request, names), is_name)?;
        let mut out: Vec<String> = request.exclude.iter().map(|name| format!("--exclude={name}")).collect();
        out.extend(words::options(request, &defeats)?.into_iter().map(str::to_owned));
        out.push("install".to_owned());
        if request.files.is_empty() {
            out.extend(names.iter().map(ToString::to_string));
        } else {
            out.extend(request.files.iter().cloned());
        }
        Ok(out)
    }

    fn is_five(&mut self) -> Result<bool, PackageError> {
        if self.five.is_none() {
            let answer = self.dnf(&["--version"], &mut quiet())?;
            self.five = Some(answer.stdout.starts_with("dnf5"));
        }
        Ok(self.five.unwrap_or_default())
    }
}

impl Manager for Dnf {
    fn kind(&self) -> PackageManager {
        PackageManager::Dnf
    }

    fn snapshot(&mut self) -> Result<PackageSet, PackageError> {
        let rows = self.rpm(&["-qa", "--qf", parse::FORMAT])?.judged(self.kind(), "rpm")?;
        let wanted_files = parse::file_requirements(&rows.stdout);
        // The whole list of files is large; most systems require a few dozen by path.
        let files =
            if wanted_files.is_empty() { String::new() } else { self.rpm(&["-qa", "--qf", parse::FILES])?.stdout };
        let user = self.dnf(
            &["-q", "--disablerepo=*", "repoquery", "--userinstalled", "--qf", "%{name}.%{arch}\\n"],
            &mut quiet(),
        )?;
        let user = user.judged(self.kind(), "dnf")?;
        parse::packages(&rows.stdout, &files, &user.stdout)
            .ok_or_else(|| PackageError::new(Fault::Answer("rpm".into())))
    }

    fn simulate_install(&mut self, request: &Packages, names: &[&str]) -> Result<Simulation, PackageError> {
        let arguments = Self::arguments(request, names)?;
        let table = self.simulate(&words::borrowed(&arguments))?;
        let mut out = Simulation { installs: table.installs, removals: table.removals, ..Simulation::default() };
        let changed: Vec<&str> = table.upgrades.keys().chain(table.downgrades.keys()).map(String::as_str).collect();
        if !changed.is_empty() {
            let now = self.rpm(&[&["-q", "--qf", parse::VERSIONS, "--"], changed.as_slice()].concat())?;
            let versions: BTreeMap<&str, &str> = now.stdout.lines().filter_map(|line| line.split_once('\t')).collect();
            let pair = |(name, new): (String, String)| {
                let old = versions.get(parse::without_arch(&name)).copied().unwrap_or_default().to_owned();
                (name, (old, new))
            };
            out.upgrades = table.upgrades.into_iter().map(pair).collect();
            out.downgrades = table.downgrades.into_iter().map(pair).collect();
        }
        Ok(out)
    }

    fn install(&mut self, request: &Packages, names: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        for module in &request.modules {
            self.act(&["module", "enable", module], &mut *sink)?;
        }
        let arguments = Self::arguments(request, names)?;
        self.act(&words::borrowed(&arguments), sink)
    }

    fn simulate_remove(&mut self, names: &[&str]) -> Result<BTreeSet<String>, PackageError> {
        Ok(self.simulate(&[&["remove"], names].concat())?.removals.into_keys().collect())
    }

    fn remove(&mut self, purge: &[&str], keep: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        // rpm knows no purge: it renames an edited configuration file to `.rpmsave`, which counts as what was left.
        self.act(&[&["remove"], purge, keep].concat(), sink)
    }

    fn set_mark(&mut self, mark: Mark, names: &[&str]) -> Result<(), PackageError> {
        let word = match (self.is_five()?, mark) {
            (true, Mark::Manual) => "user",
            (true, Mark::Auto) => "dependency",
            (false, Mark::Manual) => "install",
            (false, Mark::Auto) => "remove",
        };
        self.act(&[&["-q", "--disablerepo=*", "mark", word], names].concat(), &mut quiet())
    }

    fn refresh(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        // dnf 5 takes indexes of the last two days for fresh enough, and `makecache --refresh` changes nothing about that.
        self.act(&["clean", "expire-cache"], &mut *sink)?;
        self.act(&["makecache"], sink)?;
        self.tools.fresh = true;
        Ok(())
    }

    fn fresh(&mut self) -> &mut bool {
        &mut self.tools.fresh
    }

    fn repair(&mut self, _sink: Sink<'_>) -> Result<(), PackageError> {
        Ok(())
    }

    fn edited(&mut self, names: &[&str]) -> Result<Vec<PathBuf>, PackageError> {
        // The exit status says only whether there was something to report.
        let answer = self.rpm(&[&["-V", "--nodeps", "--noscripts", "--"], names].concat())?;
        Ok(parse::edited(&answer.stdout))
    }

    fn owned(&mut self, paths: &[&Path]) -> Result<BTreeSet<PathBuf>, PackageError> {
        let mut out = BTreeSet::new();
        for &path in paths {
            // One by one: the answer does not repeat the path it is about.
            let answer = self.rpm(&["-qf", "--", &format!("/{}", path.display())])?;
            if answer.is_success() {
                out.insert(path.to_owned());
            }
        }
        Ok(out)
    }

    fn files(&mut self, names: &[&str]) -> Result<BTreeSet<PathBuf>, PackageError> {
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let answer = self.rpm(&[&["-ql", "--"], names].concat())?.judged(self.kind(), "rpm")?;
        Ok(listed(&answer.stdout).collect())
    }

    fn scripts(&mut self, name: &str) -> Result<String, PackageError> {
        let text = self.rpm(&["-q", "--scripts", "--", name])?.stdout;
        let files = self.files(&[name])?;
        Ok(self.tools.with_declarations(text, &files))
    }

    fn delete_account(&mut self, account: Account<'_>) -> Result<(), PackageError> {
        self.tools.delete_account(["userdel", "groupdel"], account)
    }

    fn available(&mut self, prefix: &str) -> Result<Vec<String>, PackageError> {
        let answer = self.dnf(&["-q", "-C", "repoquery", "--qf", "%{name}\\n", &format!("{prefix}*")], &mut quiet())?;
        Ok(answer.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

/// Tells whether dnf takes a word for a package, a group, a path or a URL and not for an option or a pattern.
fn is_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._:/@~^%()=".contains(c);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}
