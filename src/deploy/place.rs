//! From what a user calls a place to the deploy there, and the target that reaches it.

use charly_ir::message::RebootPolicy;
use charly_plans::load::{DeployEntry, Workspace};
use charly_plans::schema::{TargetKind, VmSpec};
use charly_plans::source;
use charly_target_core::DeployTarget;
use charly_target_local::Local;
use charly_target_vm::machine::{Endpoint, Name, State};
use charly_target_vm::ssh::{Address, AddressError};
use serde_json::json;

use super::Reach;
use crate::context::Context;
use crate::exit::Failure;
use crate::verb;

/// What the names of machines that are reached directly begin with.
const SSH: &str = "ssh:";

/// What the names of virtual machines begin with.
const VM: &str = "vm:";

/// A place as a user names it, and what is known of it.
#[derive(Debug)]
pub(crate) struct Place {
    /// What the user calls it.
    pub(crate) name: String,
    /// The deploy's name, as the ledger there has it.
    ///
    /// A machine's own deploy is called the same whoever asks for it, from itself or over SSH.
    pub(crate) deploy: String,
    /// What is declared of it.
    pub(crate) entry: Option<DeployEntry>,
    /// What a step does that needs a reboot, where nobody says otherwise.
    pub(crate) reboot: RebootPolicy,
    /// The virtual machine it is, which may have to be started.
    pub(crate) machine: Option<Name>,
    /// What reaches it.
    pub(crate) target: Box<dyn DeployTarget>,
}

/// How a place is reached.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Ssh(Address),
    /// A virtual machine of this user's, which knows its own keys.
    Vm(Name, Endpoint),
    /// A target that is declared, and that nobody can reach yet.
    Other(&'static str),
}

/// Returns the target of this machine.
pub(crate) fn this_machine(cx: &Context) -> Result<Box<dyn DeployTarget>, Failure> {
    Ok(cx.registry(&Reach::default()).make("local", Local::NAME, &serde_json::Value::Null)?)
}

/// Finds a place that must be known: `local`, `ssh:…`, a declared machine, or a declared deploy.
pub(crate) fn declared(cx: &Context, workspace: &Workspace, name: &str, reach: &Reach) -> Result<Place, Failure> {
    let known = name == Local::NAME
        || name.starts_with(SSH)
        || workspace.deploys().contains_key(name)
        || name.strip_prefix(VM).is_some_and(|vm| workspace.vms().contains_key(vm) || is_made(cx, vm));
    if known {
        return find(cx, workspace, name, reach);
    }
    if let Some(vm) = name.strip_prefix(VM) {
        let vms: Vec<_> = workspace.vms().keys().map(|vm| format!("`{VM}{vm}`")).collect();
        let failure = Failure::invalid(format!("there is no machine `{vm}`, and none is declared"));
        return Err(failure.hint(if vms.is_empty() {
            format!("make it with `charly vm create {vm} --from debian-13`, or reach any machine as `ssh:user@host`")
        } else {
            format!("make it with `charly vm create {vm}`; declared are {}", vms.join(", "))
        }));
    }
    let known = workspace.deploys().keys().map(String::as_str).filter(|known| *known != Local::NAME);
    let known: Vec<_> = known.map(|known| format!("`{known}`")).chain([format!("`{}`", Local::NAME)]).collect();
    let failure = Failure::invalid(format!("no deploy `{name}` is declared"));
    let local = Local::NAME;
    Err(failure.hint(if workspace.candies().contains_key(name) {
        format!("`{name}` is a candy; to add it to this machine: `charly bundle add {local} {name}`")
    } else {
        format!("declare it below `deploy:`, or write `ssh:user@host`; there is {}", known.join(", "))
    }))
}

/// Finds a place. A deploy that is declared nowhere is one of this machine: its ledger may still know it.
pub(crate) fn find(cx: &Context, workspace: &Workspace, name: &str, reach: &Reach) -> Result<Place, Failure> {
    let entry = workspace.deploys().get(name).cloned();
    let kind = match name.strip_prefix(SSH) {
        Some(address) => Kind::Ssh(address.parse().map_err(|error| unnamed(&error))?),
        None => kind(cx, workspace, name, entry.as_ref())?,
    };
    if matches!(kind, Kind::Ssh(_) | Kind::Vm(..)) {
        cx.start_network()?;
    }
    let (factory, declaration) = match &kind {
        Kind::Local => ("local", serde_json::Value::Null),
        Kind::Ssh(address) => ("ssh", json!({ "address": address.to_string() })),
        Kind::Vm(_, Endpoint { host, port, user, identity, known_hosts, install }) => {
            let address = Address { user: Some(user.clone()), host: host.clone(), port: Some(*port) };
            let known_hosts = Some(known_hosts);
            let address = address.to_string();
            let own =
                json!({ "address": address, "identity": identity, "known_hosts": known_hosts, "engine": install });
            ("ssh", own)
        }
        Kind::Other(kind) => (*kind, serde_json::Value::Null),
    };
    Ok(Place {
        name: name.to_owned(),
        deploy: if name.starts_with(SSH) { Local::NAME.to_owned() } else { name.to_owned() },
        entry,
        reboot: if kind == Kind::Local { RebootPolicy::Skip } else { RebootPolicy::Perform },
        machine: match kind {
            Kind::Vm(name, _) => Some(name),
            _ => None,
        },
        target: cx.registry(reach).make(factory, name, &declaration)?,
    })
}

/// Says how a deploy is reached: what its declaration says, or what follows from its other keys.
fn kind(cx: &Context, workspace: &Workspace, name: &str, entry: Option<&DeployEntry>) -> Result<Kind, Failure> {
    let deploy = entry.map(|entry| &entry.deploy);
    let vm = deploy.and_then(|deploy| deploy.vm.as_ref()).map(|vm| vm.value.as_str());
    if let Some(vm) = vm.or_else(|| name.strip_prefix(VM)) {
        let declared_at = entry.and_then(|entry| {
            let span = entry.deploy.vm.as_ref()?.span;
            Some(source::Place { source: entry.place.source.clone(), span })
        });
        let named = match (vm.strip_prefix(VM).unwrap_or(vm).parse::<Name>(), declared_at) {
            (Err(bad), Some(place)) => return Err(verb::vm::source::misnamed(&bad, place).into()),
            _ => verb::vm::name(vm)?,
        };
        let machines = verb::vm::machines(cx);
        if let Some(state) = State::load(machines.folder(), &named)? {
            let endpoint = state.endpoint(machines.folder());
            return Ok(Kind::Vm(named, endpoint));
        }
        return Ok(Kind::Ssh(machine(vm, workspace.vms().get(vm).map(|declared| &declared.value))?));
    }
    let Some(deploy) = deploy else { return Ok(Kind::Local) };
    Ok(match deploy.target.as_ref().map(|target| target.value) {
        Some(TargetKind::Pod) => Kind::Other("pod"),
        Some(TargetKind::K8s) => Kind::Other("k8s"),
        Some(TargetKind::Android) => Kind::Other("android"),
        None if deploy.box_.is_some() => Kind::Other("pod"),
        None if deploy.k8s.is_some() => Kind::Other("k8s"),
        Some(TargetKind::Local | TargetKind::Vm) | None => match &deploy.host {
            Some(host) => Kind::Ssh(host.value.parse().map_err(|error| unnamed(&error))?),
            None => Kind::Local,
        },
    })
}

/// Returns where a machine is reached that charly did not make: at the port of this machine that its declaration names.
fn machine(vm: &str, spec: Option<&VmSpec>) -> Result<Address, Failure> {
    let ssh = spec.and_then(|spec| spec.ssh.as_ref());
    let Some(port) = ssh.and_then(|ssh| ssh.port.as_ref()) else {
        return Err(Failure::invalid(format!("there is no machine `{vm}` yet"))
            .hint(format!("make it with `charly vm create {vm}`")));
    };
    let user = ssh.and_then(|ssh| ssh.user.clone());
    Ok(Address { user, host: "127.0.0.1".to_owned(), port: Some(port.value) })
}

/// Tells whether a machine was made, whether or not this project declares it.
fn is_made(cx: &Context, vm: &str) -> bool {
    let made = |name: Name| State::load(verb::vm::machines(cx).folder(), &name).is_ok_and(|state| state.is_some());
    verb::vm::name(vm).is_ok_and(made)
}

fn unnamed(error: &AddressError) -> Failure {
    let hint = error.hint();
    Failure::invalid(error.to_string()).hint(hint)
}
