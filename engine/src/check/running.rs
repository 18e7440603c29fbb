//! Looks for processes and services.

use std::fs;

use charly_ir::facts::Init;

use super::Probe;
use super::findings::{Findings, Halt, quote};
use crate::process::tree::{Stat, processes};
use crate::process::{Captured, Exit};

pub(super) fn process(probe: &Probe<'_>, name: &str, running: Option<bool>) -> Result<Findings, Halt> {
    probe.needs_live("a process")?;
    let all = processes().map_err(|error| Halt::Fail(format!("cannot list the processes: {error}")))?;
    let found = all.iter().find(|(pid, stat)| !stat.is_dead() && is_called(**pid, stat, name)).map(|(pid, _)| *pid);
    let mut findings = Findings::default();
    match (found, running.unwrap_or(true)) {
        (None, true) => findings.add(format!("wanted a process {} to run, found none", quote(name))),
        (Some(pid), false) => findings.add(format!("wanted no process {}, found one with number {pid}", quote(name))),
        _ => {}
    }
    Ok(findings)
}

fn is_called(pid: i32, stat: &Stat, name: &str) -> bool {
    if stat.comm == name {
        return true;
    }
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = String::from_utf8_lossy(arguments.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let file = first.rsplit('/').next().unwrap_or_default();
    // A login shell has a dash before its name.
    file.strip_prefix('-').unwrap_or(file) == name
}

/// A manager of units.
#[derive(Clone, Copy)]
enum Manager {
    /// The machine's.
    System,
    /// The deploying user's.
    User,
}

pub(super) fn service(
    probe: &Probe<'_>,
    units: &[String],
    running: Option<bool>,
    enabled: Option<bool>,
) -> Result<Findings, Halt> {
    match probe.context.facts.init {
        Init::Systemd => probe.needs_live("a service")?,
        Init::SystemdOffline => return offline(probe, units, running, enabled),
        Init::None => return Err(Halt::Skip("no systemd is on the venue".to_owned())),
    }
    let mut findings = Findings::default();
    let mut complaint = None;
    for unit in units {
        for manager in [Manager::System, Manager::User] {
            match show(probe, manager, unit)? {
                Ok(state) if state.is_known => {
                    state.judge(&mut findings, unit, running, enabled);
                    return Ok(findings);
                }
                Ok(_) => {}
                Err(said) => complaint = complaint.or(Some(said)),
            }
        }
    }
    let said = complaint.map(|said| format!(" ({said})")).unwrap_or_default();
    findings.add(format!("{}{said}", no_unit(units)));
    Ok(findings)
}

/// Judges units of a root in which nothing runs.
fn offline(
    probe: &Probe<'_>,
    units: &[String],
    running: Option<bool>,
    enabled: Option<bool>,
) -> Result<Findings, Halt> {
    let Some(enabled) = enabled else {
        return Err(Halt::Skip("whether a service runs can only be judged where systemd runs".to_owned()));
    };
    let mut findings = Findings::default();
    for unit in units.iter().filter(|unit| is_unit(unit)) {
        let root = format!("--root={}", probe.context.root.display());
        let Some(captured) = probe.tool(&["systemctl", &root, "is-enabled", unit])? else {
            return Err(Halt::Skip("`systemctl` is not on the venue".to_owned()));
        };
        let state = captured.stdout.text().trim().to_owned();
        if state.is_empty() || state == "not-found" {
            continue;
        }
        if running.is_some() {
            findings.add(format!("`{unit}`: whether it runs cannot be judged where systemd does not run"));
        }
        judge_enabled(&mut findings, unit, enabled, &state);
        return Ok(findings);
    }
    findings.add(no_unit(units));
    Ok(findings)
}

fn no_unit(units: &[String]) -> String {
    let tried: Vec<_> = units.iter().map(|unit| quote(unit)).collect();
    format!("wanted one of the units {}, found none", tried.join(", "))
}

/// What a manager knows of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    is_known: bool,
    active: String,
    enabled: String,
}

impl State {
    fn parse(text: &str) -> Self {
        let field = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().to_owned()
        };
        let load = field("LoadState");
        let is_known = !load.is_empty() && load != "not-found";
        Self { is_known, active: field("ActiveState"), enabled: field("UnitFileState") }
    }

    fn judge(&self, findings: &mut Findings, unit: &str, running: Option<bool>, enabled: Option<bool>) {
        let runs = matches!(self.active.as_str(), "active" | "reloading");
        if let Some(wanted) = running.filter(|wanted| *wanted != runs) {
            let wanted = if wanted { "running" } else { "not running" };
            findings.add(format!("`{unit}`: wanted it {wanted}, found it {}", quote(&self.active)));
        }
        if let Some(wanted) = enabled {
            judge_enabled(findings, unit, wanted, &self.enabled);
        }
    }
}

/// Counts as enabled what `systemctl is-enabled` does. Units that nobody can enable or disable are fine either way.
fn judge_enabled(findings: &mut Findings, unit: &str, wanted: bool, state: &str) {
    let enabled = ["enabled", "enabled-runtime", "alias", "generated"].contains(&state);
    let neither = ["static", "indirect"].contains(&state);
    if enabled != wanted && !neither {
        let wanted = if wanted { "enabled" } else { "not enabled" };
        findings.add(format!("`{unit}`: wanted it {wanted}, found it {}", quote(state)));
    }
}

/// Asks a manager about a unit; the inner error is what the manager said instead.
fn show(probe: &Probe<'_>, manager: Manager, unit: &str) -> Result<Result<State, String>, Halt> {
    if !is_unit(unit) {
        return Err(Halt::Fail(format!("{} is not a unit's name", quote(unit))));
    }
    let scope = match manager {
        Manager::System => "--system",
        Manager::User => "--user",
    };
    let argv = ["systemctl", scope, "show", "--property=LoadState,ActiveState,UnitFileState", "--", unit];
    let mut program = crate::environment::tool(&argv, probe.left());
    if let Manager::User = manager {
        // The user's manager listens in the user's run-time folder, and to the user alone.
        let folder = format!("/run/user/{}", probe.context.facts.user.uid);
        program.env.insert("DBUS_SESSION_BUS_ADDRESS".into(), format!("unix:path={folder}/bus").into());
        program.env.insert("XDG_RUNTIME_DIR".into(), folder.into());
        program.user = probe.context.run_as.cloned();
    }
    match probe.run(&program) {
        Ok(Captured { exit: Exit::Status(0), stdout, .. }) => Ok(Ok(State::parse(&stdout.text()))),
        Ok(captured) => Ok(Err(captured.stderr.text().trim().to_owned())),
        Err(super::Ran::Missing) => Err(Halt::Skip("`systemctl` is not on the venue".to_owned())),
        Err(super::Ran::Halted(halt)) => Err(halt),
    }
}

/// Tells whether a text is a unit's name and neither a path, a pattern nor an option.
fn is_unit(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    !text.is_empty() && text.len() < 256 && !text.starts_with('-') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_state_is_read_and_judged() {
        let text = |load, active, enabled| format!("ActiveState={active}\nLoadState={load}\nUnitFileState={enabled}\n");
        for (load, active, enabled, (wants_running, wants_enabled), want) in [
            ("loaded", "active", "enabled", (Some(true), Some(true)), ""),
            ("loaded", "inactive", "disabled", (None, None), ""),
            ("loaded", "failed", "static", (Some(false), Some(true)), ""),
            ("loaded", "failed", "static", (Some(false), Some(false)), ""),
            ("loaded", "activating", "", (Some(true), None), "`u`: wanted it running, found it `activating`"),
            (
                "loaded",
                "active",
                "masked",
                (Some(false), Some(true)),
                "`u`: wanted it not running, found it `active`; `u`: wanted it enabled, found it `masked`",
            ),
            ("loaded", "active", "enabled", (None, Some(false)), "`u`: wanted it not enabled, found it `enabled`"),
        ] {
            let state = State::parse(&text(load, active, enabled));
            let mut findings = Findings::default();
            state.judge(&mut findings, "u", wants_running, wants_enabled);
            assert_eq!((state.is_known, findings.into_evidence().as_str()), (true, want));
        }
        assert!(!State::parse(&text("not-found", "inactive", "")).is_known);
        assert!(!State::parse("").is_known);
    }

    #[test]
    fn odd_texts_are_no_units() {
        for (text, want) in [
            ("sshd.service", true),
            ("user@1000.service", true),
            ("dev-sda\\x2d1.device", true),
            ("", false),
            ("-f", false),
            ("*.service", false),
            ("/etc/x.service", false),
            ("a b", false),
        ] {
            assert_eq!(is_unit(text), want, "{text}");
        }
    }
}
