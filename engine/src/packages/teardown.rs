//! A release carried out: packages, then the paths and accounts that they leave.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use charly_ir::digest::Digest;
use charly_ir::message::Kept;

use super::accounts::{self, Accounts};
use super::error::{Fault, PackageError};
use super::manager::{Account, Manager};
use super::release::{Heirloom, ReleasePlan, Transfer};
use super::runner::Sink;
use super::set::{Mark, PackageSet, State};
use super::transaction::Transaction;
use super::tree::{self, Copy};

/// What somebody made or changed since a transaction, and that its release must not destroy unasked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Configuration files of packages that somebody edited, relative to the root.
    pub edits: BTreeSet<PathBuf>,
    /// Paths below `/etc` that the transaction made and that somebody changed since, relative to the root. They always stay.
    pub changed: BTreeSet<PathBuf>,
    /// Other paths that the transaction made and that hold data made since, relative to the root.
    pub data: BTreeSet<PathBuf>,
    /// Packages that lose their configuration only if all of this is to go: their files were edited, or their scripts would
    /// delete the data.
    pub guarded: BTreeSet<String>,
}

/// A release to be carried out.
#[derive(Debug, Clone, Copy)]
pub struct Teardown<'a> {
    /// The root.
    pub root: &'a Path,
    /// What the ended claim answers for.
    pub tx: &'a Transaction,
    /// What goes.
    pub plan: &'a ReleasePlan,
    /// What the claims that stay answer for, in the order that the plan knows.
    pub others: &'a [&'a Transaction],
    /// Paths, relative to the root, that other resources of the ledger own.
    pub claimed: &'a BTreeSet<PathBuf>,
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Torn {
    /// Packages that went.
    pub removed: BTreeSet<String>,
    /// Everything that passes to other claims, the plan's own transfers included.
    pub transfers: Vec<Transfer>,
    /// What stays on purpose.
    pub kept: Vec<Kept>,
    /// What a purge may take later; absent where that is nothing.
    pub remainder: Option<Transaction>,
}

/// How many paths below one of a transaction's are looked up in the manager's books; of more, some are surely data.
const LOOKED_UP: usize = 5000;

impl Teardown<'_> {
    /// Looks for what was made or changed since the transaction. Runs no program but those that only look.
    pub fn survey(&self, manager: &mut dyn Manager) -> Result<Survey, PackageError> {
        let mut out = Survey::default();
        let going: Vec<&str> = self.plan.purge.iter().map(String::as_str).collect();
        if !going.is_empty() {
            out.edits = manager.edited(&going)?.into_iter().collect();
        }
        for (path, digest) in self.tx.paths.iter().filter(|(path, _)| tree::may_be_data(path)) {
            if self.is_changed(manager, path, digest)? {
                if path.starts_with("etc") { &mut out.changed } else { &mut out.data }.insert(path.clone());
            }
        }
        for &name in &going {
            let is_guarded = (!out.edits.is_empty() && !manager.edited(&[name])?.is_empty())
                || (!out.data.is_empty() && names_any(&manager.scripts(name)?, &out.data));
            if is_guarded {
                out.guarded.insert(name.to_owned());
            }
        }
        if !out.guarded.is_empty() {
            // Whoever owns the data must be able to work with it again: the groups that let them stay, too.
            let groups = self.groups_of_users()?;
            for name in going {
                if !groups.is_empty() && !out.guarded.contains(name) {
                    let scripts = manager.scripts(name)?;
                    if groups.iter().any(|group| has_word(&scripts, group)) {
                        out.guarded.insert(name.to_owned());
                    }
                }
            }
        }
        Ok(out)
    }

    /// Returns the groups that the transaction made and that users of its are in.
    fn groups_of_users(&self) -> Result<BTreeSet<String>, PackageError> {
        let mut members = self.accounts()?.members;
        members.retain(|group, members| self.tx.groups.contains(group) && !members.is_disjoint(&self.tx.users));
        Ok(members.into_keys().collect())
    }

    /// Tells whether a path that the transaction made holds anything else than it did, but for what others answer for.
    fn is_changed(&self, manager: &mut dyn Manager, top: &Path, digest: &Digest) -> Result<bool, PackageError> {
        let there = tree::walk(self.root, top).map_err(|error| at(top, error))?;
        if there.is_empty() {
            return Ok(false);
        }
        if there.len() > LOOKED_UP {
            return Ok(true);
        }
        let paths: Vec<&Path> = there.keys().map(PathBuf::as_path).collect();
        Ok(self.digest(manager, top, &paths)? != *digest)
    }

    fn digest(&self, manager: &mut dyn Manager, top: &Path, paths: &[&Path]) -> Result<Digest, PackageError> {
        let owned = manager.owned(paths)?;
        let others = |path: &Path| owned.contains(path) || self.is_others(top, path);
        tree::fingerprint(self.root, top, others).map_err(|error| at(top, error))
    }

    /// Tells whether a path below one of the transaction's is another claim's, or the transaction's by a closer name.
    fn is_others(&self, top: &Path, path: &Path) -> bool {
        path.ancestors().take_while(|ancestor| *ancestor != top).any(|ancestor| {
            self.claimed.contains(ancestor)
                || self.tx.paths.contains_key(ancestor)
                || self.others.iter().any(|other| other.paths.contains_key(ancestor))
        })
    }

    /// Carries the release out. It can be repeated after an interruption: what is gone already is passed over.
    ///
    /// `purge` makes what the survey found go too, where it lies outside `/etc`.
    pub fn run(
        &self,
        manager: &mut dyn Manager,
        now: &PackageSet,
        survey: &Survey,
        purge: bool,
        sink: Sink<'_>,
    ) -> Result<Torn, PackageError> {
        // Whoever installed such a package again works with the data that an earlier one left.
        let is_somebodys = self.tx.is_remainder() && !self.plan.asked_for.is_empty();
        let purge = purge && !is_somebodys;
        let unguarded = Survey { changed: survey.changed.clone(), ..Survey::default() };
        let survey = if purge { &unguarded } else { survey };
        let mut out = Torn { transfers: self.plan.transfers.clone(), ..Torn::default() };
        self.keep_packages(&mut out);
        let mut guarded = String::new();
        for name in &survey.guarded {
            guarded.push_str(&manager.scripts(name)?);
        }
        let (going, remaining) = self.split(survey, now);
        let (going, remaining) = spare(manager, going, remaining, now, &mut out.kept)?;
        out.removed = going.iter().chain(&remaining).cloned().collect();
        if !out.removed.is_empty() {
            let mut copies = Vec::new();
            for path in &self.tx.endangered {
                copies.extend(
                    Copy::take(&self.root.join(path)).map_err(|error| at(path, error))?.map(|copy| (path, copy)),
                );
            }
            manager.remove(&refs(&going), &refs(&remaining), &mut *sink)?;
            for (path, copy) in copies {
                copy.put_back(&self.root.join(path)).map_err(|error| at(path, error))?;
            }
        }
        for mark in [Mark::Auto, Mark::Manual] {
            let wanted = self
                .plan
                .marks
                .iter()
                .filter(|(name, wanted)| **wanted == mark && is_marked_otherwise(now, name, mark));
            let names: Vec<&str> = wanted.map(|(name, _)| name.as_str()).collect();
            if !names.is_empty() {
                manager.set_mark(mark, &names)?;
            }
        }
        let heirs = self.heirs(manager)?;
        self.sweep(manager, survey, &guarded, &heirs, &mut out)?;
        let left = self.keep_paths(survey, purge, &mut out);
        self.dismiss(manager, &heirs, &mut out)?;
        if !left.is_empty() {
            out.remainder = Some(self.remainder(left, survey, &out.transfers)?);
        }
        Ok(out)
    }

    /// Returns what is left of the transaction: nothing that another claim answers for, and no package that is there.
    fn remainder(&self, left: Vec<Kept>, survey: &Survey, transfers: &[Transfer]) -> Result<Transaction, PackageError> {
        let passed = |what: &dyn Fn(&Heirloom) -> bool| transfers.iter().any(|transfer| what(&transfer.what));
        let there = self.accounts()?;
        let mut rest = self.tx.clone();
        rest.wanted.clear();
        rest.upgraded.clear();
        rest.marked.clear();
        rest.installed.retain(|name, _| survey.guarded.contains(name));
        rest.paths.retain(|path, _| {
            let stays = self.root.join(path).symlink_metadata().is_ok();
            stays && !passed(&|what| matches!(what, Heirloom::Path(other, _) if other == path))
        });
        rest.users.retain(|name| {
            there.users.contains_key(name) && !passed(&|what| matches!(what, Heirloom::User(other) if other == name))
        });
        rest.groups.retain(|name| {
            there.groups.contains_key(name) && !passed(&|what| matches!(what, Heirloom::Group(other) if other == name))
        });
        rest.left = left;
        Ok(rest)
    }

    fn keep_packages(&self, out: &mut Torn) {
        let mut keep = |subject: String, reason: &str| out.kept.push(Kept { subject, reason: reason.to_owned() });
        for name in &self.plan.needed {
            keep(name.clone(), "a package outside all deploys needs it");
        }
        for name in &self.plan.asked_for {
            keep(name.clone(), "somebody asked the package manager for it since");
        }
        for (name, (old, new)) in &self.plan.upgraded {
            keep(format!("{name} {new}"), &format!("upgraded from {old}, which cannot be undone"));
        }
    }

    /// Tells what stays of the survey; packages' scripts may have taken some of it along. Returns what a purge would take.
    fn keep_paths(&self, survey: &Survey, purge: bool, out: &mut Torn) -> Vec<Kept> {
        // rpm and pacman set an edited file aside under another name.
        let found = |path: &PathBuf| {
            let names = ["", ".rpmsave", ".pacsave"].map(|suffix| format!("{}{suffix}", path.display()));
            names.into_iter().map(PathBuf::from).find(|path| self.root.join(path).symlink_metadata().is_ok())
        };
        let kept = |paths: &BTreeSet<PathBuf>, reason: &str| -> Vec<Kept> {
            let paths = paths.iter().filter_map(found);
            paths.map(|path| Kept { subject: shown(&path), reason: reason.to_owned() }).collect()
        };
        out.kept.extend(kept(&survey.changed, "changed since it was installed"));
        let mut left = Vec::new();
        if !purge {
            left.extend(kept(&survey.edits, "edited since it was installed; `--purge` removes it"));
            left.extend(kept(&survey.data, "holds data made since it was installed; `--purge` removes it"));
        }
        out.kept.extend(left.iter().cloned());
        left
    }

    /// Decides which packages lose their configuration. Where data or edits are to be kept it stays: packages' own scripts
    /// delete data when they are purged, and data without the configuration is of little use.
    fn split(&self, survey: &Survey, now: &PackageSet) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut purge: BTreeSet<String> = self.plan.purge.difference(&survey.guarded).cloned().collect();
        let mut remove: BTreeSet<String> = self.plan.remove.union(&survey.guarded).cloned().collect();
        purge.retain(|name| now.0.contains_key(name));
        remove.retain(|name| now.installed(name).is_some());
        (purge, remove)
    }

    /// Finds what scripts and declarations of the packages that pass to other claims name: those accounts and paths pass too.
    fn heirs(&self, manager: &mut dyn Manager) -> Result<Vec<(usize, String)>, PackageError> {
        let mut out = Vec::new();
        for transfer in &self.plan.transfers {
            if let Heirloom::Package(name) = &transfer.what {
                out.push((transfer.to, manager.scripts(name)?));
            }
        }
        Ok(out)
    }

    /// Removes what the transaction made and no package took along; `guarded` holds the scripts of the survey's packages.
    fn sweep(
        &self,
        manager: &mut dyn Manager,
        survey: &Survey,
        guarded: &str,
        heirs: &[(usize, String)],
        out: &mut Torn,
    ) -> Result<(), PackageError> {
        for (top, digest) in &self.tx.paths {
            // Data without the configuration made for it would be of little use.
            if top.starts_with("etc") && names_any(guarded, &[top.clone()].into()) {
                continue;
            }
            if let Some(to) = heir(heirs, &shown(top)) {
                out.transfers.push(Transfer { what: Heirloom::Path(top.clone(), *digest), to });
                continue;
            }
            let stays = survey.data.contains(top) || survey.changed.contains(top);
            if stays || survey.edits.iter().any(|path| path.starts_with(top)) {
                continue;
            }
            let there = tree::walk(self.root, top).map_err(|error| at(top, error))?;
            if there.is_empty() {
                continue;
            }
            let paths: Vec<&Path> = there.keys().map(PathBuf::as_path).collect();
            let owned = manager.owned(&paths)?;
            // Deepest first. A folder in which something stays is not empty, and stays.
            for (path, meta) in there.iter().rev() {
                if owned.contains(path) || self.is_others(top, path) {
                    continue;
                }
                let full = self.root.join(path);
                let removed = if meta.is_dir() { fs::remove_dir(&full) } else { fs::remove_file(&full) };
                match removed {
                    Ok(()) => {}
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
                    Err(error) => return Err(at(path, error)),
                }
            }
            if let Some(to) = self.lodger(manager, top, &owned)? {
                let digest = self.digest(manager, top, &paths)?;
                out.transfers.push(Transfer { what: Heirloom::Path(top.clone(), digest), to });
            }
        }
        Ok(())
    }

    /// Finds another claim that has something below a path, which passes to it lest it be left when that goes.
    fn lodger(
        &self,
        manager: &mut dyn Manager,
        top: &Path,
        owned: &BTreeSet<PathBuf>,
    ) -> Result<Option<usize>, PackageError> {
        for (place, other) in self.others.iter().enumerate() {
            if other.paths.keys().any(|path| path != top && path.starts_with(top)) {
                return Ok(Some(place));
            }
            let names: Vec<&str> = other.installed.keys().map(String::as_str).collect();
            if !owned.is_empty() && manager.files(&names)?.iter().any(|path| owned.contains(path)) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Removes the users and groups that the transaction made and nothing uses any more.
    fn dismiss(
        &self,
        manager: &mut dyn Manager,
        heirs: &[(usize, String)],
        out: &mut Torn,
    ) -> Result<(), PackageError> {
        let mut accounts = self.accounts()?;
        let mut keep_for = |name: &String, what: fn(String) -> Heirloom| match heir(heirs, name) {
            Some(to) => {
                out.transfers.push(Transfer { what: what(name.clone()), to });
                false
            }
            None => true,
        };
        accounts.users.retain(|name, _| self.tx.users.contains(name) && keep_for(name, Heirloom::User));
        accounts.groups.retain(|name, _| self.tx.groups.contains(name) && keep_for(name, Heirloom::Group));
        if accounts.users.is_empty() && accounts.groups.is_empty() {
            return Ok(());
        }
        let used = accounts::in_use(self.root, &accounts).map_err(|error| at(Path::new("etc/passwd"), error))?;
        let used_by = "a process or a file still uses it";
        for (name, uid) in &accounts.users {
            if used.uids.contains(uid) {
                out.kept.push(Kept { subject: format!("user {name}"), reason: used_by.into() });
            } else {
                manager.delete_account(Account::User(name))?;
            }
        }
        // Removing a user may have taken the group of its name along.
        let left = self.accounts()?;
        for (name, gid) in accounts.groups.iter().filter(|(name, _)| left.groups.contains_key(*name)) {
            let is_main = left.main_groups.contains(gid);
            let has_user =
                left.members.get(name).is_some_and(|members| members.iter().any(|user| left.users.contains_key(user)));
            if used.gids.contains(gid) || is_main || has_user {
                out.kept.push(Kept { subject: format!("group {name}"), reason: used_by.into() });
            } else {
                manager.delete_account(Account::Group(name))?;
            }
        }
        Ok(())
    }

    fn accounts(&self) -> Result<Accounts, PackageError> {
        Accounts::read(self.root).map_err(|error| at(Path::new("etc/passwd"), error))
    }
}

/// Holds back packages whose removal would take others along: the dependencies read from the manager's books may know less
/// than the manager does.
fn spare(
    manager: &mut dyn Manager,
    mut purge: BTreeSet<String>,
    mut remove: BTreeSet<String>,
    now: &PackageSet,
    kept: &mut Vec<Kept>,
) -> Result<(BTreeSet<String>, BTreeSet<String>), PackageError> {
    loop {
        let installed: BTreeSet<&str> =
            purge.iter().chain(&remove).map(String::as_str).filter(|name| now.installed(name).is_some()).collect();
        if installed.is_empty() {
            return Ok((purge, remove));
        }
        let names: Vec<&str> = installed.iter().copied().collect();
        let beyond = |going: BTreeSet<String>| {
            going.into_iter().filter(|name| !installed.contains(name.as_str())).collect::<Vec<_>>()
        };
        let too_many = beyond(manager.simulate_remove(&names)?);
        if too_many.is_empty() {
            return Ok((purge, remove));
        }
        let mut guilty = Vec::new();
        for name in &names {
            if !beyond(manager.simulate_remove(&[name])?).is_empty() {
                guilty.push((*name).to_owned());
            }
        }
        if guilty.is_empty() {
            // No single package is to blame, so there is none to hold back.
            return Err(PackageError::new(Fault::WouldGoToo(too_many)));
        }
        for name in guilty {
            purge.remove(&name);
            remove.remove(&name);
            kept.push(Kept { subject: name, reason: format!("removing it would remove {}", too_many.join(", ")) });
        }
    }
}

/// Returns the claim to which a package passes whose scripts name a subject as a whole word or path.
fn heir(heirs: &[(usize, String)], subject: &str) -> Option<usize> {
    heirs.iter().find(|(_, text)| has_word(text, subject)).map(|(to, _)| *to)
}

/// Tells whether scripts name one of some paths. Its last part counts: scripts put paths together from variables.
fn names_any(scripts: &str, paths: &BTreeSet<PathBuf>) -> bool {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    paths.iter().filter_map(name).any(|name| has_word(scripts, &name))
}

/// Tells whether a text holds a word or path, whole.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

fn is_marked_otherwise(now: &PackageSet, name: &str, mark: Mark) -> bool {
    now.0.get(name).is_some_and(|package| package.state == State::Installed && package.mark != mark)
}

fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}

fn refs(names: &BTreeSet<String>) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn at(path: &Path, error: io::Error) -> PackageError {
    PackageError::new(Fault::Path(shown(path), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_whole_words() {
        let heirs = [(0, "adduser --system postgres\nmkdir /var/lib/postgresql".to_owned()), (1, "redis".to_owned())];
        for (subject, want) in [
            ("postgres", Some(0)),
            ("/var/lib/postgresql", Some(0)),
            ("/var/lib/postgres", None),
            ("redis", Some(1)),
            ("add", None),
        ] {
            assert_eq!(heir(&heirs, subject), want, "{subject}");
        }
    }
}
