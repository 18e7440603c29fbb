//! `doctor`

use std::process::{Command, Stdio};

use anstyle::{AnsiColor, Style};
use charly_ir::facts::Init;
use charly_ir::message::DeployState;
use charly_target_core::target::Status;
use rustix::process::geteuid;
use serde_json::json;

use crate::context::{Context, FILE_NAME};
use crate::deploy::this_machine;
use crate::exit::{Exit, Outcome};
use crate::output::{Line, clean, counted, state_word};

/// Say whether charly can do its work here, and what to do where it cannot
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Health {
    Fine,
    Limited,
    Broken,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    health: Health,
    what: &'static str,
    found: String,
    hint: Option<&'static str>,
}

pub(crate) fn run(cx: &Context, _: &Args) -> Outcome {
    let mut findings = vec![project(cx)];
    let status = this_machine(cx).and_then(|target| Ok(cx.block_on(target.status())?));
    match status {
        Ok(status) => findings.extend(venue(&status)),
        Err(failure) => findings.push(Finding {
            health: Health::Broken,
            what: "engine",
            found: format!("cannot be started: {:?}", failure.cause),
            hint: Some("a folder is needed that programs can be started from: ~/.cache/charly or /var/tmp"),
        }),
    }
    findings.extend([sudo(), git(), images(cx)]);
    let broken = findings.iter().any(|finding| finding.health == Health::Broken);
    let exit = if broken { Exit::Failed } else { Exit::Done };
    for Finding { health, what, found, hint } in &findings {
        if cx.printer.is_json() {
            let item = json!({ "health": health, "what": what, "found": found, "hint": hint });
            cx.printer.line(&Line::Item(item))?;
            continue;
        }
        let (style, word) = match health {
            Health::Fine => (AnsiColor::Green.on_default(), "fine   "),
            Health::Limited => (AnsiColor::Yellow.on_default(), "limited"),
            Health::Broken => (AnsiColor::Red.on_default().bold(), "broken "),
        };
        let dim = Style::new().dimmed();
        let hint = hint.map(|hint| format!("  {dim}{hint}{dim:#}")).unwrap_or_default();
        cx.printer.data(format_args!("{style}{word}{style:#}  {what}: {}{hint}\n", clean(found)))?;
    }
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(exit, None))?;
    }
    Ok(exit)
}

fn project(cx: &Context) -> Finding {
    match cx.workspace() {
        Ok(workspace) => {
            let (candies, deploys) = (workspace.candies().len(), counted(workspace.deploys().len(), "deploy"));
            if cx.project.join(FILE_NAME).exists() {
                fine("project", format!("{}, {candies} candies, {deploys}", cx.project.display()))
            } else {
                fine("project", format!("none here; {candies} candies, {deploys}"))
            }
        }
        Err(_) => Finding {
            health: Health::Broken,
            what: "project",
            found: format!("{} has mistakes", cx.project.display()),
            hint: Some("`charly validate` shows them"),
        },
    }
}

fn venue(Status { facts, deploys }: &Status) -> Vec<Finding> {
    let user = &facts.user;
    let mut findings = vec![
        fine("engine", format!("starts on {}, {}", facts.os.pretty_name, facts.arch)),
        fine("user", format!("{} ({}), home {}, shell {}", user.name, user.uid, user.home, user.shell)),
        match facts.package_manager {
            Some(manager) => fine("packages", manager.name().to_owned()),
            None => limited("packages", "no known manager".into(), "candies with packages cannot be added"),
        },
        match facts.init {
            Init::Systemd => fine("services", "systemd".to_owned()),
            Init::SystemdOffline => {
                limited("services", "systemd, not running".into(), "units are enabled, not started")
            }
            Init::None => limited("services", "no systemd".into(), "candies with services cannot be added"),
        },
    ];
    for deploy in deploys {
        let found = format!("`{}` is {}", deploy.name, state_word(deploy.state));
        findings.push(match deploy.state {
            DeployState::Complete => fine("ledger", found),
            DeployState::Interrupted => limited("ledger", found, "`charly bundle add` goes on"),
            DeployState::UndoPending => limited("ledger", found, "`charly bundle del` goes on"),
        });
    }
    findings
}

fn sudo() -> Finding {
    if geteuid().is_root() {
        return fine("sudo", "not needed by root".to_owned());
    }
    match quiet(Command::new("sudo").args(["-n", "-v"])) {
        Some(true) => fine("sudo", "grants root without a password".to_owned()),
        Some(false) => fine("sudo", "wants a password first".to_owned()),
        None => limited("sudo", "not there".into(), "only what belongs to the user can be added"),
    }
}

fn git() -> Finding {
    match quiet(Command::new("git").arg("--version")) {
        Some(true) => fine("git", "there".to_owned()),
        _ => limited("git", "not there".into(), "candies of other repositories cannot be fetched"),
    }
}

/// Looks for what images and builders need.
fn images(cx: &Context) -> Finding {
    let runtime = cx.sandbox().runtime;
    let is_there = |program: &str| quiet(Command::new(program).arg("--version")).is_some();
    if quiet(Command::new(&runtime).arg("--version")).is_none() {
        let hint = "candies that run something cannot be put into images, nor built: `sudo apt-get install crun`";
        return limited("images", "no OCI runtime".into(), hint);
    }
    if !geteuid().is_root() && !is_there("newuidmap") {
        return limited("images", "no `newuidmap`".into(), "`sudo apt-get install uidmap`");
    }
    if !is_there("mmdebstrap") {
        let hint = "`base: bootstrap:…` and builders need it: `sudo apt-get install mmdebstrap`";
        return limited("images", format!("{}, no `mmdebstrap`", runtime.display()), hint);
    }
    fine("images", format!("{}, mmdebstrap", runtime.display()))
}

/// Runs a program for its exit status; nothing where it is not there.
fn quiet(command: &mut Command) -> Option<bool> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.ok().map(|status| status.success())
}

fn fine(what: &'static str, found: String) -> Finding {
    Finding { health: Health::Fine, what, found, hint: None }
}

fn limited(what: &'static str, found: String, hint: &'static str) -> Finding {
    Finding { health: Health::Limited, what, found, hint: Some(hint) }
}
