//! Candies of other repositories, fetched with git into a cache and pinned to a commit.
//!
//! Below the cache, `<host>/<org>/<repo>` holds `git` (bare), `at/<commit>` (one folder a commit, complete once it is
//! there) and `pins/<revision>` (the commit that a branch or tag meant when it was first fetched).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::load::Settings;
use crate::schema::Remote;

/// A repository's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    pub(crate) folder: PathBuf,
    pub(crate) commit: String,
}

/// Why a repository cannot be had.
#[derive(Debug, Error)]
pub(crate) enum GitError {
    #[error("it is not in the cache, and charly is offline")]
    Offline,
    #[error("the program `git` cannot be run: {0}")]
    NoGit(io::Error),
    #[error("git {command} failed: {evidence}")]
    Failed { command: String, evidence: String },
    #[error("the cache cannot be written: {0}")]
    Cache(#[from] io::Error),
}

impl GitError {
    /// Returns what to do next.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Offline => Some("run once where the network can be reached"),
            Self::NoGit(_) => Some("install git"),
            Self::Failed { .. } => Some("check the address, the revision, and git's own access to it"),
            Self::Cache(_) => None,
        }
    }
}

/// Returns a repository's files at the commit a reference means, from the cache where they are there.
pub(crate) fn checkout(remote: &Remote, settings: &Settings) -> Result<Checkout, GitError> {
    let home = settings.cache.join(&remote.host).join(&remote.repository);
    let revision = remote.revision.as_deref().unwrap_or("HEAD");
    let pin = home.join("pins").join(revision.replace('/', "%2F"));
    let pinned = if is_commit(revision) { Some(revision.to_owned()) } else { read_pin(&pin) };
    if let Some(commit) = pinned
        && !(settings.refresh && !is_commit(revision) && !settings.offline)
    {
        let folder = home.join("at").join(&commit);
        if folder.is_dir() {
            return Ok(Checkout { folder, commit });
        }
    }
    if settings.offline {
        return Err(GitError::Offline);
    }
    let repository = home.join("git");
    if !repository.join("HEAD").is_file() {
        fs::create_dir_all(&repository)?;
        git(&repository, ["init", "--quiet", "--bare", "--template=", "."])?;
    }
    let url = address(remote, settings);
    git(&repository, ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", &url, revision])?;
    let commit = git(&repository, ["rev-parse", "--verify", "FETCH_HEAD^{commit}"])?;
    let folder = home.join("at").join(&commit);
    if !folder.is_dir() {
        unpack(&repository, &commit, &folder)?;
    }
    if !is_commit(revision) {
        fs::create_dir_all(home.join("pins"))?;
        // Written whole or not at all: a reader never sees half a commit.
        let part = home.join("pins").join(format!(".{}.{}", revision.replace('/', "%2F"), std::process::id()));
        fs::write(&part, &commit)?;
        fs::rename(&part, &pin)?;
    }
    Ok(Checkout { folder, commit })
}

/// Places a commit's files, all or none.
fn unpack(repository: &Path, commit: &str, folder: &Path) -> Result<(), GitError> {
    let part = folder.with_extension(format!("part-{}", std::process::id()));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    let tree: &OsStr = part.as_os_str();
    let mut work_tree = std::ffi::OsString::from("--work-tree=");
    work_tree.push(tree);
    git(
        repository,
        [
            work_tree.as_os_str(),
            "checkout".as_ref(),
            "--quiet".as_ref(),
            "--force".as_ref(),
            commit.as_ref(),
            "--".as_ref(),
            ".".as_ref(),
        ],
    )?;
    match fs::rename(&part, folder) {
        // Another charly was faster; a commit's files are the same whoever placed them.
        Err(_) if folder.is_dir() => Ok(fs::remove_dir_all(&part)?),
        result => Ok(result?),
    }
}

fn read_pin(pin: &Path) -> Option<String> {
    fs::read_to_string(pin).ok().filter(|commit| is_commit(commit))
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn address(remote: &Remote, settings: &Settings) -> String {
    let url = remote.url();
    let mirrored =
        settings.mirrors.iter().find_map(|(from, to)| Some(format!("{to}{}", url.strip_prefix(from.as_str())?)));
    mirrored.unwrap_or(url)
}

/// Runs git in a repository of the cache and returns its first line.
///
/// The repository is named outright and nothing is looked for upwards, so that no configuration of the current folder
/// has a say; the user's own, which may hold credentials, does.
fn git<A: AsRef<OsStr>>(repository: &Path, arguments: impl IntoIterator<Item = A>) -> Result<String, GitError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let mut command = Command::new("git");
    for variable in [
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CONFIG_COUNT",
    ] {
        command.env_remove(variable);
    }
    command
        .current_dir(repository)
        .env("GIT_DIR", repository)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .env("LC_ALL", "C")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "protocol.ext.allow=never",
            "-c",
            "submodule.recurse=false",
            "-c",
            "core.fsmonitor=false",
        ])
        .args(&arguments)
        .stdin(Stdio::null());
    let output = command.output().map_err(GitError::NoGit)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned());
    }
    let mut words = arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned());
    let errors = String::from_utf8_lossy(&output.stderr);
    let evidence: Vec<_> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(GitError::Failed {
        command: words.find(|word| !word.starts_with('-')).unwrap_or_default(),
        evidence: evidence[evidence.len().saturating_sub(3)..].join("; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
        ]);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_branch_is_pinned_until_it_is_refreshed() {
        let folder = tempfile::tempdir().unwrap();
        let origin = folder.path().join("origin/o/r");
        fs::create_dir_all(&origin).unwrap();
        run(&origin, &["init", "--quiet"]);
        fs::write(origin.join("file"), "one").unwrap();
        run(&origin, &["add", "."]);
        run(&origin, &["commit", "--quiet", "-m", "one"]);
        run(&origin, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        let first = run(&origin, &["rev-parse", "HEAD"]);

        let mirror = format!("file://{}/", folder.path().join("origin").display());
        let online = Settings {
            cache: folder.path().join("cache"),
            mirrors: vec![("https://example.org/".to_owned(), mirror)],
            ..Settings::default()
        };
        let offline = Settings { offline: true, ..online.clone() };
        let refreshing = Settings { refresh: true, ..online.clone() };
        let remote = |revision: Option<&str>| Remote {
            host: "example.org".to_owned(),
            repository: "o/r".to_owned(),
            folder: String::new(),
            revision: revision.map(str::to_owned),
        };
        let main = remote(Some("main"));
        let content = |checkout: Checkout| fs::read_to_string(checkout.folder.join("file")).unwrap();

        assert!(matches!(checkout(&main, &offline), Err(GitError::Offline)));
        assert_eq!(checkout(&main, &online).unwrap().commit, first);
        fs::write(origin.join("file"), "two").unwrap();
        run(&origin, &["commit", "--quiet", "-am", "two"]);
        assert_eq!(content(checkout(&main, &online).unwrap()), "one");
        assert_eq!(content(checkout(&main, &offline).unwrap()), "one");
        assert_eq!(content(checkout(&main, &refreshing).unwrap()), "two");
        assert_eq!(content(checkout(&main, &offline).unwrap()), "two");
        assert_eq!(content(checkout(&remote(Some(&first)), &offline).unwrap()), "one");
        assert_eq!(content(checkout(&remote(None), &online).unwrap()), "two");

        let error = checkout(&remote(Some("gone")), &online).unwrap_err().to_string();
        assert!(error.starts_with("git fetch failed: ") && error.contains("gone"), "{error}");
    }
}
