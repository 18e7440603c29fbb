//! From resolved candies and a venue's facts to an InstallPlan.
//!
//! Invariant: nothing here reads a clock, an environment, a home folder or a file. The same candies, facts and options
//! give the same bytes.

mod candy;
mod carried;
mod checks;
mod distro;
mod expand;
mod packages;
mod repos;
mod services;
mod shell;
mod steps;
pub(crate) mod supervisord;
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use charly_ir::Digest;
use charly_ir::facts::Facts;
use charly_ir::plan::{BuilderKind, InstallPlan};

use crate::diagnostic::Diagnostics;
use crate::load::Blob;
use crate::resolve::Resolved;
use crate::spread::spread;

/// What a person decides about a compilation.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Carries what the venue cannot take as steps without effect, instead of refusing it.
    pub skip_incompatible: bool,
    /// Values for variables that candies require or accept.
    pub env: BTreeMap<String, String>,
    /// The secrets that a store has, by the names candies give them.
    pub secrets: BTreeSet<String>,
    /// What supervises the candies' services.
    pub supervisor: Supervisor,
    /// The images that builders run in, where somebody names them.
    pub builders: BTreeMap<BuilderKind, String>,
}

/// What supervises services on a venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Supervisor {
    /// systemd, as on every host.
    #[default]
    Systemd,
    /// supervisord, in a container.
    Supervisord,
    /// Nobody: services are carried for whoever runs a container, and nothing is written for them.
    Nobody,
}

/// A plan, and the bytes it refers to.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The plan.
    pub plan: InstallPlan,
    /// The bytes of every digest in the plan.
    pub blobs: BTreeMap<Digest, Blob>,
    /// What is worth knowing and stops nobody.
    pub warnings: Diagnostics,
}

/// From this many candies on, compiling them is worth a second thread.
const WORTH_A_THREAD: usize = 64;

/// Compiles candies for one venue.
///
/// All that is wrong is found in one run, over all candies.
pub fn compile(resolved: &Resolved, facts: &Facts, options: &Options) -> Result<Compiled, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut blobs = BTreeMap::new();
    let mut plan = InstallPlan::empty(facts.os.tag(), facts.arch.clone());
    let venue = candy::Venue::new(facts, options, resolved);
    let is_much = resolved.candies.len() >= WORTH_A_THREAD;
    for (compiled, bytes, findings) in spread(&resolved.candies, is_much, |candy| candy::compile(candy, &venue)) {
        found.extend(findings);
        blobs.extend(bytes);
        plan.candies.push(compiled);
    }
    if found.has_errors() {
        return Err(found);
    }
    Ok(Compiled { plan, blobs, warnings: found })
}
