//! `vm ssh`

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use charly_target_vm::machine::ssh_config::quoted;

use super::{machines, name};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// Log in to a machine, or run a command in it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Log in as somebody else
    #[arg(short, long)]
    user: Option<String>,
    /// The command; the machine's shell reads it, as with `ssh` itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let machines = machines(cx);
    let state = machines.get(&name(&args.name)?)?;
    let endpoint = state.endpoint(machines.folder());
    let mut ssh = Command::new("ssh");
    // What the user's own configuration says of hosts is not meant for this one: its key is known, and no other counts.
    ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none", "-o"]);
    ssh.arg(format!("UserKnownHostsFile={}", quoted(&endpoint.known_hosts)));
    if let Some(identity) = &endpoint.identity {
        ssh.args(["-o", "IdentitiesOnly=yes", "-o"]).arg(format!("IdentityFile={}", quoted(identity)));
    }
    ssh.args(["-p", &endpoint.port.to_string(), "-l", args.user.as_ref().unwrap_or(&endpoint.user)]);
    let error = ssh.arg("--").arg(&endpoint.host).args(&args.command).exec();
    Err(Failure::error(Exit::Failed, anyhow::Error::new(error).context("`ssh` cannot be run"))
        .hint("install `openssh-client` (Debian, Ubuntu) or `openssh` (Fedora, Arch, Alpine)"))
}
