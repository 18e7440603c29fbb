//! Whether units are enabled and active.

use std::io;

use super::{Effect, Looked, Report, Undo};
use crate::ledger::UnitState;
use crate::tool::{self, Tool};
use crate::venue::Venue;
use crate::worker::{WorkError, detail};
use charly_ir::facts::Init;
use charly_ir::message::{Change, Problem};

/// Looks at a unit.
pub(super) fn observe(venue: &Venue, user: bool, name: &str) -> Result<UnitState, WorkError> {
    match venue.facts.init {
        Init::Systemd => {
            let properties = ["--property=LoadState", "--property=ActiveState", "--property=UnitFileState"];
            let output = systemctl(venue, user, &[&["show"], &properties[..], &["--", name]].concat()).run(venue)?;
            let value = |key: &str| {
                let prefix = format!("{key}=");
                output.stdout.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
            };
            Ok(UnitState {
                exists: !matches!(value("LoadState").as_str(), "not-found" | ""),
                enabled: matches!(value("UnitFileState").as_str(), "enabled" | "enabled-runtime" | "alias" | "linked"),
                active: matches!(value("ActiveState").as_str(), "active" | "activating" | "reloading"),
            })
        }
        Init::SystemdOffline | Init::None => {
            let enabled = is_enabled_offline(venue, user, name);
            Ok(UnitState { exists: true, enabled, active: false })
        }
    }
}

/// Compares a unit with what is wanted.
pub(super) fn look(venue: &Venue, user: bool, name: &str, want: &UnitState) -> Result<Looked, WorkError> {
    let actual = observe(venue, user, name)?;
    let live = venue.facts.init == Init::Systemd;
    let mut parts = Vec::new();
    if actual.enabled != want.enabled {
        parts.push(if want.enabled { "it is not enabled" } else { "it is enabled" });
    }
    if live && actual.active != want.active {
        parts.push(if want.active { "it does not run" } else { "it runs" });
    }
    let difference = (!parts.is_empty()).then(|| parts.join(", "));
    Ok(Looked { difference, absent: !actual.enabled && !actual.active })
}

/// Enables and starts a unit, or disables and stops it.
pub(super) fn converge(effect: &mut Effect<'_>, user: bool, name: &str, want: &UnitState) -> Result<(), WorkError> {
    set(effect.venue, user, name, want)
}

/// Puts a unit back to how it was found. A unit whose file goes with the same step is stopped and disabled first.
pub(super) fn restore(undo: &mut Undo<'_>, user: bool, name: &str, before: &UnitState) -> Result<Report, WorkError> {
    let actual = observe(undo.venue, user, name)?;
    if !actual.exists {
        return Ok(Report::default());
    }
    if (actual.enabled, actual.active) != (before.enabled, before.active) {
        set(undo.venue, user, name, before)?;
    }
    let what = if user { "user unit" } else { "unit" };
    Ok(Report { kept: Vec::new(), details: vec![detail(Change::Remove, what, name, None)], remainder: None })
}

/// Lets systemd read unit files anew, after some were placed or removed.
pub(crate) fn reload(venue: &Venue, user: bool) -> Result<(), WorkError> {
    if venue.facts.init != Init::Systemd {
        return Ok(());
    }
    systemctl(venue, user, &["daemon-reload"]).run(venue)?.success()?;
    Ok(())
}

/// Lets a running service take changed files up: by a reload where the service has one, else by a restart.
pub(crate) fn refresh(venue: &Venue, user: bool, name: &str, restart: bool) -> Result<(), WorkError> {
    if venue.facts.init != Init::Systemd {
        return Ok(());
    }
    let verb = if restart { "try-restart" } else { "try-reload-or-restart" };
    let output = systemctl(venue, user, &[verb, "--", name]).run(venue)?;
    // A unit whose package went with this very step is nothing to refresh.
    if output.is_success() || !observe(venue, user, name)?.exists {
        return Ok(());
    }
    Err(failed_to(if restart { "restart" } else { "reload" }, venue, user, name, &output))
}

fn set(venue: &Venue, user: bool, name: &str, want: &UnitState) -> Result<(), WorkError> {
    let verb = if want.enabled { "enable" } else { "disable" };
    match venue.facts.init {
        Init::Systemd => {
            reload(venue, user)?;
            systemctl(venue, user, &[verb, "--", name]).run(venue)?.success()?;
            let verb = if want.active { "start" } else { "stop" };
            let output = systemctl(venue, user, &[verb, "--", name]).run(venue)?;
            if !output.is_success() {
                return Err(failed_to(verb, venue, user, name, &output));
            }
            Ok(())
        }
        Init::SystemdOffline => {
            let root = format!("--root={}", venue.root.outside("/").display());
            let mut tool = Tool::new("systemctl").arg(&root);
            if user {
                tool = tool.arg("--global");
            }
            tool.args([verb, "--", name]).run_outside()?.success()?;
            Ok(())
        }
        Init::None => {
            let problem = Problem::new(format!("cannot {verb} `{name}`: the venue has no systemd"))
                .hint("leave services out with a venue that has none, or pass over them with --skip-incompatible");
            Err(WorkError::Program(Box::new(problem)))
        }
    }
}

/// Tells why a unit does not start, by what its journal says.
fn failed_to(verb: &str, venue: &Venue, user: bool, name: &str, output: &tool::Output) -> WorkError {
    let mut problem = Problem::new(format!("`{name}` does not {verb}")).because(output.stderr.trim().to_owned());
    let manager = if user { "--user-unit" } else { "--unit" };
    let journal = Tool::new("journalctl").args(["--no-pager", "--quiet", "--lines=10", "--output=cat", manager, name]);
    if let Ok(log) = journal.run(venue)
        && !log.stdout.trim().is_empty()
    {
        problem = problem.because(log.stdout.trim().to_owned());
    }
    let user = if user { "--user " } else { "" };
    WorkError::Program(Box::new(problem.hint(format!("`systemctl {user}status {name}` tells more"))))
}

fn systemctl(venue: &Venue, user: bool, args: &[&str]) -> Tool {
    let mut tool = Tool::new("systemctl");
    if user {
        let uid = venue.facts.user.uid;
        tool = tool
            .arg("--user")
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path=/run/user/{uid}/bus"));
    }
    tool.args(args.iter().copied())
}

/// Looks for the link that enables a unit in a root where nothing runs.
fn is_enabled_offline(venue: &Venue, user: bool, name: &str) -> bool {
    let base = venue.root.outside(if user { "/etc/systemd/user" } else { "/etc/systemd/system" });
    let wanted_here = |folder: io::Result<std::fs::DirEntry>| {
        folder.is_ok_and(|folder| {
            let is_wants =
                folder.path().extension().is_some_and(|extension| extension == "wants" || extension == "requires");
            is_wants && folder.path().join(name).symlink_metadata().is_ok()
        })
    };
    std::fs::read_dir(base).into_iter().flatten().any(wanted_here)
}
