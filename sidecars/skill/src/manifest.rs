//! Manifests: what a skill may be given, one YAML file a skill.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    name::SkillName,
    pattern::{Form, Pattern},
    request::TOKEN_VARIABLE,
    sandbox::{FileGrants, SandboxError},
    spawn::{Identity, Resource, ResourceLimit},
};

/// Bytes a manifest may have; real ones have a few hundred.
const LARGEST: u64 = 256 * 1024;

/// Bounds every run that no manifest bounds otherwise.
const OPEN_FILES: u64 = 1024;
const FILE_MIB: u64 = 1024;

/// Holds what a skill may be given, checked and ready for use.
///
/// A skill without a manifest has the default one: any arguments, the network, none of the server's credentials.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) description: Option<String>,
    /// Forms of allowed argument lists; none means that any list is allowed.
    pub(crate) forms: Option<Vec<Form>>,
    pub(crate) grant: BTreeSet<String>,
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) from_file: BTreeMap<String, PathBuf>,
    pub(crate) network: bool,
    pub(crate) most_time: Option<Duration>,
    pub(crate) output: Option<usize>,
    pub(crate) concurrent: Option<usize>,
    pub(crate) identity: Option<Identity>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) files: FileGrants,
    pub(crate) limits: Vec<ResourceLimit>,
    pub(crate) redact: Vec<Pattern>,
}

/// Says what is wrong with the manifests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("cannot read the manifest `{path}`", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("the manifest `{path}` is larger than {LARGEST} bytes", path = .0.display())]
    TooLarge(PathBuf),
    #[error("the manifest `{path}` is not well formed", path = .0.display())]
    Form(PathBuf, #[source] Box<serde_yaml::Error>),
    #[error("the manifest `{path}` is named after no skill: a manifest is `<skill>.yml`", path = .0.display())]
    Name(PathBuf),
    #[error("in the manifest `{path}`: {1}", path = .0.display())]
    Value(PathBuf, String),
    #[error("in the manifest `{path}`", path = .0.display())]
    Files(PathBuf, #[source] SandboxError),
}

/// The file's own form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    description: Option<String>,
    args: Option<Vec<Form>>,
    env: Environment,
    network: Option<bool>,
    timeout: Option<u64>,
    output_kib: Option<usize>,
    concurrent: Option<usize>,
    run_as: Option<String>,
    folder: Option<PathBuf>,
    files: Files,
    limits: LimitDocument,
    redact: Vec<Pattern>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Environment {
    grant: BTreeSet<String>,
    set: BTreeMap<String, String>,
    file: BTreeMap<String, PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Files {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitDocument {
    cpu_seconds: Option<u64>,
    memory_mib: Option<u64>,
    file_mib: Option<u64>,
    open_files: Option<u64>,
    processes: Option<u64>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self::check(Document::default(), |_| None).unwrap_or_else(|_| unreachable!("the empty manifest is valid"))
    }
}

impl Manifest {
    /// Parses the text of a manifest; `users` finds the identity of a user name. `path` is for messages.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
        users: impl Fn(&str) -> Option<Identity>,
    ) -> Result<Self, ManifestError> {
        let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let document = if empty {
            Document::default()
        } else {
            serde_yaml::from_str(text).map_err(|error| ManifestError::Form(path.into(), Box::new(error)))?
        };
        Self::check(document, users).map_err(|problem| match problem {
            Problem::Value(text) => ManifestError::Value(path.into(), text),
            Problem::Files(error) => ManifestError::Files(path.into(), error),
        })
    }

    /// Tells whether the manifest itself gives the variable a value.
    pub(crate) fn fixes(&self, variable: &str) -> bool {
        self.grant.contains(variable) || self.set.contains_key(variable) || self.from_file.contains_key(variable)
    }

    fn check(document: Document, users: impl Fn(&str) -> Option<Identity>) -> Result<Self, Problem> {
        // Every field of the file has to be considered here.
        let Document {
            description,
            args: forms,
            env,
            network,
            timeout,
            output_kib,
            concurrent,
            run_as,
            folder,
            files,
            limits,
            redact,
        } = document;
        if forms.as_ref().is_some_and(Vec::is_empty) {
            return Err(Problem::Value(
                "`args` allows nothing; write `args: [{}]` for a skill without arguments".into(),
            ));
        }
        let Environment { grant, set, file: from_file } = env;
        for name in grant.iter().chain(set.keys()).chain(from_file.keys()) {
            if !is_variable(name) {
                return Err(Problem::Value(format!("`{name}` is no name of a variable")));
            }
            if name == TOKEN_VARIABLE {
                return Err(Problem::Value(format!("`{TOKEN_VARIABLE}` is the server's own and given to no skill")));
            }
            let times = [grant.contains(name), set.contains_key(name), from_file.contains_key(name)];
            if times.into_iter().filter(|there| *there).count() > 1 {
                return Err(Problem::Value(format!("`{name}` is given twice")));
            }
        }
        if set.values().any(|value| value.contains('\0')) {
            return Err(Problem::Value("a value holds a NUL byte".into()));
        }
        for (what, zero) in [
            ("timeout", timeout == Some(0)),
            ("output_kib", output_kib == Some(0)),
            ("concurrent", concurrent == Some(0)),
        ] {
            if zero {
                return Err(Problem::Value(format!("`{what}` has to be at least 1")));
            }
        }
        for path in files.read.iter().chain(&files.write).chain(&folder).chain(from_file.values()) {
            if !path.is_absolute() {
                return Err(Problem::Value(format!("`{}` is not an absolute path", path.display())));
            }
        }
        let identity = match run_as {
            None => None,
            Some(user) => Some(identity(&user).or_else(|| users(&user)).ok_or_else(|| {
                Problem::Value(format!("`run_as` names no user: `{user}`; write a user, or `uid:gid`"))
            })?),
        };
        let mut writable = files.write;
        writable.extend(folder.clone());
        Ok(Self {
            description,
            forms,
            grant,
            set,
            from_file,
            network: network.unwrap_or(true),
            most_time: timeout.map(Duration::from_secs),
            output: output_kib.map(|kib| kib.saturating_mul(1024)),
            concurrent,
            identity,
            folder,
            files: FileGrants::open(&files.read, &writable).map_err(Problem::Files)?,
            limits: limits.resolve(),
            redact,
        })
    }
}

enum Problem {
    Value(String),
    Files(SandboxError),
}

impl LimitDocument {
    fn resolve(self) -> Vec<ResourceLimit> {
        let Self { cpu_seconds, memory_mib, file_mib, open_files, processes } = self;
        let mib = |count: u64| count.saturating_mul(1 << 20);
        [
            (Resource::CoreBytes, Some(0)),
            (Resource::FileBytes, Some(mib(file_mib.unwrap_or(FILE_MIB)))),
            (Resource::OpenFiles, Some(open_files.unwrap_or(OPEN_FILES))),
            (Resource::CpuSeconds, cpu_seconds),
            (Resource::DataBytes, memory_mib.map(mib)),
            (Resource::Processes, processes),
        ]
        .into_iter()
        .filter_map(|(resource, most)| Some(ResourceLimit { resource, most: most? }))
        .collect()
    }
}

/// Reads every manifest of a folder.
pub(crate) fn load(folder: &Path) -> Result<BTreeMap<SkillName, Manifest>, ManifestError> {
    let read = |path: &Path, error| ManifestError::Read(path.into(), error);
    let mut manifests = BTreeMap::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| read(folder, error))? {
        paths.push(entry.map_err(|error| read(folder, error))?.path());
    }
    paths.sort();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    for path in paths {
        // Kubernetes keeps the files of a mounted ConfigMap behind names such as `..data`.
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with('.') {
            continue;
        }
        let name = file.strip_suffix(".yml").or_else(|| file.strip_suffix(".yaml"));
        let name =
            name.and_then(|name| SkillName::parse(name).ok()).ok_or_else(|| ManifestError::Name(path.clone()))?;
        let size = fs::metadata(&path).map_err(|error| read(&path, error))?.len();
        if size > LARGEST {
            return Err(ManifestError::TooLarge(path));
        }
        let text = fs::read_to_string(&path).map_err(|error| read(&path, error))?;
        let manifest = Manifest::parse(&path, &text, |user| find_user(&passwd, user))?;
        if manifests.insert(name.clone(), manifest).is_some() {
            return Err(ManifestError::Value(path, format!("`{name}` has two manifests")));
        }
    }
    Ok(manifests)
}

/// Reads `uid:gid`.
fn identity(text: &str) -> Option<Identity> {
    let (user, group) = text.split_once(':')?;
    Some(Identity { user: user.parse().ok()?, group: group.parse().ok()? })
}

/// Finds a user in the text of `/etc/passwd`.
fn find_user(passwd: &str, name: &str) -> Option<Identity> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 4 && fields[0] == name)
            .then(|| Some(Identity { user: fields[2].parse().ok()?, group: fields[3].parse().ok()? }))?
    })
}

/// Tells whether `name` can name an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .enumerate()
            .all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nskill:x:990:991::/nonexistent:/usr/sbin/nologin\nbroken:x\n";

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Path::new("gh.yml"), text, |user| find_user(PASSWD, user))
    }

    #[test]
    fn a_full_manifest() {
        let manifest = parse(
            "description: Reads issues\n\
             args:\n- begin: [issue, list|view]\n  rest: ['--json', '[0-9]+']\n\
             env: {grant: [GH_TOKEN], set: {GH_PROMPT_DISABLED: '1'}, file: {KEY: /run/secrets/key}}\n\
             network: false\ntimeout: 60\noutput_kib: 16\nconcurrent: 2\nrun_as: skill\nfolder: /tmp\n\
             files: {read: [/usr], write: [/tmp]}\n\
             limits: {cpu_seconds: 5, memory_mib: 64, file_mib: 1, open_files: 32, processes: 8}\nredact: ['--token.*']\n",
        )
        .unwrap();
        assert_eq!(manifest.description.as_deref(), Some("Reads issues"));
        assert_eq!(manifest.identity, Some(Identity { user: 990, group: 991 }));
        assert_eq!((manifest.network, manifest.output, manifest.concurrent), (false, Some(16384), Some(2)));
        assert_eq!(manifest.limits.len(), 6);
        assert_eq!(manifest.limits[4], ResourceLimit { resource: Resource::DataBytes, most: 64 << 20 });
    }

    #[test]
    fn an_empty_manifest_is_the_default() {
        for text in ["", "# nothing\n\n", "{}", "env:\n"] {
            let manifest = parse(text).unwrap();
            assert!(manifest.network && manifest.forms.is_none() && manifest.grant.is_empty(), "{text:?}");
            assert_eq!(manifest.limits.len(), 3);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            (
                "args: []",
                "in the manifest `gh.yml`: `args` allows nothing; write `args: [{}]` for a skill without arguments",
            ),
            (
                "env: {grant: [SKILL_TOKEN]}",
                "in the manifest `gh.yml`: `SKILL_TOKEN` is the server's own and given to no skill",
            ),
            ("env: {grant: ['A=B']}", "in the manifest `gh.yml`: `A=B` is no name of a variable"),
            ("env: {grant: [A], set: {A: b}}", "in the manifest `gh.yml`: `A` is given twice"),
            ("timeout: 0", "in the manifest `gh.yml`: `timeout` has to be at least 1"),
            ("folder: work", "in the manifest `gh.yml`: `work` is not an absolute path"),
            (
                "run_as: nobody-here",
                "in the manifest `gh.yml`: `run_as` names no user: `nobody-here`; write a user, or `uid:gid`",
            ),
            ("files: {read: [/no/such/place]}", "in the manifest `gh.yml`"),
            ("netwrok: false", "the manifest `gh.yml` is not well formed"),
            ("args: [{begin: ['(']}]", "the manifest `gh.yml` is not well formed"),
            ("timeout: 1\ntimeout: 2", "the manifest `gh.yml` is not well formed"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn identities() {
        assert_eq!(identity("1000:100"), Some(Identity { user: 1000, group: 100 }));
        for bad in ["1000", "a:b", "-1:0", "1:2:3", ""] {
            assert_eq!(identity(bad), None);
        }
        assert_eq!(find_user(PASSWD, "broken"), None);
    }
}
