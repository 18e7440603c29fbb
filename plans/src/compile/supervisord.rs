//! Services in supervisord's language, for images that it runs first in.

use std::fmt::Write as _;

use charly_ir::Text;
use charly_ir::plan::{Action, Content, Gate, Phase, Placement, Scope};

use super::candy::Context;
use super::expand;
use super::services::with_home;
use crate::read::Problem;
use crate::schema::{Restart, Service, Spanned};

/// The folder of the programs, which the file that an image's supervisord starts with includes.
pub(crate) const PROGRAMS: &str = "/etc/charly/supervisord.d";

/// Compiles the candy's services. Of two with one name, supervisord takes the one with a command of its own: nobody would
/// start a unit.
pub(super) fn compile(cx: &mut Context<'_>) {
    let candy = cx.candy;
    for service in &candy.service {
        let Some(exec) = &service.exec else {
            let has_own =
                candy.service.iter().any(|other| other.name.value == service.name.value && other.exec.is_some());
            if !has_own {
                let reason = format!("supervisord cannot run the unit of `{}`", service.name.value);
                cx.unsupported("service", &reason);
            }
            continue;
        };
        if let Some(program) = program(cx, service, exec) {
            let (candy, name) = (cx.loaded.name(), &service.name.value);
            let path = Text::new(format!("{PROGRAMS}/{candy}-{name}.conf"));
            let action = Action::File(Placement { path, mode: 0o644, content: Content::Text(Text::new(program)) });
            let (id, title) = (format!("program:{name}"), format!("let supervisord run {name}"));
            cx.add(&id, &title, Scope::System, Some(Gate::WithServices), Phase::Services, action);
        }
    }
}

/// Writes a program's section.
fn program(cx: &mut Context<'_>, service: &Spanned<Service>, exec: &Spanned<String>) -> Option<String> {
    let command = cx.expand(&with_home(exec))?;
    let Some(words) = shlex::split(&command).filter(|words| !words.is_empty()) else {
        cx.error(command.span, Problem::new("the command line's quotes are not closed", "close them"));
        return None;
    };
    let words: Vec<_> = words.iter().map(|text| quote(&expand::home(text))).collect();
    let mut out = format!("[program:{}]\n", service.name.value);
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(out, "{key}={value}");
    };
    set("command", &words.join(" "));
    let mut variables: Vec<_> =
        cx.given.iter().map(|(name, value)| format!("{name}={}", quote_always(value.as_str()))).collect();
    for (name, value) in service.env.iter() {
        if let Some(value) = cx.expand(&with_home(value)) {
            let value = expand::home_in_value(&value);
            variables.push(format!("{}={}", name.value, quote_always(value.as_str())));
        }
    }
    if !variables.is_empty() {
        set("environment", &variables.join(","));
    }
    if let Some(folder) = &service.working_directory
        && let Some(path) = cx.path(&with_home(folder))
    {
        set("directory", &escape(path.as_str()));
    }
    if let Some(user) = &service.user
        && let Some(user) = cx.expand(user)
    {
        set("user", &escape(&user));
    }
    set("autostart", if service.enable.or(service.autostart).unwrap_or(true) { "true" } else { "false" });
    set(
        "autorestart",
        match service.restart {
            None | Some(Restart::OnFailure) => "unexpected",
            Some(Restart::No) => "false",
            Some(Restart::Always | Restart::UnlessStopped) => "true",
        },
    );
    if let Some(priority) = service.priority {
        set("priority", &priority.to_string());
    }
    if let Some(seconds) = &service.start_sec {
        set("startsecs", &seconds.as_seconds().to_string());
    }
    if let Some(tries) = service.start_retry {
        set("startretries", &tries.to_string());
    }
    if let Some(codes) = &service.exit_code {
        set("exitcodes", &escape(codes));
    }
    if let Some(signal) = &service.stop_signal {
        let name = signal.to_ascii_uppercase();
        set("stopsignal", name.strip_prefix("SIG").unwrap_or(&name));
    }
    if let Some(timeout) = &service.stop_timeout {
        set("stopwaitsecs", &timeout.as_seconds().to_string());
    }
    let output = match service.stdout.as_deref().map(String::as_str) {
        // What supervisord itself writes to is the container's log.
        None | Some("journal" | "inherit") => "/dev/fd/1".to_owned(),
        Some("null") => "NONE".to_owned(),
        Some(text) => {
            let path = text.strip_prefix("file:").unwrap_or(text);
            let span = service.stdout.as_ref().map_or(exec.span, |output| output.span);
            escape(cx.path(&with_home(&Spanned::new(path.to_owned(), span)))?.as_str())
        }
    };
    set("stdout_logfile", &output);
    set("stdout_logfile_maxbytes", "0");
    set("redirect_stderr", "true");
    // Its reader takes this for the beginning of a comment, whatever quotes are around it.
    if out.contains(" ;") {
        let hint = "write the command to a script, and run that";
        cx.error(exec.span, Problem::new("supervisord cannot read ` ;` in a service", hint));
        return None;
    }
    Some(out)
}

/// Writes one word, quoted where it must be.
fn quote(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@".contains(letter);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quote_always(text) }
}

fn quote_always(text: &str) -> String {
    format!("\"{}\"", escape(&text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")))
}

/// Doubles what begins an expansion.
fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are() {
        for (text, want) in [
            ("/usr/bin/x", "/usr/bin/x"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "\"100%%\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
        ] {
            assert_eq!(quote(text), want, "{text:?}");
        }
    }
}
