//! Package repositories.

use std::path::Path;

use charly_ir::Text;
use charly_ir::facts::PackageManager;
use charly_ir::plan::{Action, Content, Gate, Phase, Placement, Repo, RepoKey, RepoSource, Scope};

use super::candy::{Context, slug};
use super::packages::most_specific;
use crate::read::Problem;
use crate::schema::{RepoSpec, Spanned};

/// Compiles the repositories of the most specific section that names any.
pub(super) fn compile(cx: &mut Context<'_>) {
    let sections = cx.venue.names.sections(&cx.candy.distro);
    let Some(manager) = cx.venue.facts.package_manager else { return };
    for repo in most_specific(&sections, |section| section.repo.as_ref()) {
        let Some((name, source)) = source(cx, repo, manager) else { continue };
        add(cx, manager, name, source);
    }
    for project in most_specific(&sections, |section| section.copr.as_ref()) {
        let parts: Vec<_> = project.split('/').collect();
        let plain = |part: &&str| !part.is_empty() && !part.starts_with('-') && !part.contains(char::is_whitespace);
        if parts.len() != 2 || !parts.iter().all(plain) {
            let problem = Problem::new(format!("`{}` is not a Copr project", project.value), "write `owner/project`");
            cx.error(project.span, problem);
        } else if manager == PackageManager::Dnf {
            let source = RepoSource::Copr { project: project.value.clone(), path: copr_file(parts[0], parts[1]) };
            add(cx, manager, format!("copr:{}", project.value), source);
        } else {
            cx.incompatible("copr", project.span, format!("{} knows no Copr projects", manager.name()).into());
        }
    }
}

/// Returns the file that dnf's plug-in writes for a project, where another hub is not asked for; groups begin with `@`.
/// Source: `_get_repo_fn` and `_enable` of dnf-plugins-core's `copr.py`; dnf5's plug-in keeps to it.
fn copr_file(owner: &str, project: &str) -> Text {
    let owner = owner.strip_prefix('@').map_or_else(|| owner.to_owned(), |group| format!("group_{group}"));
    Text::new(format!("/etc/yum.repos.d/_copr:copr.fedorainfracloud.org:{owner}:{project}.repo"))
}

fn add(cx: &mut Context<'_>, manager: PackageManager, name: String, source: RepoSource) {
    let (id, title) = (format!("repo:{name}"), format!("add the repository {name}"));
    let action = Action::RepoChange(Repo { manager, name, source });
    cx.add(&id, &title, Scope::System, Some(Gate::AllowRepoChanges), Phase::Repositories, action);
}

fn source(cx: &mut Context<'_>, repo: &Spanned<RepoSpec>, manager: PackageManager) -> Option<(String, RepoSource)> {
    let url = repo.url.as_ref().or(repo.rpm.as_ref())?;
    let address = web_address(cx, url)?;
    let name = match &repo.name {
        Some(name) => slug(name),
        None => slug(address.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()),
    };
    if name.is_empty() {
        let at = repo.name.as_ref().map_or(repo.span, |name| name.span);
        cx.error(at, Problem::new("the repository has no name that files could have", "give its `name`"));
        return None;
    }
    let file_name = address.rsplit('/').next().unwrap_or_default();
    let (key_path, written, fetched) = match manager {
        PackageManager::Apt => (
            format!("/etc/apt/keyrings/charly-{name}.gpg"),
            format!("/etc/apt/sources.list.d/charly-{name}.sources"),
            Path::new(file_name).extension().is_some_and(|extension| extension == "sources"),
        ),
        PackageManager::Dnf => (
            format!("/etc/pki/rpm-gpg/RPM-GPG-KEY-charly-{name}"),
            format!("/etc/yum.repos.d/charly-{name}.repo"),
            Path::new(file_name).extension().is_some_and(|extension| extension == "repo"),
        ),
        PackageManager::Apk => {
            // apk finds a key by the name that the packages were signed under.
            let key = repo.key.as_ref().and_then(|key| key.rsplit('/').next()).unwrap_or_default();
            (format!("/etc/apk/keys/{key}"), format!("/etc/apk/repositories.d/charly-{name}.list"), false)
        }
        PackageManager::Pacman => {
            let reason = "pacman reads repositories from pacman.conf alone, which charly leaves to its owner";
            cx.unsupported("repo", &format!("{reason}: add `{name}` there"));
            return None;
        }
    };
    let key = match &repo.key {
        Some(key) => Some(RepoKey { url: web_address(cx, key)?, path: Text::new(key_path.as_str()) }),
        None => None,
    };
    if repo.rpm.is_some() {
        if manager != PackageManager::Dnf {
            cx.incompatible("repo", url.span, format!("{} takes no RPM", manager.name()).into());
            return None;
        }
        let Some(package) = &repo.name else {
            cx.error(url.span, Problem::new("nothing says what the package is called", "give its `name`"));
            return None;
        };
        return Some((name, RepoSource::Package { url: address, package: package.value.clone() }));
    }
    if fetched {
        return Some((name, RepoSource::Fetched { url: address, path: Text::new(written), key }));
    }
    if key.is_none() {
        let hint = "give the address of its `key`";
        cx.error(repo.span, Problem::new("nothing says by which key the repository is trusted", hint));
        return None;
    }
    let content = match manager {
        PackageManager::Apt => apt_source(cx, repo, &address, &key_path)?,
        PackageManager::Dnf => {
            format!("[{name}]\nname={name}\nbaseurl={address}\nenabled=1\ngpgcheck=1\ngpgkey=file://{key_path}\n")
        }
        PackageManager::Apk | PackageManager::Pacman => format!("{address}\n"),
    };
    let file = Placement { path: Text::new(written), mode: 0o644, content: Content::Text(Text::new(content)) };
    Some((name, RepoSource::Written { file, key }))
}

fn apt_source(cx: &mut Context<'_>, repo: &Spanned<RepoSpec>, address: &str, key: &str) -> Option<String> {
    let one_line = |field: &Option<Spanned<String>>| field.as_ref().is_none_or(|field| !field.contains(['\n', '\0']));
    if !one_line(&repo.suite) || !one_line(&repo.components) {
        cx.error(repo.span, "a repository's suite and components have one line");
        return None;
    }
    let suite = repo.suite.as_ref().map(|suite| suite.value.clone()).or_else(|| cx.venue.facts.os.codename.clone());
    let Some(suite) = suite else {
        cx.error(repo.span, Problem::new("the repository has no suite", "give its `suite`, such as `stable`"));
        return None;
    };
    // A suite that is a path holds its packages itself, and has no components.
    let components = if suite.ends_with('/') {
        String::new()
    } else {
        format!("Components: {}\n", repo.components.as_ref().map_or("main", |components| components.as_str()))
    };
    Some(format!("Types: deb\nURIs: {address}\nSuites: {suite}\n{components}Signed-By: {key}\n"))
}

/// Reads a field as an address that can be fetched.
pub(super) fn web_address(cx: &mut Context<'_>, field: &Spanned<String>) -> Option<String> {
    let address = cx.expand(field)?.value;
    let web = address.starts_with("https://") || address.starts_with("http://");
    if !web || address.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        let problem = Problem::new(format!("`{address}` is not an address"), "begin it with `https://`");
        cx.error(field.span, problem);
        return None;
    }
    Some(address)
}
