//! `vm show`

use charly_target_vm::machine::spec::NetworkBackend;
use charly_target_vm::machine::{Reading, Spec, State, size};
use serde_json::json;

use super::list::word;
use super::{done, machines, name};
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::{Line, columns, when};

/// Show a machine: where it stands, how it is reached, what it is made of
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = name(&args.name)?;
    let machines = machines(cx);
    let state = machines.get(&name)?;
    let stage = word(machines.stage(&state)?);
    let workspace = cx.workspace_with_mistakes();
    let reading = Reading { home: &cx.home, allow_unverified: true, making: false };
    let declared = workspace.vms().get(name.as_str()).and_then(|declared| Spec::resolve(declared, reading).ok());
    let changed = declared.map(|spec| machines.needs_reseed(&state, &spec)).transpose()?.unwrap_or(false);
    let endpoint = state.endpoint(machines.folder());
    if cx.printer.is_json() {
        let item = json!({ "stage": stage, "endpoint": endpoint, "needs_reseed": changed, "state": state });
        cx.printer.line(&Line::Item(item))?;
        return done(cx);
    }
    let mut rows = vec![
        vec!["stage".to_owned(), stage.to_owned()],
        vec!["reached as".to_owned(), format!("{}@{}:{}", endpoint.user, endpoint.host, endpoint.port)],
        vec!["instance".to_owned(), state.instance_id.to_string()],
        vec!["memory".to_owned(), size::display(state.desired.memory)],
        vec!["processors".to_owned(), state.desired.cpus.to_string()],
        vec!["disk".to_owned(), state.disk_path.display().to_string()],
    ];
    let more = [
        ("base", state.base.as_ref().map(|base| base.display().to_string())),
        ("snapshots", Some(state.snapshots.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(" "))),
        ("started", state.observed.as_ref().map(|seen| format!("{} on {}", when(seen.at), seen.accelerator))),
        ("network", state.observed.as_ref().and_then(|seen| carrier(seen.network)).map(str::to_owned)),
        ("shares", Some(shares(&state))),
        ("starts", state.desired.autostart.then(|| "with this machine".to_owned())),
        ("lives", lives(&state)),
        ("first boot", changed.then(|| format!("declared otherwise by now; `charly vm start {name} --reseed`"))),
    ];
    let more = more.into_iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
    rows.extend(more.map(|(key, value)| vec![key.to_owned(), value]));
    cx.printer.data(columns(&rows))?;
    done(cx)
}

/// Says what carries a machine's network.
fn carrier(network: NetworkBackend) -> Option<&'static str> {
    match network {
        NetworkBackend::Auto => None,
        NetworkBackend::Passt => Some("passt"),
        NetworkBackend::Qemu => Some("QEMU's own"),
    }
}

/// Names the folders that a machine shares with its host.
fn shares(state: &State) -> String {
    let shares = state.desired.shares.iter();
    shares.map(|share| format!("{} at {}", share.source.display(), share.target)).collect::<Vec<_>>().join(", ")
}

/// Says how long a machine lives, and what may happen to it without a question.
fn lives(state: &State) -> Option<String> {
    let disposition = &state.deployed.disposition;
    let Some(ephemeral) = &disposition.ephemeral else {
        return disposition.disposable.then(|| "until it is thrown away, which nobody is asked about".to_owned());
    };
    let until = state.born.zip(ephemeral.ttl).map(|(born, ttl)| when(born.saturating_add(ttl)));
    let until = until.map_or_else(|| "for a while".to_owned(), |until| format!("until {until}"));
    Some(if ephemeral.keep_on_failure { format!("{until}, longer if the last add failed") } else { until })
}
