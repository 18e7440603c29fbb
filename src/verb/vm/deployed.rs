//! What a machine's state remembers of the deploy on it.

use charly_ir::message::{Layer, Origin, Verdict};
use charly_plans::load::Workspace;
use charly_target_vm::machine::deployed::Held;
use charly_target_vm::machine::{Disposition, Name};

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
pub(crate) fn added(
    cx: &Context,
    name: &Name,
    deploy: &str,
    verdict: Option<&Verdict>,
    layers: &[Layer],
) -> Result<(), Failure> {
    let by_hand = || layers.iter().filter(|layer| layer.origin == Origin::ByHand).cloned().collect();
    machines(cx).remember(name, |deployed| match verdict {
        Some(Verdict::Ok) => {
            deployed.deploys.insert(deploy.to_owned(), Held { layers: by_hand(), failed: false });
        }
        None | Some(Verdict::Failed(_) | Verdict::Invalid(_)) => {
            deployed.deploys.entry(deploy.to_owned()).or_default().failed = true;
        }
        Some(Verdict::Refused(_) | Verdict::Cancelled | Verdict::Rebooting { .. } | Verdict::RebootDue) => {}
    })?;
    Ok(())
}

/// Remembers what was taken away: these candies, or everything where none is named. With `purge` even what the deploy said of the
/// machine is forgotten then.
pub(crate) fn removed(cx: &Context, name: &Name, deploy: &str, candies: &[String], purge: bool) -> Result<(), Failure> {
    machines(cx).remember(name, |deployed| {
        if !candies.is_empty() {
            if let Some(held) = deployed.deploys.get_mut(deploy) {
                held.layers.retain(|layer| !candies.contains(&layer.candy));
            }
            return;
        }
        deployed.deploys.remove(deploy);
        if purge {
            deployed.disposition = Disposition::default();
        }
    })?;
    Ok(())
}
