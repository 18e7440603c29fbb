//! What a document must keep to beyond the types of its values.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::candy::Candy;
use super::project::Project;
use super::run::Run;
use super::service::Service;
use super::step::StepKind;
use super::values::EnvName;
use crate::diagnostic::Diagnostic;
use crate::read::{FromText, Map, Problem, Reader, Spanned};
use crate::source::Span;

/// Checks a candy by itself.
pub(super) fn check_candy(candy: &Candy, cx: &mut Reader<'_>) {
    check_env(&candy.env, cx);
    if candy.description.trim().is_empty() {
        cx.error::<()>(candy.description.span, "the description says nothing");
    }
    for (name, _) in candy.var.iter() {
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if !name.bytes().all(upper) || name.starts_with(|first: char| first.is_ascii_digit()) || name.is_empty() {
            let hint = "use capital letters, digits and `_`, and no digit first";
            cx.error::<()>(name.span, Problem::new(format!("`{}` is not the name of a variable", name.value), hint));
        }
    }
    for (selector, section) in candy.distro.iter() {
        check_selector(selector, cx);
        for repo in section.repo.iter().flatten() {
            if repo.url.is_none() && repo.rpm.is_none() {
                cx.error::<()>(repo.span, Problem::new("the repository has no address", "give its `url`"));
            }
        }
    }
    check_once(candy.require.iter().map(|name| (name.to_string(), name.span)), "is required twice", cx);
    check_once(candy.candy.iter().map(|name| (name.to_string(), name.span)), "stands twice in the composition", cx);
    for reference in candy.require.iter().chain(&candy.candy) {
        if reference.to_string() == candy.name.as_str() {
            cx.error::<()>(reference.span, format!("`{}` refers to itself", candy.name.value));
        }
    }
    for service in &candy.service {
        check_service(service, cx);
    }
    // A name may stand twice where one service is packaged and one is the candy's own: the init system decides.
    for packaged in [true, false] {
        let alike = candy.service.iter().filter(|service| service.use_packaged.is_some() == packaged);
        check_once(alike.map(|service| (service.name.value.clone(), service.name.span)), "names two services", cx);
    }
    let ids = candy.plan.iter().filter_map(|step| step.common.id.as_ref());
    check_once(ids.map(|id| (id.value.clone(), id.span)), "names two steps", cx);
    for step in &candy.plan {
        match &step.kind {
            StepKind::Run(run) => check_run(run, cx),
            StepKind::Check(check) => check_env(&check.fields.env, cx),
            StepKind::Carried { .. } => {}
        }
    }
}

/// Checks a project by itself.
pub(super) fn check_project(project: &Project, cx: &mut Reader<'_>) {
    for (name, candy) in project.candy.iter() {
        if name.value != candy.name.as_str() {
            let message = format!("the candy is declared as `{}` and names itself `{}`", name.value, candy.name.value);
            cx.error::<()>(candy.name.span, message);
        }
        check_candy(candy, cx);
    }
    for (_, vm) in project.vm.iter() {
        let source = &vm.source;
        let given = [
            source.cloud_image.is_some(),
            source.bootc.is_some(),
            source.bootstrap.is_some(),
            source.clone.is_some(),
            source.imported.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let hint = "give one of `cloud_image`, `bootc`, `bootstrap`, `clone` and `imported`";
            cx.error::<()>(vm.span, Problem::new("a machine has exactly one source", hint));
        }
    }
    for (name, deploy) in project.deploy.iter() {
        let plain = |part: &str| super::Name::from_text(part).is_ok() && !part.contains('.');
        if name.split('/').count() > 2 || !name.split('/').all(plain) {
            let hint = "write `name` or `name/instance`, in lower-case letters, digits and `-`";
            cx.error::<()>(name.span, Problem::new(format!("`{}` is not the name of a deploy", name.value), hint));
        }
        check_env(&deploy.env, cx);
    }
}

fn check_service(service: &Spanned<Service>, cx: &mut Reader<'_>) {
    check_env(&service.env, cx);
    let name_is_plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b':');
        !name.is_empty() && name.bytes().all(allowed) && !name.starts_with(['-', '.'])
    };
    for name in [Some(&service.name), service.use_packaged.as_ref()].into_iter().flatten() {
        if !name_is_plain(name) {
            cx.error::<()>(name.span, format!("`{}` is not the name of a unit", name.value));
        }
    }
    match (&service.use_packaged, &service.exec) {
        (Some(_), Some(exec)) => {
            let hint = "write two services of that name, or `overrides: {exec: …}`";
            cx.error::<()>(exec.span, Problem::new("a service has `use_packaged` or `exec`, not both", hint));
        }
        (None, None) => {
            let hint = "give `exec`, or the unit of a package as `use_packaged`";
            cx.error::<()>(service.name.span, Problem::new("the service runs nothing", hint));
        }
        (None, Some(_)) => {
            if let Some(overrides) = &service.overrides {
                let at = overrides.exec.as_ref().map_or(service.name.span, |exec| exec.span);
                cx.error::<()>(
                    at,
                    Problem::new("there is no packaged unit to override", "say it in the service itself"),
                );
            }
        }
        (Some(_), None) => {}
    }
}

fn check_run(run: &Run, cx: &mut Reader<'_>) {
    match run {
        Run::Command(command) => check_env(&command.env, cx),
        Run::Download(download) => check_env(&download.env, cx),
        Run::Write(write) => match (&write.content, &write.secret) {
            (Some(_), Some(secret)) => {
                cx.error::<()>(secret.span, "a file has `content` or a `secret`, not both");
            }
            (None, None) => {
                let hint = "give `content`, even if it is empty, or a `secret`";
                cx.error::<()>(write.write.span, Problem::new("nothing says what the file holds", hint));
            }
            (None, Some(secret)) => {
                if let Some(mode) = write.mode.as_ref().filter(|mode| mode.0 & 0o077 != 0) {
                    let message = format!("mode {} lets others read the secret `{}`", mode.value, secret.value);
                    cx.error::<()>(mode.span, Problem::new(message, "use \"0600\" or \"0400\""));
                }
            }
            (Some(_), None) => {}
        },
        _ => {}
    }
}

fn check_env(env: &Map<Spanned<String>>, cx: &mut Reader<'_>) {
    for (name, value) in env.iter() {
        if name.value == "PATH" {
            let hint = "list the folders under `path_append`";
            cx.error::<()>(name.span, Problem::new("PATH cannot be set, only appended to", hint));
        } else if let Err(problem) = EnvName::from_text(name) {
            cx.error::<()>(name.span, problem);
        } else if value.contains(['\n', '\0']) {
            cx.error::<()>(value.span, "a variable's value has one line");
        }
    }
}

fn check_selector(selector: &Spanned<String>, cx: &mut Reader<'_>) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
    for part in selector.split(',').map(str::trim) {
        if part.is_empty() || !part.bytes().all(allowed) {
            let hint = "write as in `debian`, `debian-13`, `\"debian,ubuntu\"` or `deb`";
            cx.error::<()>(selector.span, Problem::new(format!("`{}` names no distribution", selector.value), hint));
            return;
        }
    }
}

fn check_once(names: impl Iterator<Item = (String, Span)>, what: &str, cx: &mut Reader<'_>) {
    let mut seen = HashMap::new();
    for (name, span) in names {
        match seen.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(span);
            }
            Entry::Occupied(entry) => {
                let finding = Diagnostic::error(format!("`{}` {what}", entry.key())).at(cx.place(span));
                cx.push::<()>(finding.related(cx.place(*entry.get()), "first here"));
            }
        }
    }
}
