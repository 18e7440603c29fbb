//! What a plan carries for venues other than hosts.

use std::collections::BTreeMap;

use charly_ir::plan::{Action, Artifact, Content, Op, Step};
use serde::Serialize;
use serde_json::Value as Json;

use super::candy::Context;
use crate::schema::{Candy, Intent, StepKind};

/// Carries what no engine does, with the reason.
pub(super) fn compile_unsupported(cx: &mut Context<'_>) {
    let candy = cx.candy;
    if !candy.apk.is_empty() {
        cx.unsupported("apk", "Android apps are installed on an Android device");
    }
    if !candy.localpkg.is_empty() {
        cx.unsupported("localpkg", "package files of a candy are not installed; put them in a repository");
    }
    for step in &candy.plan {
        if let StepKind::Carried { intent: intent @ (Intent::AgentRun | Intent::Include), .. } = &step.kind {
            cx.unsupported(intent.as_str(), &format!("it is for an agent: {}", step.title.trim()));
        }
    }
}

/// Compiles the files that are brought back.
pub(super) fn artifacts(cx: &mut Context<'_>) -> Vec<Artifact> {
    let candy = cx.candy;
    let artifacts = candy.artifact.iter().filter_map(|artifact| {
        Some(Artifact {
            name: artifact.name.value.clone(),
            path: cx.path(&artifact.path)?,
            mode: artifact.mode.map_or(0o600, |mode| mode.0),
            wait_s: artifact.wait_second.unwrap_or_default(),
            rewrite: artifact.rewrite.iter().map(|rewrite| (rewrite.find.clone(), rewrite.replace.clone())).collect(),
            retrieve_to: artifact.retrieve_to.value.clone(),
        })
    });
    artifacts.collect()
}

/// Returns the names of the secrets that a step refers to.
pub(super) fn secrets_of(step: &Step) -> Vec<String> {
    match &step.action {
        Action::Op(Op::Command(command)) | Action::RemovalHook(command) => command.secrets.values().cloned().collect(),
        action => match action.placement().map(|file| &file.content) {
            Some(Content::Secret(name)) => vec![name.clone()],
            _ => Vec::new(),
        },
    }
}

/// Returns the run-time and container fields that a candy has.
pub(super) fn runtime(candy: &Candy) -> BTreeMap<String, Json> {
    let Candy {
        // What a plan says in its own words.
        name: _,
        version: _,
        description: _,
        status: _,
        require: _,
        candy: _,
        package: _,
        distro: _,
        env: _,
        path_append: _,
        var: _,
        reboot: _,
        artifact: _,
        hook: _,
        localpkg: _,
        plan: _,
        // What other venues read.
        port,
        port_relay,
        route,
        volume,
        service,
        shell,
        alias,
        security,
        secret,
        data,
        extract,
        libvirt,
        engine,
        env_provide,
        env_require,
        env_accept,
        secret_require,
        secret_accept,
        mcp_provide,
        mcp_require,
        mcp_accept,
        capability,
        requires_capability,
        apk,
    } = candy;
    let mut all = BTreeMap::new();
    let mut carry = |key: &str, value: &dyn Carried| {
        if let Some(value) = value.carried() {
            all.insert(key.to_owned(), value);
        }
    };
    carry("port", port);
    carry("port_relay", port_relay);
    carry("route", route);
    carry("volume", volume);
    carry("service", service);
    carry("shell", shell);
    carry("alias", alias);
    carry("security", security);
    carry("secret", secret);
    carry("data", data);
    carry("extract", extract);
    carry("libvirt", libvirt);
    carry("engine", engine);
    carry("env_provide", env_provide);
    carry("env_require", env_require);
    carry("env_accept", env_accept);
    carry("secret_require", secret_require);
    carry("secret_accept", secret_accept);
    carry("mcp_provide", mcp_provide);
    carry("mcp_require", mcp_require);
    carry("mcp_accept", mcp_accept);
    carry("capability", capability);
    carry("requires_capability", requires_capability);
    carry("apk", apk);
    all
}

/// A field that a plan carries unless it is empty.
trait Carried {
    fn carried(&self) -> Option<Json>;
}

impl<T: Serialize> Carried for T {
    fn carried(&self) -> Option<Json> {
        // Every type of a document has text keys and finite numbers, so it always serializes.
        serde_json::to_value(self).ok().filter(|value| match value {
            Json::Null => false,
            Json::Array(items) => !items.is_empty(),
            Json::Object(entries) => !entries.is_empty(),
            _ => true,
        })
    }
}
