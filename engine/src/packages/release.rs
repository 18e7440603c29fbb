//! Which of a transaction goes when its claim ends, and which passes to another claim.
//!
//! Pure: the claims and the packages in, a plan out. Its laws, for claims A and B on any venue: adding A and releasing it
//! changes nothing; adding A and B and releasing A leaves what adding B alone leaves, B's transaction included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use charly_ir::digest::Digest;

use super::set::{Mark, PackageSet, State};
use super::transaction::Transaction;

/// What ending a claim does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReleasePlan {
    /// Packages that go with their configuration.
    pub purge: BTreeSet<String>,
    /// Packages that go and whose configuration stays, as there had been some before.
    pub remove: BTreeSet<String>,
    /// What other claims want or need, and answer for from now on.
    pub transfers: Vec<Transfer>,
    /// Marks to be put back.
    pub marks: BTreeMap<String, Mark>,
    /// Packages that stay although the transaction installed them, for something outside all claims needs them.
    pub needed: BTreeSet<String>,
    /// Packages that stay because somebody has asked the manager for them since.
    pub asked_for: BTreeSet<String>,
    /// Packages that stay newer than they were: the version before and the one after.
    pub upgraded: BTreeMap<String, (String, String)>,
}

/// Something that passes to another claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What.
    pub what: Heirloom,
    /// The claim, by its place among the others.
    pub to: usize,
}

/// What can pass to another claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heirloom {
    /// A package that came.
    Package(String),
    /// The former mark of a package that had been there.
    Mark(String),
    /// A user that came.
    User(String),
    /// A group that came.
    Group(String),
    /// A path that came, with a digest of what nobody else answers for in it.
    Path(PathBuf, Digest),
}

/// Plans the end of a claim, beside the claims that stay.
pub fn plan_release(tx: &Transaction, others: &[&Transaction], now: &PackageSet) -> ReleasePlan {
    let mut out = ReleasePlan { upgraded: tx.upgraded.clone(), ..ReleasePlan::default() };
    let wants = |name: &str| others.iter().position(|other| other.wanted.contains(name));
    let candidates: BTreeSet<&str> =
        tx.installed.keys().map(String::as_str).filter(|name| now.installed(name).is_some()).collect();
    let asked_for = |name: &str| {
        // The claim itself made its own packages manual; only a mark that changed since speaks of somebody else. Of one that
        // was released already no package is there any more, unless somebody else installed it.
        let was_auto = || tx.installed.get(name).is_some_and(|then| then.mark == Mark::Auto);
        wants(name).is_none() && (tx.is_remainder() || was_auto() && now.0[name].mark == Mark::Manual)
    };
    let stays = |name: &str| !candidates.contains(name) || wants(name).is_some() || asked_for(name);
    let held = now.hold(now.installed_names().filter(|name| stays(name)), |name| stays(name));

    // What each other claim can use, so that a package passes to one that has a use for it.
    let uses: Vec<BTreeSet<&str>> = others
        .iter()
        .map(|other| now.reach(other.wanted.iter().chain(other.installed.keys()).map(String::as_str)))
        .collect();
    for &name in candidates.iter().filter(|name| held.contains(**name)) {
        let heir = wants(name).or_else(|| uses.iter().position(|uses| uses.contains(name)));
        if let Some(to) = heir {
            out.transfers.push(Transfer { what: Heirloom::Package(name.to_owned()), to });
        } else if asked_for(name) {
            out.asked_for.insert(name.to_owned());
        } else {
            out.needed.insert(name.to_owned());
        }
        if wants(name).is_none() && !asked_for(name) && now.0[name].mark == Mark::Manual {
            out.marks.insert(name.to_owned(), Mark::Auto);
        }
    }
    for (name, then) in &tx.installed {
        let goes = match now.0.get(name).map(|package| package.state) {
            None => false,
            // Somebody removed it since and left its configuration; that goes too.
            Some(State::Residual) => !then.was_residual && wants(name).is_none(),
            Some(State::Installed | State::Broken) => !held.contains(name.as_str()),
        };
        if goes {
            if then.was_residual { &mut out.remove } else { &mut out.purge }.insert(name.clone());
        }
    }
    for name in &tx.marked {
        let Some(package) = now.installed(name) else { continue };
        if let Some(to) = wants(name) {
            out.transfers.push(Transfer { what: Heirloom::Mark(name.clone()), to });
        } else if package.mark == Mark::Manual {
            out.marks.insert(name.clone(), Mark::Auto);
        }
    }
    out
}

impl Transaction {
    /// Takes over from an ended claim what its release passes on; `me` is this claim's place among the others.
    pub fn inherit(&mut self, from: &Self, transfers: &[Transfer], me: usize) {
        for transfer in transfers.iter().filter(|transfer| transfer.to == me) {
            match &transfer.what {
                Heirloom::Package(name) => {
                    if let Some(package) = from.installed.get(name) {
                        let mark = if self.wanted.contains(name) { Mark::Manual } else { Mark::Auto };
                        let package = super::transaction::Installed { mark, ..package.clone() };
                        self.installed.insert(name.clone(), package);
                    }
                    // Whose scripts endanger what is not told; that of a path held dear by mistake is a copy more.
                    self.endangered.extend(from.endangered.iter().cloned());
                    // It had not been there before the first claim, so no mark is to be put back.
                    self.marked.remove(name);
                }
                Heirloom::Mark(name) => drop(self.marked.insert(name.clone())),
                Heirloom::User(name) => drop(self.users.insert(name.clone())),
                Heirloom::Group(name) => drop(self.groups.insert(name.clone())),
                Heirloom::Path(path, digest) => drop(self.paths.insert(path.clone(), *digest)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
