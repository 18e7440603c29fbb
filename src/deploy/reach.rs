//! How machines are reached, as the command line says it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use charly_ir::message::{Problem, SecretValue};
use charly_target_core::Interrupts;
use charly_target_vm::ssh::{Asker, Delivery, Inside, Limits, Settings, Wishes};
use rustix::process::geteuid;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{ask_secret, clean};

/// How a machine is reached over SSH. What is not given here is what `~/.ssh/config` says.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Reaching machines")]
pub(crate) struct Reach {
    /// Use this identity only
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    identity: Option<PathBuf>,
    /// Believe these known hosts only
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    known_hosts: Option<PathBuf>,
    /// Go through these machines, or with `none` straight to it
    #[arg(long, value_name = "[USER@]HOST[:PORT],…")]
    jump: Option<String>,
    /// Work on a container that runs there, as `podman:NAME`
    #[arg(long, value_name = "CONTAINER")]
    inside: Option<Inside>,
    /// Connect to this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Ask for the password that `sudo` wants there
    #[arg(long)]
    ask_sudo: bool,
    /// How charly's engine gets there: if it is not there yet, always anew, or not at all
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    engine: Engine,
    /// How long a machine may take to come back from a reboot
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    reboot_timeout: u64,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Engine {
    #[default]
    Auto,
    Scp,
    Skip,
}

impl Reach {
    /// Adds what the user's surroundings say.
    pub(crate) fn settings(&self, cx: &Context) -> Settings {
        // What is no text is nothing that a configuration could refer to.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let environment: BTreeMap<_, _> = std::env::vars_os().filter_map(text).collect();
        let local_user = environment.get("USER").or_else(|| environment.get("LOGNAME")).cloned();
        let here = |path: &PathBuf| cx.working.join(path);
        let limits = Limits::default();
        Settings {
            local_user: local_user.unwrap_or_else(|| "root".to_owned()),
            local_uid: geteuid().as_raw(),
            home: cx.home.clone(),
            config_files: vec![cx.home.join(".ssh/config"), "/etc/ssh/ssh_config".into()],
            agent: environment.get("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from),
            environment,
            asker: Arc::new(Terminal { silent: cx.printer.is_json(), interrupts: cx.interrupts.clone() }),
            unlocked: cx.unlocked.clone(),
            wishes: Wishes {
                identity: self.identity.as_ref().map(here),
                known_hosts: self.known_hosts.as_ref().map(here),
                jump: self.jump.clone(),
                port: self.port,
                inside: self.inside.clone(),
                delivery: match self.engine {
                    Engine::Auto => Delivery::Auto,
                    Engine::Scp => Delivery::Always,
                    Engine::Skip => Delivery::Never,
                },
            },
            limits: Limits { reboot: std::time::Duration::from_secs(self.reboot_timeout), ..limits },
        }
    }

    /// Asks for the password that `sudo` wants, where the user says that it wants one.
    pub(crate) fn sudo_password(&self, name: &str, interrupts: &Interrupts) -> Result<Option<SecretValue>, Failure> {
        if !self.ask_sudo {
            return Ok(None);
        }
        if let Some(password) = ask_secret(&format!("sudo password on {}", clean(name)), interrupts) {
            return Ok(Some(password));
        }
        let problem = Problem::new("nobody can be asked for the password that `sudo` wants");
        Err(Failure::new(Exit::Refused, problem.hint("run it on a terminal, or let sudo trust that user")))
    }
}

/// Whoever sits at the terminal.
#[derive(Debug)]
struct Terminal {
    silent: bool,
    interrupts: Interrupts,
}

impl Asker for Terminal {
    fn secret(&self, question: &str) -> Option<SecretValue> {
        if self.silent { None } else { ask_secret(&clean(question), &self.interrupts) }
    }
}
