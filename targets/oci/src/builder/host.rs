//! What of this machine's own settings a builder sees: which registries there are, how they are reached, and who is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use charly_ir::plan::BuilderKind;

use crate::sandbox::Bind;

/// This machine, as the program sees it.
#[derive(Clone, Default)]
pub struct Host {
    /// The user's home folder.
    pub home: PathBuf,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// What a builder is given of a machine's settings.
#[derive(Default)]
pub(super) struct Given {
    pub(super) binds: Vec<Bind>,
    pub(super) env: BTreeMap<String, String>,
    /// What nobody may see: passwords and tokens.
    pub(super) secrets: BTreeSet<String>,
}

/// The home folder of whoever builds.
pub(super) const HOME: &str = "/charly/home";

/// Where caches are.
pub(super) const CACHE: &str = "/charly/cache";

/// Where every program of the container looks for those it trusts.
const CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables that programs read that file from.
const CA_VARIABLES: &[&str] = &[
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Where distributions keep the certificates that they trust.
const CA_FILES: &[&str] =
    &[CA, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", "/etc/pki/tls/cert.pem"];

/// Variables that say how networks are reached.
const PROXIES: &[&str] = &["all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy"];

/// Files of the home folder that every builder may need.
const COMMON_FILES: &[&str] = &[".netrc"];

/// Returns a builder's files in the home folder, those of the machine, and the beginnings of its variables.
fn settings_of(kind: BuilderKind) -> (&'static [&'static str], &'static [&'static str], &'static [&'static str]) {
    match kind {
        BuilderKind::Npm => (
            &[".npmrc"],
            &["/etc/npmrc"],
            &["NODE_AUTH_TOKEN", "NPM_CONFIG_REGISTRY", "NPM_TOKEN", "npm_config_registry"],
        ),
        BuilderKind::Cargo => {
            (&[], &[], &["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"])
        }
        BuilderKind::Uv => (
            &[".config/pip/pip.conf", ".config/uv/uv.toml", ".pip/pip.conf"],
            &["/etc/pip.conf", "/etc/uv/uv.toml"],
            &[
                "PIP_DEFAULT_TIMEOUT",
                "PIP_EXTRA_INDEX_URL",
                "PIP_INDEX_URL",
                "PIP_TRUSTED_HOST",
                "UV_DEFAULT_INDEX",
                "UV_EXTRA_INDEX_URL",
                "UV_HTTP_TIMEOUT",
                "UV_INDEX",
                "UV_INSECURE_HOST",
            ],
        ),
        BuilderKind::Pixi => (
            &[".config/pixi/config.toml", ".pixi/config.toml", ".rattler/credentials.json"],
            &["/etc/pixi/config.toml"],
            &[],
        ),
        BuilderKind::Aur => (&[], &[], &[]),
    }
}

/// Collects what a builder is given. `scratch` is a folder of the run's own.
pub(super) fn given(host: &Host, kind: BuilderKind, scratch: &Path) -> io::Result<Given> {
    let mut given = Given::default();
    let (homes, machines, variables) = settings_of(kind);
    let at_home = homes.iter().chain(COMMON_FILES).map(|path| (host.home.join(path), format!("{HOME}/{path}")));
    let of_machine = machines.iter().map(|path| (PathBuf::from(path), (*path).to_owned()));
    let mut texts = Vec::new();
    for (from, to) in at_home.chain(of_machine) {
        if let Ok(text) = fs::read_to_string(&from) {
            texts.push(text);
            given.binds.push(Bind { from, to, is_writable: false });
        }
    }
    if kind == BuilderKind::Cargo {
        texts.extend(cargo(host, scratch, &mut given)?);
    }
    if let Some(from) = certificates(host) {
        given.env.extend(CA_VARIABLES.iter().map(|name| ((*name).to_owned(), CA.to_owned())));
        // A file of settings may name it where this machine has it.
        let mut places: BTreeSet<_> = [CA.to_owned()].into();
        places.extend(from.to_str().map(str::to_owned));
        given.binds.extend(places.into_iter().map(|to| Bind { from: from.clone(), to, is_writable: false }));
    }
    for (name, value) in &host.env {
        let is_proxy = PROXIES.contains(&name.to_ascii_lowercase().as_str());
        if is_proxy || variables.iter().any(|start| name.starts_with(start)) {
            given.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    for text in &texts {
        given.secrets.extend(secrets(text));
    }
    for (name, value) in &given.env {
        let name = name.to_ascii_uppercase();
        if ["TOKEN", "PASSWORD", "SECRET"].iter().any(|word| name.ends_with(word)) {
            given.secrets.insert(value.clone());
        }
        given.secrets.extend(passwords(value));
    }
    if kind == BuilderKind::Uv {
        indexes(&texts, &mut given.env);
    }
    given.secrets.retain(|secret| secret.len() >= SHORTEST);
    Ok(given)
}

/// Shorter ones would be found everywhere.
const SHORTEST: usize = 4;

/// Gives cargo its registries. The rest of its settings is about this machine: linkers, wrappers, its very processor.
fn cargo(host: &Host, scratch: &Path, given: &mut Given) -> io::Result<Vec<String>> {
    let home = host.env.get("CARGO_HOME").map_or_else(|| host.home.join(".cargo"), PathBuf::from);
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| fs::read_to_string(home.join(name)).ok());
    let mut texts = Vec::new();
    for (names, to) in
        [(["config.toml", "config"], "config.toml"), (["credentials.toml", "credentials"], "credentials.toml")]
    {
        let Some(text) = first(names) else { continue };
        let text = registries(&text);
        let from = scratch.join(format!("cargo-{to}"));
        fs::write(&from, &text)?;
        given.binds.push(Bind { from, to: format!("{CACHE}/cargo/{to}"), is_writable: false });
        texts.push(text);
    }
    Ok(texts)
}

/// Returns the tables of a cargo configuration that are about registries and networks.
fn registries(text: &str) -> String {
    let about = |key: &str| {
        let first = key.trim().split('.').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        ["http", "net", "registries", "registry", "source"].contains(&first)
    };
    let (mut out, mut is_kept, mut is_top) = (String::new(), false, true);
    for line in text.lines() {
        let start = line.trim_start();
        if let Some(header) = start.strip_prefix('[') {
            is_kept = about(header.trim_start_matches('[').split(']').next().unwrap_or_default());
            is_top = false;
        } else if is_top && let Some((key, _)) = start.split_once('=') {
            is_kept = about(key);
        }
        if is_kept {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Returns the file of those this machine trusts.
fn certificates(host: &Host) -> Option<PathBuf> {
    let said = CA_VARIABLES.iter().filter_map(|name| host.env.get(*name)).map(PathBuf::from);
    said.chain(CA_FILES.iter().map(PathBuf::from)).find(|path| path.is_absolute() && path.is_file())
}

/// Gives uv the indexes that pip has, where it has none of its own: it reads nothing of pip's.
fn indexes(texts: &[String], env: &mut BTreeMap<String, String>) {
    let own = ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL"];
    let in_file = |text: &String| text.contains("[[index]]") || text.contains("index-url =") && text.contains('"');
    if own.iter().any(|name| env.contains_key(*name)) || texts.iter().any(in_file) {
        return;
    }
    let said = |key: &str| {
        let lines = texts.iter().flat_map(|text| text.lines());
        let values = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| name.trim() == key);
        values.map(|(_, value)| value.trim().to_owned()).find(|value| !value.is_empty())
    };
    let index = env.get("PIP_INDEX_URL").cloned().or_else(|| said("index-url"));
    let extra = env.get("PIP_EXTRA_INDEX_URL").cloned().or_else(|| said("extra-index-url"));
    env.extend(index.map(|url| ("UV_DEFAULT_INDEX".to_owned(), url)));
    env.extend(extra.map(|urls| ("UV_INDEX".to_owned(), urls)));
}

/// Finds what must stay secret in a file of settings.
fn secrets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_password = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        found.extend(passwords(line));
        if let Some((key, value)) = line.split_once('=') {
            let key = key.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
            let value = value.trim().trim_matches(['"', '\'']);
            let words = ["_auth", "_authtoken", "_password", "password", "secret", "token"];
            // `${NAME}` stands for a variable, whose value is looked at by itself.
            if words.iter().any(|word| key.ends_with(word)) && !value.contains("${") {
                found.push(value.to_owned());
            }
        }
        // In `.netrc` the word after the word, on whatever line it stands.
        for word in line.split_whitespace() {
            if is_password {
                found.push(word.to_owned());
            }
            is_password = word == "password";
        }
    }
    found
}

/// Returns the passwords in the addresses of a text.
fn passwords(text: &str) -> Vec<String> {
    let rests = text.match_indices("://").map(|(at, _)| &text[at + 3..]);
    let users = rests.filter_map(|rest| {
        let end = rest.find(|letter: char| letter.is_whitespace() || "/\"',".contains(letter)).unwrap_or(rest.len());
        rest[..end].rsplit_once('@').map(|(user, _)| user)
    });
    users.map(|user| user.split_once(':').map_or(user, |(_, password)| password).to_owned()).collect()
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Given {
    /// Takes every secret out of a line.
    pub(super) fn without_secrets(&self, line: &str) -> String {
        self.secrets.iter().fold(line.to_owned(), |line, secret| line.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)], env: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let host = Host { home: home.path().to_owned(), env };
        (home, host)
    }

    #[test]
    fn each_builder_sees_its_own_settings_alone() {
        let files = [(".npmrc", "registry=https://r/\n"), (".config/uv/uv.toml", ""), (".ssh/id_ed25519", "x")];
        let env =
            [("HTTPS_PROXY", "http://p:1"), ("NPM_TOKEN", "abcd1234"), ("UV_INDEX", "https://i"), ("AWS_KEY", "x")];
        let (home, host) = host(&files, &env);
        for (kind, file, variables) in [
            (BuilderKind::Npm, Some(".npmrc"), &["HTTPS_PROXY", "NPM_TOKEN"][..]),
            (BuilderKind::Uv, Some(".config/uv/uv.toml"), &["HTTPS_PROXY", "UV_INDEX"]),
            (BuilderKind::Aur, None, &["HTTPS_PROXY"]),
        ] {
            let given = given(&host, kind, home.path()).unwrap();
            let at_home = given.binds.iter().filter_map(|bind| bind.to.strip_prefix(HOME)?.strip_prefix('/'));
            assert_eq!(at_home.collect::<Vec<_>>(), file.into_iter().collect::<Vec<_>>());
            let names = given.env.keys().filter(|name| !CA_VARIABLES.contains(&name.as_str()));
            assert_eq!(names.collect::<Vec<_>>(), variables);
            assert!(given.binds.iter().all(|bind| !bind.is_writable));
        }
    }

    #[test]
    fn of_cargos_settings_registries_alone_are_kept() {
        let text = "source.crates-io.replace-with = \"m\"\n[build]\nrustc-wrapper = \"x\"\n[source.m]\nregistry = \"r\"\n\
                    [target.x]\nlinker = \"l\"\n[registries.\"a.b\"]\nindex = \"i\"\n[[patch]]\nx = 1\n[http]\nproxy = \"p\"\n";
        let want = "source.crates-io.replace-with = \"m\"\n[source.m]\nregistry = \"r\"\n[registries.\"a.b\"]\nindex = \"i\"\n\
                    [http]\nproxy = \"p\"\n";
        assert_eq!(registries(text), want);
    }

    #[test]
    fn secrets_are_found_and_taken_out() {
        for (text, want) in [
            ("//r/:_authToken=abcd1234", &["abcd1234"][..]),
            ("//r/:_authToken=${NPM_TOKEN}", &[]),
            ("token = \"abcd\"", &["abcd"]),
            ("index-url = https://me:s3cret@r/simple", &["s3cret"]),
            ("extra-index-url = https://t0ken@r/simple/ https://r/@scope", &["t0ken"]),
            ("machine r login me password s3cret", &["s3cret"]),
            ("machine r\n login me\n password\n s3cret\n", &["s3cret"]),
            ("# password=x1234", &[]),
            ("registry=https://r/", &[]),
        ] {
            assert_eq!(secrets(text), want, "{text}");
        }
        let given = Given { secrets: ["s3cret".to_owned()].into(), ..Given::default() };
        assert_eq!(given.without_secrets("GET https://me:s3cret@r/"), "GET https://me:***@r/");
    }

    #[test]
    fn uv_is_given_pips_indexes_where_it_has_none() {
        let pip = (".config/pip/pip.conf", "[global]\nindex-url = https://i/simple\n");
        for (files, env, want) in [
            (vec![pip], vec![], Some("https://i/simple")),
            (vec![pip, (".config/uv/uv.toml", "[[index]]\nurl = \"https://u\"\n")], vec![], None),
            (vec![pip], vec![("PIP_INDEX_URL", "https://e")], Some("https://e")),
            (vec![pip], vec![("UV_DEFAULT_INDEX", "https://u")], Some("https://u")),
        ] {
            let (home, host) = host(&files, &env);
            let given = given(&host, BuilderKind::Uv, home.path()).unwrap();
            assert_eq!(given.env.get("UV_DEFAULT_INDEX").map(String::as_str), want);
        }
    }
}
