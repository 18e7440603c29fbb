//! What a machine's state remembers of the deploy on it.

use charly_ir::message::{Layer, Origin, Verdict};
use charly_plans::load::Workspace;
use charly_target_vm::machine::{Deployed, Name};

use super::{disposition, machines};
use crate::context::Context;
use crate::exit::Failure;

/// Remembers what the project says of a machine, where it says anything.
pub(crate) fn declared(cx: &Context, workspace: &Workspace, name: &Name) -> Result<(), Failure> {
    if let Some(declared) = disposition::declared(workspace, name)? {
        machines(cx).remember(name, |deployed| deployed.disposition = declared)?;
    }
    Ok(())
}

/// Remembers what an add came to; `None` where it broke off.
pub(crate) fn added(cx: &Context, name: &Name, verdict: Option<&Verdict>, layers: &[Layer]) -> Result<(), Failure> {
    let by_hand = || layers.iter().filter(|layer| layer.origin == Origin::ByHand).cloned().collect();
    machines(cx).remember(name, |deployed| match verdict {
        Some(Verdict::Ok) => (deployed.failed, deployed.layers) = (false, by_hand()),
        None | Some(Verdict::Failed(_) | Verdict::Invalid(_)) => deployed.failed = true,
        Some(Verdict::Refused(_) | Verdict::Cancelled | Verdict::Rebooting { .. } | Verdict::RebootDue) => {}
    })?;
    Ok(())
}

/// Remembers what was taken away: these candies, or everything where none is named. With `purge` everything is forgotten then, what
/// the deploy said of the machine as well.
pub(crate) fn removed(cx: &Context, name: &Name, candies: &[String], purge: bool) -> Result<(), Failure> {
    machines(cx).remember(name, |deployed| match (candies, purge) {
        ([], true) => *deployed = Deployed::default(),
        ([], false) => (deployed.failed, deployed.layers) = (false, Vec::new()),
        (candies, _) => deployed.layers.retain(|layer| !candies.contains(&layer.candy)),
    })?;
    Ok(())
}
