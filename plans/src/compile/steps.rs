//! The author's own steps.

use std::collections::BTreeMap;

use charly_ir::Text;
use charly_ir::plan::{self, Action, Command, Content, Download, Gate, Op, PackagedService, Phase, Placement, Scope};

use super::candy::{Context, secret_hint, slug};
use super::expand;
use super::repos::web_address;
use super::{packages, services};
use crate::read::Problem;
use crate::schema::{
    CommandStep, CopyStep, DownloadStep, Extract, Map, Mode, Run, RunAs, ServiceStep, SetcapStep, Spanned, Step,
    StepKind, WriteStep,
};

/// Compiles every `run` step that has a meaning before services run.
pub(super) fn compile(cx: &mut Context<'_>) {
    let candy = cx.candy;
    let build = |step: &Step| matches!(&step.kind, StepKind::Run(run) if matches!(&**run, Run::Build(_)));
    if !candy.plan.iter().any(build) {
        packages::compile_builders(cx, Phase::Builders);
    }
    for step in &candy.plan {
        let StepKind::Run(run) = &step.kind else { continue };
        if step.is_runtime_only() || is_excluded(cx, step) {
            continue;
        }
        compile_run(cx, step, run);
    }
}

/// Tells whether the step is left out on this distribution.
pub(super) fn is_excluded(cx: &Context<'_>, step: &Step) -> bool {
    step.common.exclude_distros.0.iter().any(|name| cx.venue.names.rank(name).is_some())
}

fn compile_run(cx: &mut Context<'_>, step: &Step, run: &Run) {
    match run {
        Run::Command(command) => compile_command(cx, step, command),
        Run::Mkdir(mkdir) => {
            let Some(path) = cx.path(&mkdir.mkdir) else { return };
            let scope = scope(cx, mkdir.run_as.as_ref(), &path);
            let mode = mode_or(mkdir.mode.as_ref(), 0o755);
            add(cx, step, &format!("mkdir:{path}"), scope, Op::Mkdir { path, mode });
        }
        Run::Copy(copy) => compile_copy(cx, step, copy),
        Run::Write(write) => compile_write(cx, step, write),
        Run::Link(link) => {
            let (Some(path), Some(target)) = (cx.path(&link.link), cx.expand(&link.target)) else { return };
            if target.is_empty() || target.contains(['\0', '\n']) {
                return cx.error(target.span, "the link leads nowhere");
            }
            let scope = scope(cx, link.run_as.as_ref(), &path);
            let target = Text::new(expand::home(&target));
            add(cx, step, &format!("link:{path}"), scope, Op::Link { path, target });
        }
        Run::Download(download) => compile_download(cx, step, download),
        Run::Setcap(setcap) => compile_setcap(cx, step, setcap),
        Run::Build(_) => packages::compile_builders(cx, Phase::Configure),
        Run::Package(package) => packages::compile_step(cx, package, &step.title),
        Run::Service(service) => compile_service(cx, step, service),
    }
}

fn compile_command(cx: &mut Context<'_>, step: &Step, command: &CommandStep) {
    let scope = command.run_as.as_ref().map_or(Scope::System, |user| of_user(user));
    let mut env = cx.given.clone();
    env.extend(environment(cx, &command.env));
    let mut secrets = cx.secrets.clone();
    secrets.extend(command.secret.iter().map(|(variable, secret)| (variable.value.clone(), secret.value.clone())));
    let body = Command {
        body: command.command.value.clone(),
        env,
        secrets,
        uninstall: cx.paths(&command.uninstall),
        creates: cx.paths(&command.creates),
        timeout_s: command.timeout.map(crate::schema::Duration::as_seconds),
    };
    let gate = (scope == Scope::System).then_some(Gate::AllowRootTasks);
    let id = step.common.id.as_ref().map_or_else(|| format!("command:{}", slug(&step.title)), |id| id.value.clone());
    cx.add(&id, &step.title, scope, gate, Phase::Configure, Action::Op(Op::Command(body)));
}

fn compile_copy(cx: &mut Context<'_>, step: &Step, copy: &CopyStep) {
    let into_folder = copy.to.ends_with('/');
    let Some(to) = cx.path(&copy.to) else { return };
    let files = match cx.resolved.sources.get(copy.copy.as_str()) {
        Some(Ok(files)) => files,
        Some(Err(reason)) => {
            let message = format!("cannot copy `{}`: {reason}", copy.copy.as_str());
            return cx.error(
                copy.copy.span,
                Problem::new(message, "put it beside the candy's charly.yml, or correct its name"),
            );
        }
        None => return,
    };
    let scope = scope(cx, copy.run_as.as_ref(), &to);
    let mode = mode_or(copy.mode.as_ref(), 0o644);
    for file in files {
        let path = match file.below.as_str() {
            "" if into_folder => join(&to, copy.copy.as_str().rsplit('/').next().unwrap_or_default()),
            "" => to.clone(),
            below => join(&to, below),
        };
        cx.blobs.insert(file.digest, file.blob.clone());
        let content = Content::Blob { digest: file.digest, size: file.size };
        add(cx, step, &format!("copy:{path}"), scope.clone(), Op::Copy(Placement { path, mode, content }));
    }
}

fn compile_write(cx: &mut Context<'_>, step: &Step, write: &WriteStep) {
    let Some(path) = cx.path(&write.write) else { return };
    let scope = scope(cx, write.run_as.as_ref(), &path);
    let (content, mode) = match (&write.secret, &write.content) {
        (Some(secret), _) => {
            if !cx.venue.options.secrets.contains(&secret.value) {
                let message = format!("nobody gives the secret `{}`", secret.value);
                let hint = secret_hint(&secret.value);
                cx.error(secret.span, Problem::new(message, hint));
            }
            (Content::Secret(secret.value.clone()), 0o600)
        }
        (None, content) => {
            let text = content.as_ref().map(|content| content.value.clone()).unwrap_or_default();
            (Content::Text(Text::new(text)), 0o644)
        }
    };
    let mode = mode_or(write.mode.as_ref(), mode);
    add(cx, step, &format!("write:{path}"), scope, Op::Write(Placement { path, mode, content }));
}

fn compile_download(cx: &mut Context<'_>, step: &Step, download: &DownloadStep) {
    let Some(url) = web_address(cx, &download.download) else { return };
    let extract = download.extract.as_ref().map_or(Extract::None, |extract| extract.value);
    if url.starts_with("http://") && download.sha256.is_none() {
        let hint = "use `https://`, or say what it must be with `sha256`";
        cx.warning(download.download.span, Problem::new("anyone on the way can change this download", hint));
    }
    let file_name = url.split(['?', '#']).next().and_then(|url| url.rsplit('/').next()).unwrap_or_default().to_owned();
    let to = match &download.to {
        Some(to) => {
            let Some(path) = cx.path(to) else { return };
            if extract == Extract::None && to.ends_with('/') { join(&path, &file_name) } else { path }
        }
        // A script places what it likes.
        None if extract == Extract::Sh => Text::default(),
        None => {
            let hint = "give the folder, or the path of the file, as `to`";
            return cx.error(download.download.span, Problem::new("nothing says where the download goes", hint));
        }
    };
    let scope = scope(cx, download.run_as.as_ref(), &to);
    let gate = (extract == Extract::Sh && scope == Scope::System).then_some(Gate::AllowRootTasks);
    let id = if to == Text::default() { format!("download:{}", slug(&url)) } else { format!("download:{to}") };
    let op = Op::Download(Download {
        url,
        sha256: download.sha256.as_ref().map(|sha256| sha256.0),
        extract: match extract {
            Extract::None => plan::Extract::None,
            Extract::TarGz => plan::Extract::TarGz,
            Extract::TarXz => plan::Extract::TarXz,
            Extract::TarZst => plan::Extract::TarZst,
            Extract::Zip => plan::Extract::Zip,
            Extract::Sh => plan::Extract::Sh,
        },
        include: download.extract_include.iter().filter_map(|name| cx.expand(name)).map(|name| name.value).collect(),
        strip_components: download.strip_components.unwrap_or_default(),
        to,
        mode: download.mode.as_ref().map(|mode| mode.0),
        env: environment(cx, &download.env),
        uninstall: cx.paths(&download.uninstall),
    });
    cx.add(&named(step, id), &step.title, scope, gate, Phase::Configure, Action::Op(op));
}

fn compile_setcap(cx: &mut Context<'_>, step: &Step, setcap: &SetcapStep) {
    let Some(path) = cx.path(&setcap.setcap) else { return };
    let scope = setcap.run_as.as_ref().map_or(Scope::System, |user| of_user(user));
    if scope != Scope::System {
        let at = setcap.run_as.as_ref().map_or(setcap.setcap.span, |user| user.span);
        return cx.error(at, Problem::new("only root can set capabilities", "leave out `run_as`"));
    }
    let caps = setcap.caps.as_ref().map(|caps| caps.value.clone()).unwrap_or_default();
    add(cx, step, &format!("setcap:{path}"), scope, Op::Setcap { path, caps });
}

fn compile_service(cx: &mut Context<'_>, step: &Step, service: &ServiceStep) {
    let Some(unit) = cx.expand(&service.service) else { return };
    let enable = service.enabled.or(service.running).unwrap_or(true);
    let unit = services::with_suffix(&unit);
    let id = named(step, format!("service:{unit}"));
    let action = Action::ServicePackaged(PackagedService { unit, enable: Some(enable), drop_in: None });
    cx.add(&id, &step.title, Scope::System, Some(Gate::WithServices), Phase::Configure, action);
}

fn add(cx: &mut Context<'_>, step: &Step, id: &str, scope: Scope, op: Op) {
    cx.add(&named(step, id.to_owned()), &step.title, scope, None, Phase::Configure, Action::Op(op));
}

/// Returns the step's own id where its author gave one.
fn named(step: &Step, id: String) -> String {
    step.common.id.as_ref().map_or(id, |id| id.value.clone())
}

/// Reads variables for a body or a script.
fn environment(cx: &mut Context<'_>, env: &Map<Spanned<String>>) -> BTreeMap<String, Text> {
    let expanded = env.iter().filter_map(|(name, value)| Some((name.value.clone(), cx.expand(value)?)));
    expanded.map(|(name, value)| (name, expand::home_in_value(&value))).collect()
}

/// Returns on whose behalf a path is touched: what lies in the home is its user's, and never root's.
fn scope(cx: &mut Context<'_>, run_as: Option<&Spanned<RunAs>>, path: &Text) -> Scope {
    match run_as {
        None if path.is_below_home() => Scope::User,
        None => Scope::System,
        Some(user) => {
            let scope = of_user(user);
            if scope == Scope::System && path.is_below_home() {
                let problem = Problem::new("root would write in a user's home", "write `run_as: \"${USER}\"`");
                cx.error(user.span, problem);
            }
            scope
        }
    }
}

fn of_user(user: &RunAs) -> Scope {
    match user {
        RunAs::Root => Scope::System,
        RunAs::DeployUser => Scope::User,
        RunAs::Other(user) => Scope::Other(user.clone()),
    }
}

fn mode_or(mode: Option<&Spanned<Mode>>, default: u32) -> u32 {
    mode.map_or(default, |mode| mode.0)
}

fn join(folder: &Text, name: &str) -> Text {
    Text::new(format!("{}/{name}", folder.as_str().trim_end_matches('/')))
}
