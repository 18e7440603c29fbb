//! From a deploy's name to its target.

use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::schema::{Deploy, TargetKind};
use charly_target_core::DeployTarget;
use charly_target_local::Local;

use crate::context::Context;
use crate::exit::Failure;

/// Returns a deploy's declaration. `local` needs none; any other name must be declared.
pub(crate) fn declared<'w>(workspace: &'w Workspace, name: &str) -> Result<Option<&'w DeployEntry>, Failure> {
    match workspace.deploys().get(name) {
        Some(entry) => Ok(Some(entry)),
        None if name == Local::NAME => Ok(None),
        None => {
            let known = workspace.deploys().keys().map(String::as_str).filter(|known| *known != Local::NAME);
            let known: Vec<_> = known.map(|known| format!("`{known}`")).chain([format!("`{}`", Local::NAME)]).collect();
            Err(Failure::invalid(format!("no deploy `{name}` is declared"))
                .hint(format!("declare it below `deploy:`; there is {}", known.join(", "))))
        }
    }
}

/// Makes a deploy's target. A deploy that is declared nowhere is one of this machine.
pub(crate) fn target(cx: &Context, name: &str, entry: Option<&DeployEntry>) -> Result<Box<dyn DeployTarget>, Failure> {
    let kind = entry.map_or("local", |entry| kind(&entry.deploy));
    Ok(cx.registry().make(kind, name, &serde_json::Value::Null)?)
}

/// Returns the kind of a deploy's target: what it says, or what follows from its other keys.
fn kind(deploy: &Deploy) -> &'static str {
    match deploy.target.as_ref().map(|target| target.value) {
        Some(TargetKind::Pod) => "pod",
        Some(TargetKind::Vm) => "vm",
        Some(TargetKind::K8s) => "k8s",
        Some(TargetKind::Android) => "android",
        None if deploy.vm.is_some() => "vm",
        None if deploy.box_.is_some() => "pod",
        None if deploy.k8s.is_some() => "k8s",
        Some(TargetKind::Local) | None => "local",
    }
}
