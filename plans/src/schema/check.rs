//! What a candy asserts.

use serde_json::{Map as JsonMap, Value as Json};

use super::matcher::Matchers;
use super::step::{Intent, StepCommon, step_schema};
use super::values::{Duration, Mode, Sha256};
use crate::diagnostic::{Diagnostic, suggestion};
use crate::read::{Definitions, Fields, FromYaml, Map, Problem, Reader, Spanned, listing, record};
use crate::source::Span;

/// An assertion: a verb, what it is about, and its modifiers.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckSpec {
    /// The verb.
    pub verb: Spanned<String>,
    /// What it is about.
    pub subject: Spanned<Json>,
    /// The modifiers that charly evaluates.
    pub fields: Box<CheckFields>,
    /// Modifiers that other venues evaluate, and unknown ones.
    pub carried: Map<Json>,
}

/// The verbs that host venues evaluate.
pub(crate) const HOST_VERBS: &[&str] = &[
    "file",
    "command",
    "package",
    "service",
    "port",
    "process",
    "http",
    "dns",
    "user",
    "group",
    "kernel-param",
    "mount",
    "addr",
    "interface",
    "matching",
];

/// Every known verb, the carried ones included.
pub(crate) const CHECK_VERBS: &[&str] = &[
    "file",
    "command",
    "package",
    "service",
    "port",
    "process",
    "http",
    "dns",
    "user",
    "group",
    "kernel-param",
    "mount",
    "addr",
    "interface",
    "matching",
    "mcp",
    "k8s",
    "wl",
    "adb",
    "cdp",
    "vnc",
    "dbus",
    "appium",
];

/// Modifiers of the live verbs, known and carried.
const CARRIED: &[&str] = &[
    "tool",
    "input",
    "mcp_name",
    "action",
    "arg",
    "text",
    "cluster",
    "k8s_count",
    "request_body",
    "artifact",
    "artifact_min_bytes",
    "selector",
    "strategy",
    "expression",
    "attribute",
    "property",
    "params",
    "percent",
    "direction",
    "keycode",
    "app_id",
    "activity",
    "caps",
    "path",
    "apk",
    "name",
    "namespace",
];

record! {
    /// The modifiers that charly evaluates.
    pub struct CheckFields {
        /// The exit status (command).
        pub exit_status as "exit_status" | "exit_code": Option<i32>,
        /// Conditions on the standard output (command).
        pub stdout: Matchers,
        /// Conditions on the standard error (command).
        pub stderr: Matchers,
        /// Variables for the body (command).
        pub env: Map<Spanned<String>>,
        /// Whether it starts at boot (service).
        pub enabled: Option<bool>,
        /// Whether it runs (service, process).
        pub running: Option<bool>,
        /// Whether it is installed (package).
        pub installed: Option<bool>,
        /// Whether a connection is accepted (addr).
        pub reachable: Option<bool>,
        /// Whether something listens (port).
        pub listening: Option<bool>,
        /// Whether the name has an address (dns).
        pub resolvable: Option<bool>,
        /// Whether it is there (file, user, group, mount, interface).
        pub exists: Option<bool>,
        /// The mode (file).
        pub mode: Option<Spanned<Mode>>,
        /// The owner (file).
        pub owner: Option<Spanned<String>>,
        /// The kind of file (file).
        pub filetype: Option<Spanned<String>>,
        /// Conditions on the content (file, matching).
        pub contains: Matchers,
        /// The SHA-256 of the content (file).
        pub sha256: Option<Spanned<Sha256>>,
        /// Conditions on the version (package).
        pub version: Matchers,
        /// The package's name by distribution (package).
        pub package_map: Map<String>,
        /// The method (http).
        pub method: Option<String>,
        /// The status (http).
        pub status: Option<u16>,
        /// Conditions on the body (http).
        pub body: Matchers,
        /// Conditions on the headers (http).
        pub headers: Matchers,
        /// Takes a certificate nobody vouches for (http).
        pub allow_insecure: bool,
        /// Addresses that must be there (dns, interface).
        pub addresses: Vec<String>,
        /// The local address (port).
        pub ip: Option<String>,
        /// `tcp` or `udp` (port).
        pub protocol: Option<Spanned<String>>,
        /// The number (user).
        pub uid: Option<u32>,
        /// The group's number (user, group).
        pub gid: Option<u32>,
        /// Groups (user).
        pub groups: Vec<String>,
        /// The home folder (user).
        pub home: Option<Spanned<String>>,
        /// The login shell (user).
        pub shell: Option<String>,
        /// Conditions on the value (kernel-param).
        pub value: Matchers,
        /// The file system (mount).
        pub filesystem: Option<String>,
        /// What is mounted (mount).
        pub source: Option<String>,
        /// Options of the mount (mount).
        pub opts: Vec<String>,
        /// The largest packet (interface).
        pub mtu: Option<u32>,
        /// Regular expressions that must find something (matching).
        pub matches: Matchers,
        /// How long it may take to come true.
        pub eventually: Option<Spanned<Duration>>,
        /// The pause between attempts.
        pub retry_interval: Option<Spanned<Duration>>,
        /// The longest one attempt may take.
        pub timeout: Option<Spanned<Duration>>,
        /// Whether it is evaluated in a container (true) or beside it (false).
        pub in_container: Option<bool>,
    }
}

impl CheckSpec {
    pub(super) fn take(fields: &mut Fields<'_, '_>, head: Span, cx: &mut Reader<'_>) -> Option<Self> {
        let verb = match fields.present(CHECK_VERBS).as_slice() {
            [verb] => verb.text.to_string(),
            [one, two, ..] => {
                let message = format!("a check has one verb, and this one has `{}` and `{}`", one.text, two.text);
                let finding =
                    Diagnostic::error(message).at(cx.place(two.span)).related(cx.place(one.span), "first here");
                return cx.push(finding.hint("make two checks of it"));
            }
            [] => take_unknown_verb(fields, head, cx)?,
        };
        let (key, subject) = fields.entry(&[verb.as_str()])?;
        let typed = CheckFields::take(fields, cx);
        let mut carried = Vec::new();
        for (key, value) in fields.rest() {
            if !CARRIED.contains(&key.text.as_ref()) {
                let hint = suggestion(&key.text, CheckFields::KEYS.iter().chain(StepCommon::KEYS).copied());
                cx.warning(
                    key.span,
                    Problem { message: format!("unknown modifier `{}` is carried, not checked", key.text), hint },
                );
            }
            carried.push((Spanned::new(key.text.to_string(), key.span), value.to_json()));
        }
        if HOST_VERBS.contains(&verb.as_str()) {
            // The subject of what charly evaluates is text; saying so here gives the error its place.
            String::read(subject, cx)?;
        }
        Some(Self {
            verb: Spanned::new(verb, key.span),
            subject: Spanned::new(subject.to_json(), subject.span),
            fields: Box::new(typed?),
            carried: carried.into_iter().collect(),
        })
    }

    /// Returns the subject as text.
    pub fn subject_text(&self) -> String {
        match &self.subject.value {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Returns the check as it is written, without its intent.
    pub(crate) fn to_json(&self) -> serde_json::Result<Json> {
        let mut all = JsonMap::from_iter([(self.verb.value.clone(), self.subject.value.clone())]);
        for part in [serde_json::to_value(&*self.fields)?, serde_json::to_value(&self.carried)?] {
            if let Json::Object(part) = part {
                all.extend(part);
            }
        }
        Ok(Json::Object(all))
    }

    pub(super) fn schemas(definitions: &mut Definitions) -> Vec<Json> {
        let mut check = step_schema(
            definitions,
            &[Intent::Check],
            |object| {
                CheckFields::properties(object);
                for verb in CHECK_VERBS {
                    object.properties.insert((*verb).to_owned(), serde_json::json!({"description": "The verb."}));
                }
            },
            true,
        );
        check["anyOf"] = CHECK_VERBS.iter().map(|verb| serde_json::json!({"required": [verb]})).collect();
        vec![check]
    }
}

/// Takes the first key that is no modifier for a verb of a newer charly.
fn take_unknown_verb(fields: &Fields<'_, '_>, head: Span, cx: &mut Reader<'_>) -> Option<String> {
    let known = |key: &str| CheckFields::KEYS.contains(&key) || CARRIED.contains(&key);
    let Some(verb) = fields.keys().find(|key| !known(&key.text)) else {
        let hint = format!("the verbs are {}", listing(CHECK_VERBS));
        return cx.error(head, Problem::new("the check asserts nothing", hint));
    };
    let hint = suggestion(&verb.text, CHECK_VERBS.iter().copied());
    cx.warning(
        verb.span,
        Problem { message: format!("unknown check verb `{}` is carried, not checked", verb.text), hint },
    );
    Some(verb.text.to_string())
}
