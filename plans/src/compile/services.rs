//! Services: units of packages, with drop-ins, and units of the candy's own.

use std::collections::BTreeMap;

use charly_ir::Text;
use charly_ir::facts::Init;
use charly_ir::plan::{self, Action, Content, CustomService, Gate, PackagedService, Phase, Placement};

use super::candy::Context;
use super::unit::{UnitFile, line, word};
use super::{Supervisor, expand, supervisord};
use crate::read::Problem;
use crate::resolve::Resolved;
use crate::schema::{Map, Restart, Scope, Service, Spanned};

/// The units of every service of a compilation, by the service's name.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<String, Vec<String>>);

impl Units {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for candy in &resolved.candies {
            for service in used(&candy.loaded.candy.service) {
                let known = units.entry(service.name.value.clone()).or_default();
                known.push(unit_name(candy.loaded.name(), service));
            }
        }
        Self(units)
    }

    /// Returns the units that a service's name may mean, the most likely first.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let mut all = self.0.get(name).cloned().unwrap_or_default();
        let plain = with_suffix(name);
        if !all.contains(&plain) {
            all.push(plain);
        }
        all
    }
}

/// Compiles the candy's services for what supervises them.
pub(super) fn compile(cx: &mut Context<'_>) {
    match cx.venue.options.supervisor {
        Supervisor::Systemd => compile_units(cx),
        Supervisor::Supervisord => supervisord::compile(cx),
        Supervisor::Nobody => {}
    }
}

fn compile_units(cx: &mut Context<'_>) {
    let candy = cx.candy;
    if cx.venue.facts.init == Init::None && !candy.service.is_empty() {
        let names: Vec<_> = candy.service.iter().map(|service| service.name.as_str()).collect();
        let reason = format!("nothing here supervises services with units: {}", names.join(", "));
        return cx.unsupported("service", &reason);
    }
    for service in used(&candy.service) {
        match &service.use_packaged {
            Some(unit) => compile_packaged(cx, service, unit),
            None => compile_custom(cx, service),
        }
    }
}

/// Returns on whose behalf a service runs.
pub(super) fn scope(service: &Service) -> plan::Scope {
    match service.scope {
        Some(Scope::User) => plan::Scope::User,
        Some(Scope::System) | None => plan::Scope::System,
    }
}

/// Adds the suffix of services to a unit's name that has none.
pub(super) fn with_suffix(unit: &str) -> String {
    const SUFFIXES: [&str; 6] = [".service", ".socket", ".timer", ".target", ".path", ".mount"];
    if SUFFIXES.iter().any(|suffix| unit.ends_with(suffix)) { unit.to_owned() } else { format!("{unit}.service") }
}

/// Returns the services that systemd uses: of two with one name, the packaged one.
fn used(services: &[Spanned<Service>]) -> impl Iterator<Item = &Spanned<Service>> {
    services.iter().filter(|service| {
        let packaged = |other: &&Spanned<Service>| other.name == service.name && other.use_packaged.is_some();
        service.use_packaged.is_some() || !services.iter().any(|other| packaged(&other))
    })
}

fn unit_name(candy: &str, service: &Service) -> String {
    match &service.use_packaged {
        Some(unit) => with_suffix(unit),
        None => format!("charly-{candy}-{}.service", service.name.value),
    }
}

fn units_folder(service: &Service) -> String {
    match service.scope {
        Some(Scope::User) => format!("{}/.config/systemd/user", Text::HOME),
        Some(Scope::System) | None => "/etc/systemd/system".to_owned(),
    }
}

fn compile_packaged(cx: &mut Context<'_>, service: &Service, unit: &Spanned<String>) {
    let unit = with_suffix(unit);
    let overrides = service.overrides.as_ref();
    let mut file = UnitFile::default();
    let after: Vec<_> = service.after.iter().chain(overrides.iter().flat_map(|overrides| &overrides.after)).collect();
    if !after.is_empty() {
        file.section("Unit");
        file.set("After", &units(&after));
    }
    let mut lines = Vec::new();
    environment(cx, &service.env, &mut lines);
    if let Some(overrides) = overrides {
        environment(cx, &overrides.env, &mut lines);
        if let Some(exec) = &overrides.exec
            && let Some(command) = command_line(cx, exec)
        {
            // An empty value drops the package's own.
            lines.push(("ExecStart", String::new()));
            lines.push(("ExecStart", command));
        }
    }
    if !lines.is_empty() {
        file.section("Service");
        for (key, value) in &lines {
            file.set(key, value);
        }
    }
    let text = file.finish();
    let drop_in = (!text.is_empty()).then(|| Placement {
        path: Text::new(format!("{}/{unit}.d/charly-{}.conf", units_folder(service), cx.loaded.name())),
        mode: 0o644,
        content: Content::Text(Text::new(text)),
    });
    let (id, title) = (format!("service:{unit}"), format!("set up the service {unit}"));
    let action =
        Action::ServicePackaged(PackagedService { unit, enable: service.enable.or(service.autostart), drop_in });
    cx.add(&id, &title, scope(service), Some(Gate::WithServices), Phase::Services, action);
}

fn compile_custom(cx: &mut Context<'_>, service: &Service) {
    let Some(exec) = &service.exec else { return };
    let unit = unit_name(cx.loaded.name(), service);
    let Some(command) = command_line(cx, exec) else { return };
    let mut file = UnitFile::default();
    file.section("Unit");
    file.set("Description", &line(&format!("{} of the candy {}", service.name.value, cx.loaded.name())));
    for (key, names) in [("After", &service.after), ("Before", &service.before)] {
        if !names.is_empty() {
            file.set(key, &units(&names.iter().collect::<Vec<_>>()));
        }
    }
    file.section("Service");
    file.set("ExecStart", &command);
    let mut lines = Vec::new();
    for (name, value) in cx.given.clone() {
        lines.push(("Environment", word(&format!("{name}={value}", value = value.as_str()), false)));
    }
    environment(cx, &service.env, &mut lines);
    for (key, value) in &lines {
        file.set(key, value);
    }
    if let Some(folder) = &service.working_directory
        && let Some(path) = cx.path(&with_home(folder))
    {
        file.set("WorkingDirectory", &line(path.as_str()));
    }
    if let Some(user) = &service.user
        && let Some(user) = cx.expand(user)
    {
        file.set("User", &line(&user));
    }
    if let Some(restart) = service.restart {
        file.set("Restart", restart_word(restart));
        if restart != Restart::No {
            // Five failures in ten seconds end systemd's patience; a second between them keeps a slow start alive.
            file.set("RestartSec", "2s");
        }
    }
    if let Some(timeout) = &service.stop_timeout {
        file.set("TimeoutStopSec", &format!("{}ms", timeout.as_millis()));
    }
    if let Some(signal) = &service.stop_signal {
        let name = signal.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        file.set("KillSignal", &line(&format!("SIG{name}")));
    }
    if let Some(output) = &service.stdout
        && let Some(value) = output_of(cx, output)
    {
        file.set("StandardOutput", &value);
    }
    file.section("Install");
    let target = match service.scope {
        Some(Scope::User) => "default.target",
        Some(Scope::System) | None => "multi-user.target",
    };
    let wanted = if service.wanted_by.is_empty() {
        target.to_owned()
    } else {
        units(&service.wanted_by.iter().collect::<Vec<_>>())
    };
    file.set("WantedBy", &wanted);
    let file = Placement {
        path: Text::new(format!("{}/{unit}", units_folder(service))),
        mode: 0o644,
        content: Content::Text(Text::new(file.finish())),
    };
    let (id, title) = (format!("service:{unit}"), format!("set up the service {unit}"));
    let enable = service.enable.or(service.autostart).unwrap_or(true);
    let action = Action::ServiceCustom(CustomService { unit, file, enable });
    cx.add(&id, &title, scope(service), Some(Gate::WithServices), Phase::Services, action);
}

/// Turns a command line into systemd's: the same words, and nothing in them expanded.
fn command_line(cx: &mut Context<'_>, exec: &Spanned<String>) -> Option<String> {
    let exec = cx.expand(&with_home(exec))?;
    let Some(words) = shlex::split(&exec).filter(|words| !words.is_empty()) else {
        cx.error(exec.span, Problem::new("the command line's quotes are not closed", "close them"));
        return None;
    };
    if words[0].starts_with(['-', '@', ':', '+', '!', '|']) {
        let hint = "begin it with the program's path";
        cx.error(exec.span, Problem::new(format!("`{}` is not a program", words[0]), hint));
        return None;
    }
    let mut line = Vec::with_capacity(words.len());
    for text in &words {
        // A leading `~/` is no shell's business here, but what its author means is clear.
        line.push(word(&expand::home(text), true));
    }
    Some(line.join(" "))
}

/// Writes what supervisord calls the home as a variable.
pub(super) fn with_home(field: &Spanned<String>) -> Spanned<String> {
    Spanned::new(field.value.replace("%(ENV_HOME)s", "${HOME}"), field.span)
}

fn environment(cx: &mut Context<'_>, env: &Map<Spanned<String>>, lines: &mut Vec<(&'static str, String)>) {
    for (name, value) in env.iter() {
        if let Some(value) = cx.expand(&with_home(value)) {
            let value = expand::home_in_value(&value);
            lines.push(("Environment", word(&format!("{}={}", name.value, value.as_str()), false)));
        }
    }
}

fn units(names: &[&Spanned<String>]) -> String {
    names.iter().map(|name| with_suffix(&line(name))).collect::<Vec<_>>().join(" ")
}

fn restart_word(restart: Restart) -> &'static str {
    match restart {
        Restart::No => "no",
        Restart::OnFailure => "on-failure",
        Restart::Always | Restart::UnlessStopped => "always",
    }
}

fn output_of(cx: &mut Context<'_>, output: &Spanned<String>) -> Option<String> {
    match output.as_str() {
        "journal" | "null" | "inherit" => Some(output.value.clone()),
        text => {
            let Some(path) = text.strip_prefix("file:") else {
                let hint = "write `journal`, `null` or `file:PATH`";
                cx.error(output.span, Problem::new(format!("`{text}` is no place for output"), hint));
                return None;
            };
            let path = cx.path(&with_home(&Spanned::new(path.to_owned(), output.span)))?;
            Some(format!("append:{}", line(path.as_str())))
        }
    }
}
