//! Checks, lowered to what an engine evaluates.

use std::collections::BTreeSet;

use charly_ir::Text;
use charly_ir::check::{Assertion, Check, Context as Situation, Matcher as IrMatcher, Protocol, Retry};
use serde_json::Value as Json;

use super::candy::{Context, slug};
use super::expand;
use super::steps::is_excluded;
use crate::read::Problem;
use crate::schema::{CheckSpec, Matcher, Matchers, Spanned, Step, StepContext, StepKind};

/// How long one attempt may take where its author says nothing, in seconds.
const TIMEOUT_S: u32 = 30;

/// The pause between attempts where its author says nothing, in milliseconds.
const INTERVAL_MS: u64 = 1000;

/// Compiles every check of the candy.
pub(super) fn compile(cx: &mut Context<'_>) -> Vec<Check> {
    let candy = cx.candy;
    let mut checks = Vec::new();
    for step in &candy.plan {
        if is_excluded(cx, step) {
            continue;
        }
        let (id, assertion, timing) = match &step.kind {
            StepKind::Check(check) => {
                let id = format!("{}:{}", check.verb.value, slug(&check.subject_text()));
                let Some(assertion) = assertion(cx, check) else { continue };
                (id, assertion, Some(&*check.fields))
            }
            StepKind::Carried { intent: crate::schema::Intent::AgentCheck, fields } => {
                let reason = "an agent or a person has to judge it".to_owned();
                let fields = serde_json::to_value(fields).unwrap_or_default();
                let id = format!("agent-check:{}", slug(&step.title));
                (id, Assertion::Carried { verb: "agent-check".to_owned(), reason, fields }, None)
            }
            StepKind::Run(_) | StepKind::Carried { .. } => continue,
        };
        let id = step.common.id.as_ref().map_or(id, |id| id.value.clone());
        let retry = timing.and_then(|fields| {
            let within_ms = fields.eventually.as_ref()?.as_millis();
            let interval_ms = fields.retry_interval.as_ref().map_or(INTERVAL_MS, |interval| interval.as_millis());
            Some(Retry { within_ms, interval_ms })
        });
        checks.push(Check {
            id: cx.unique(&id),
            title: step.title.trim().to_owned(),
            contexts: contexts(step),
            retry,
            timeout_s: timing
                .and_then(|fields| fields.timeout.as_ref())
                .map_or(TIMEOUT_S, |timeout| timeout.as_seconds()),
            assertion,
        });
    }
    checks
}

fn contexts(step: &Step) -> Vec<Situation> {
    if step.common.context.is_empty() {
        return vec![Situation::Build, Situation::Deploy, Situation::Runtime];
    }
    let contexts = step.common.context.iter().map(|context| match context.value {
        StepContext::Build => Situation::Build,
        StepContext::Deploy => Situation::Deploy,
        StepContext::Runtime => Situation::Runtime,
    });
    contexts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Compiles an assertion. What only another venue can judge is carried with the reason; mistakes give nothing.
fn assertion(cx: &mut Context<'_>, check: &CheckSpec) -> Option<Assertion> {
    let subject = Spanned::new(check.subject_text(), check.subject.span);
    let text = match expand_subject(cx, &subject) {
        Ok(text) => text,
        Err(reason) => return Some(carried(check, reason)),
    };
    let fields = &*check.fields;
    Some(match check.verb.as_str() {
        "file" => Assertion::File {
            path: path(cx, &text, &subject)?,
            exists: fields.exists,
            mode: fields.mode.as_ref().map(|mode| mode.0),
            owner: fields.owner.as_ref().map(|owner| owner.value.clone()),
            filetype: match &fields.filetype {
                Some(kind) => Some(filetype(cx, kind)?),
                None => None,
            },
            contains: matchers(cx, &fields.contains),
            sha256: fields.sha256.as_ref().map(|sha256| sha256.0.to_string()),
        },
        "command" => Assertion::Command {
            body: subject.value,
            env: fields.env.iter().map(|(name, value)| (name.value.clone(), expand::home_in_value(value))).collect(),
            exit_status: fields.exit_status,
            stdout: matchers(cx, &fields.stdout),
            stderr: matchers(cx, &fields.stderr),
        },
        "package" => Assertion::Package {
            name: cx.venue.names.choose(&fields.package_map).cloned().unwrap_or(text),
            installed: fields.installed,
            version: matchers(cx, &fields.version),
        },
        "service" => Assertion::Service {
            units: cx.venue.units.candidates(&text),
            running: fields.running,
            enabled: fields.enabled,
        },
        "port" => {
            let (protocol, number) = text.split_once(':').unwrap_or(("", &text));
            let protocol = fields.protocol.as_ref().map_or(protocol, |protocol| protocol.as_str());
            let Ok(port) = number.parse() else {
                cx.error(
                    subject.span,
                    Problem::new(format!("`{text}` is not a port"), "write a number, or as in `udp:53`"),
                );
                return None;
            };
            let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
            Assertion::Port { port, protocol, listening: fields.listening, address: fields.ip.clone() }
        }
        "process" => Assertion::Process { name: text, running: fields.running },
        "http" => {
            if !text.starts_with("http://") && !text.starts_with("https://") {
                let problem =
                    Problem::new(format!("`{text}` is not an address"), "begin it with `http://` or `https://`");
                cx.error(subject.span, problem);
                return None;
            }
            Assertion::Http {
                url: Text::new(text),
                method: fields.method.clone(),
                status: fields.status,
                body: matchers(cx, &fields.body),
                headers: matchers(cx, &fields.headers),
                allow_insecure: fields.allow_insecure,
            }
        }
        "dns" => Assertion::Dns { name: text, resolvable: fields.resolvable, addresses: fields.addresses.clone() },
        "user" => Assertion::User {
            name: Text::new(text),
            exists: fields.exists,
            uid: fields.uid,
            gid: fields.gid,
            groups: fields.groups.clone(),
            home: match &fields.home {
                Some(home) => Some(cx.path(home)?),
                None => None,
            },
            shell: fields.shell.clone(),
        },
        "group" => Assertion::Group { name: text, exists: fields.exists, gid: fields.gid },
        "kernel-param" => Assertion::KernelParam { name: text, value: matchers(cx, &fields.value) },
        "mount" => Assertion::Mount {
            path: path(cx, &text, &subject)?,
            exists: fields.exists,
            filesystem: fields.filesystem.clone(),
            source: fields.source.clone(),
            options: fields.opts.clone(),
        },
        "addr" => Assertion::Addr { address: Text::new(text), reachable: fields.reachable },
        "interface" => Assertion::Interface {
            name: text,
            exists: fields.exists,
            addresses: fields.addresses.clone(),
            mtu: fields.mtu,
        },
        "matching" => {
            let mut all = matchers(cx, &fields.contains);
            all.extend(matchers(cx, &fields.value));
            for (matcher, span) in fields.matches.iter() {
                // Bare text under `matches` is an expression.
                let (Matcher::Contains(text)
                | Matcher::Equals(text)
                | Matcher::NotContains(text)
                | Matcher::Matches(text)) = matcher;
                all.extend(expression(cx, text, span));
            }
            Assertion::Matching { value: Text::new(text), matches: all }
        }
        verb => carried(check, format!("the verb `{verb}` needs a running deploy of its own kind")),
    })
}

fn carried(check: &CheckSpec, reason: String) -> Assertion {
    let fields = check.to_json().unwrap_or(Json::Null);
    Assertion::Carried { verb: check.verb.value.clone(), reason, fields }
}

/// Replaces the variables of a check's subject, and those that a deploy's venue gives, as a host has them: ports and
/// folders are the candy's own. The error is the reason for leaving the check to other venues.
fn expand_subject(cx: &Context<'_>, subject: &Spanned<String>) -> Result<String, String> {
    let mut text = subject.value.clone();
    while let Some(start) = text.find("${HOST_PORT:") {
        let Some(end) = text[start..].find('}').map(|length| start + length) else { break };
        let port = text[start + "${HOST_PORT:".len()..end].to_owned();
        text.replace_range(start..=end, &port);
    }
    for volume in &cx.candy.volume {
        let variable = format!("${{VOLUME_CONTAINER_PATH:{}}}", volume.name.value);
        text = text.replace(&variable, &expand::home(&volume.path));
    }
    cx.variables.expand(&text).map_err(|(_, problem)| format!("{} on a host", problem.message))
}

fn path(cx: &mut Context<'_>, text: &str, subject: &Spanned<String>) -> Option<Text> {
    match expand::path(text) {
        Ok(path) => Some(Text::new(path)),
        Err(problem) => {
            cx.error(subject.span, problem);
            None
        }
    }
}

fn filetype(cx: &mut Context<'_>, kind: &Spanned<String>) -> Option<String> {
    const KINDS: [&str; 7] = ["file", "directory", "symlink", "socket", "fifo", "block", "char"];
    if !KINDS.contains(&kind.as_str()) {
        cx.error(kind.span, crate::read::unknown_word(kind, &KINDS));
        return None;
    }
    Some(kind.value.clone())
}

fn matchers(cx: &mut Context<'_>, matchers: &Matchers) -> Vec<IrMatcher> {
    let compiled = matchers.iter().filter_map(|(matcher, span)| match matcher {
        Matcher::Contains(text) => Some(IrMatcher::Contains(Text::new(text.as_str()))),
        Matcher::Equals(text) => Some(IrMatcher::Equals(Text::new(text.as_str()))),
        Matcher::NotContains(text) => Some(IrMatcher::NotContains(Text::new(text.as_str()))),
        Matcher::Matches(text) => expression(cx, text, span),
    });
    compiled.collect()
}

fn expression(cx: &mut Context<'_>, text: &str, span: crate::source::Span) -> Option<IrMatcher> {
    match regex_lite::Regex::new(text) {
        Ok(_) => Some(IrMatcher::Matches(text.to_owned())),
        Err(error) => {
            cx.error(span, format!("`{text}` is not a regular expression: {error}"));
            None
        }
    }
}
