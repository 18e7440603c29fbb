//! What a machine's state remembers of the deploy on it.

use charly_ir::message::{Layer, Origin, Verdict};
use charly_plans::load::Workspace;
use charly_target_vm::machine::deployed::Held;
use charly_target_vm::machine::{Deployed, Disposition, Name};

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

/// The same for the project at hand, which is of no other interest: where it has mistakes it says nothing.
pub(crate) fn declared_here(cx: &Context, name: &Name) -> Result<(), Failure> {
    let (workspace, found) = cx.load();
    if found.has_errors() { Ok(()) } else { declared(cx, &workspace, name) }
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
    machines(cx).remember(name, |deployed| forget(deployed, deploy, candies, purge))?;
    Ok(())
}

fn forget(deployed: &mut Deployed, deploy: &str, candies: &[String], purge: bool) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_del_forgets_its_own_and_a_purge_what_was_said_of_the_machine_too() {
        let layer = |candy: &str| Layer { reference: candy.into(), candy: candy.into(), origin: Origin::ByHand };
        let held =
            |candies: &[&str]| Held { layers: candies.iter().map(|candy| layer(candy)).collect(), failed: false };
        let says = Disposition { disposable: true, ephemeral: None };
        let with = |ci: Option<Held>, disposition: &Disposition| {
            let deploys =
                ci.map(|held| ("ci".to_owned(), held)).into_iter().chain([("other".to_owned(), held(&["c"]))]);
            Deployed { disposition: disposition.clone(), deploys: deploys.collect() }
        };
        let none = Disposition::default();
        for (candies, purge, want) in [
            (&["a".to_owned()][..], false, with(Some(held(&["b"])), &says)),
            (&["a".to_owned()][..], true, with(Some(held(&["b"])), &says)),
            (&[][..], false, with(None, &says)),
            (&[][..], true, with(None, &none)),
        ] {
            let mut deployed = with(Some(held(&["a", "b"])), &says);
            forget(&mut deployed, "ci", candies, purge);
            assert_eq!(deployed, want, "{candies:?} {purge}");
        }
    }
}
