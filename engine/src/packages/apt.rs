//! Drives apt and dpkg.
//!
//! Recommended packages are not installed: a candy names what it needs, and the same candy must mean the same set on every
//! distribution. A candy that wants them says `option: ["--install-recommends"]`.

mod parse;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use charly_ir::facts::PackageManager;
use charly_ir::plan::Packages;

use super::error::{Fault, PackageError};
use super::manager::{Account, Manager};
use super::runner::{Finished, Runner, Sink, Tools};
use super::set::{Mark, PackageSet};
use super::simulation::Simulation;
use super::{listed, quiet, relative, words};

/// apt, as Debian, Ubuntu and their kin have it.
#[derive(Debug)]
pub struct Apt {
    tools: Tools,
    /// The native architecture, once that was asked.
    native: Option<String>,
}

/// What every call of apt-get carries: no terminal, one answer to questions about configuration files (what the
/// administrator has stays), patience with other users of the database, nothing removed that nobody named.
const OPTIONS: [&str; 14] = [
    "-q",
    "-y",
    "-o",
    "DPkg::Lock::Timeout=600",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "APT::Get::AutomaticRemove=false",
    "-o",
    "APT::Get::HideAutoRemove=true",
];

/// How many paths are asked for in one call: far below what an argument list takes.
const PATHS_PER_CALL: usize = 500;

impl Apt {
    /// Opens the apt of a root.
    pub fn new(root: &Path, runner: Box<dyn Runner>) -> Self {
        Self { tools: Tools::new(root, runner), native: None }
    }

    /// Runs a program that only asks.
    fn ask(&mut self, argv: &[&str]) -> Result<Finished, PackageError> {
        self.tools.run_inside(argv, &mut quiet())
    }

    /// Runs apt-get; `simulate` asks it only to say what it would do.
    fn apt_get(&mut self, simulate: bool, rest: &[&str], sink: Sink<'_>) -> Result<Finished, PackageError> {
        let mut argv = vec!["apt-get"];
        argv.extend(OPTIONS);
        if simulate {
            argv.push("-s");
        }
        argv.extend(rest);
        self.tools.run_inside(&argv, sink)?.judged(PackageManager::Apt, "apt-get")
    }

    fn install_arguments<'a>(
        request: &'a Packages,
        names: &[&'a str],
        mode: &'a str,
    ) -> Result<Vec<&'a str>, PackageError> {
        // These would let apt do what was promised not to happen, or make it wait for an answer.
        let defeats = [
            "--allow-",
            "--force",
            "--autoremove",
            "--auto-remove",
            "--purge",
            "--assume-no",
            "-o",
            "-c",
            "--option",
            "--config",
        ];
        words::names(names.iter().copied(), is_name)?;
        let mut out = vec!["--no-install-recommends", mode];
        out.extend(words::options(request, &defeats)?);
        out.extend(["install", "--"]);
        out.extend(names);
        Ok(out)
    }
}

impl Manager for Apt {
    fn kind(&self) -> PackageManager {
        PackageManager::Apt
    }

    fn snapshot(&mut self) -> Result<PackageSet, PackageError> {
        let answer = self.ask(&["dpkg-query", "-W", "-f", parse::FORMAT])?.judged(self.kind(), "dpkg-query")?;
        let auto = self.ask(&["apt-mark", "showauto"])?.judged(self.kind(), "apt-mark")?;
        parse::packages(&answer.stdout, &auto.stdout)
            .ok_or_else(|| PackageError::new(Fault::Answer("dpkg-query".into())))
    }

    fn simulate_install(&mut self, request: &Packages, names: &[&str]) -> Result<Simulation, PackageError> {
        let arguments = Self::install_arguments(request, names, "-s")?;
        // What is excluded is left to `Simulation::check`: apt's `name-` would remove a package that is there.
        let finished = self.apt_get(true, &arguments, &mut quiet())?;
        Ok(parse::simulation(&finished.stdout))
    }

    fn install(&mut self, request: &Packages, names: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        let arguments = Self::install_arguments(request, names, "--no-remove")?;
        self.apt_get(false, &arguments, sink).map(drop)
    }

    fn simulate_remove(&mut self, names: &[&str]) -> Result<BTreeSet<String>, PackageError> {
        let finished = self.apt_get(true, &[&["remove", "--"], names].concat(), &mut quiet())?;
        Ok(parse::simulation(&finished.stdout).removals.into_keys().collect())
    }

    fn remove(&mut self, purge: &[&str], keep: &[&str], sink: Sink<'_>) -> Result<(), PackageError> {
        // One purge is best: scripts then find what they depend on. But apt's purge takes the configuration of every
        // package of its transaction, so where some is to stay all are removed first.
        if !keep.is_empty() {
            self.apt_get(false, &[&["remove", "--"], keep, purge].concat(), &mut *sink)?;
        }
        if !purge.is_empty() {
            self.apt_get(false, &[&["purge", "--"], purge].concat(), sink)?;
        }
        Ok(())
    }

    fn set_mark(&mut self, mark: Mark, names: &[&str]) -> Result<(), PackageError> {
        let word = match mark {
            Mark::Manual => "manual",
            Mark::Auto => "auto",
        };
        self.ask(&[&["apt-mark", word, "--"], names].concat())?.judged(self.kind(), "apt-mark").map(drop)
    }

    fn refresh(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        // Without this, apt calls an index it could not fetch a warning and goes on with the old one.
        self.apt_get(false, &["-o", "APT::Update::Error-Mode=any", "update"], sink)?;
        self.tools.fresh = true;
        Ok(())
    }

    fn fresh(&mut self) -> &mut bool {
        &mut self.tools.fresh
    }

    fn is_interrupted(&self) -> bool {
        // dpkg's journal is emptied whenever it ends by itself.
        fs::read_dir(self.tools.root().join("var/lib/dpkg/updates")).is_ok_and(|mut entries| entries.next().is_some())
    }

    fn repair(&mut self, sink: Sink<'_>) -> Result<(), PackageError> {
        let argv = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"];
        let configured = self.tools.run_inside(&argv, &mut *sink)?.judged(self.kind(), "dpkg");
        if let Err(error @ PackageError { fault: Fault::Locked(_), .. }) = configured {
            return Err(error);
        }
        // It also brings what a half-installed package lacks, so dpkg's own failure above is not yet the last word.
        self.apt_get(false, &["--no-remove", "--fix-broken", "install"], sink).map(drop)
    }

    fn edited(&mut self, names: &[&str]) -> Result<Vec<PathBuf>, PackageError> {
        // The exit status says only whether there was something to report.
        let answer = self.ask(&[&["dpkg", "--verify", "--"], names].concat())?;
        Ok(parse::edited(&answer.stdout))
    }

    fn owned(&mut self, paths: &[&Path]) -> Result<BTreeSet<PathBuf>, PackageError> {
        let mut out = BTreeSet::new();
        for paths in paths.chunks(PATHS_PER_CALL) {
            let patterns: Vec<String> = paths.iter().map(|path| parse::literal_pattern(path)).collect();
            let mut argv = vec!["dpkg-query", "-S", "--"];
            argv.extend(patterns.iter().map(String::as_str));
            // Status 1 says that some path belongs to nobody.
            let answer = self.ask(&argv)?;
            out.extend(answer.stdout.lines().filter_map(parse::owned_path).map(|path| relative(Path::new(path))));
        }
        Ok(out)
    }

    fn files(&mut self, names: &[&str]) -> Result<BTreeSet<PathBuf>, PackageError> {
        if names.is_empty() {
            return Ok(BTreeSet::new());
        }
        let answer = self.ask(&[&["dpkg-query", "-L", "--"], names].concat())?.judged(self.kind(), "dpkg-query")?;
        Ok(listed(&answer.stdout).collect())
    }

    fn scripts(&mut self, name: &str) -> Result<String, PackageError> {
        let folder = self.tools.root().join("var/lib/dpkg/info");
        // Packages whose architectures may be installed together carry theirs in the file's name.
        let native = match self.native.take() {
            Some(native) => native,
            None => self.ask(&["dpkg", "--print-architecture"])?.stdout.trim().to_owned(),
        };
        let qualified = format!("{name}:{}", self.native.insert(native));
        let mut text = String::new();
        for script in ["config", "preinst", "postinst", "prerm", "postrm"] {
            for name in [name, &qualified] {
                text.push_str(&fs::read_to_string(folder.join(format!("{name}.{script}"))).unwrap_or_default());
            }
        }
        let files = self.files(&[name])?;
        Ok(self.tools.with_declarations(text, &files))
    }

    fn delete_account(&mut self, account: Account<'_>) -> Result<(), PackageError> {
        self.tools.delete_account(["userdel", "groupdel"], account)
    }

    fn available(&mut self, prefix: &str) -> Result<Vec<String>, PackageError> {
        let answer = self.ask(&["apt-cache", "pkgnames", "--", prefix])?;
        Ok(answer.stdout.lines().map(str::to_owned).collect())
    }
}

/// Tells whether apt takes a word for one package and not for a pattern, a removal or an option.
fn is_name(word: &str) -> bool {
    let (name, version) = word.split_once('=').unwrap_or((word, "1"));
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.:".contains(&c);
    let version_char = |c: u8| c.is_ascii_alphanumeric() || b"+-.:~".contains(&c);
    name.len() > 1
        && name.bytes().all(plain)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && !name.ends_with('-')
        && !version.is_empty()
        && version.bytes().all(version_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_reach_apt() {
        for (word, want) in [
            ("nginx", true),
            ("g++", true),
            ("libc6:i386", true),
            ("nginx=1.26.3-3+deb13u7", true),
            ("nginx-", false),
            ("-y", false),
            ("ngin*", false),
            ("~nx", false),
            ("?all", false),
            ("nginx/sid", false),
            ("", false),
            ("nginx=", false),
            ("./x.deb", false),
            ("a b", false),
        ] {
            assert_eq!(is_name(word), want, "{word}");
        }
    }
}
