//! The way to a machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Address, AddressError};
use super::config::{Agent, Asked, ConfigFile, HostConfig, Scope, Surroundings, resolve};
use super::error::ConnectError;
use super::settings::Settings;

/// The most machines that lie on a way.
const MOST: usize = 8;

/// The identities that are tried where none is configured, as OpenSSH has them.
const IDENTITIES: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The way to a machine, and what its user should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The machines on it; the last one is where it leads.
    pub hops: Vec<Hop>,
    /// What the configuration says and is not taken as written.
    pub notes: Vec<String>,
}

/// One machine on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The name or address that is connected to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user there.
    pub user: String,
    /// The name under which its key is known.
    pub alias: Option<String>,
    /// The identities, in the order they are tried.
    pub identities: Vec<IdentityFile>,
    /// Whether the agent's other keys are left alone.
    pub identities_only: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// The files of known hosts.
    pub known_hosts: Vec<PathBuf>,
    /// Whether somebody asked for these files, so that they must be there.
    pub known_hosts_required: bool,
    /// How long an attempt to connect may take, where somebody says so.
    pub connect_timeout: Option<Duration>,
    /// How `ssh` is told to log in to the machine before this one.
    pub behind: Option<String>,
}

/// An identity to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFile {
    /// Its file.
    pub file: PathBuf,
    /// Whether somebody asked for it, so that it must be there.
    pub required: bool,
}

impl Hop {
    /// Returns the machine and its port, for people.
    pub fn at(&self) -> String {
        match self.port {
            22 => self.host.clone(),
            port if self.host.contains(':') => format!("[{}]:{port}", self.host),
            port => format!("{}:{port}", self.host),
        }
    }

    /// Returns how it is written in a list of machines to jump through.
    fn jump(&self) -> String {
        format!("{}@{}", self.user, self.at())
    }

    /// Returns what `ssh` is given to log in.
    pub fn login(&self) -> String {
        match self.port {
            22 => format!("{}@{}", self.user, self.host),
            port => format!("-p {port} {}@{}", self.user, self.host),
        }
    }

    /// Returns the name and port under which its key is known.
    pub(super) fn known_as(&self) -> (&str, u16) {
        match &self.alias {
            Some(alias) => (alias, 22),
            None => (&self.host, self.port),
        }
    }
}

/// Finds the way to a machine: what the command line says, else what ssh_config(5) says, else what OpenSSH would do.
///
/// An identity and a file of known hosts of the command line are those of the last machine; those before it have their own.
pub fn way(address: &Address, settings: &Settings) -> Result<Way, ConnectError> {
    let mut texts = Vec::new();
    for (file, scope) in settings.config_files.iter().zip([Scope::User, Scope::System]) {
        match std::fs::read_to_string(file) {
            Ok(text) => texts.push((file.as_path(), text, scope)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(ConnectError::Route {
                    what: format!("`{}` cannot be read: {error}", file.display()),
                    hint: None,
                });
            }
        }
    }
    let files: Vec<_> = texts.iter().map(|(path, text, scope)| ConfigFile { path, text, scope: *scope }).collect();
    let mut way = Way { hops: Vec::new(), notes: Vec::new() };
    let wishes = &settings.wishes;
    let target = Address { port: wishes.port.or(address.port), ..address.clone() };
    let unnamed =
        |error: AddressError| ConnectError::Route { what: error.to_string(), hint: Some(error.hint().to_owned()) };
    let jumps = wishes.jump.as_deref().map(Address::way).transpose().map_err(unnamed)?;
    visit(&target, jumps, 1, &files, settings, &mut way)?;
    if let Some(hop) = way.hops.last_mut() {
        if let Some(file) = &wishes.identity {
            hop.identities = vec![IdentityFile { file: file.clone(), required: true }];
            hop.identities_only = true;
        }
        if let Some(file) = &wishes.known_hosts {
            hop.known_hosts = vec![file.clone()];
            hop.known_hosts_required = true;
        }
    }
    Ok(way)
}

/// Puts the machines before one, and then itself, on the way.
fn visit(
    address: &Address,
    jumps: Option<Vec<Address>>,
    depth: usize,
    files: &[ConfigFile<'_>],
    settings: &Settings,
    way: &mut Way,
) -> Result<(), ConnectError> {
    if way.hops.len() >= MOST || depth > MOST {
        let what = format!("more than {MOST} machines lie on the way to `{address}`");
        return Err(ConnectError::Route { what, hint: Some("does one of them jump through itself?".into()) });
    }
    let config = configured(address, files, settings)?;
    way.notes.extend(config.notes.iter().map(ToString::to_string));
    if let (None, Some((_, place))) = (&jumps, &config.proxy_command) {
        let what =
            format!("`{}` is reached through a `ProxyCommand` ({place}), which charly does not start", address.host);
        return Err(ConnectError::Route {
            what,
            hint: Some("use `ProxyJump`, or `--jump none` to go straight".into()),
        });
    }
    let given = jumps.is_some();
    for jump in jumps.unwrap_or_else(|| config.jumps.clone()) {
        // What comes before a jump that was written in a list is the list, not the jump's own configuration.
        let before = given.then(Vec::new);
        visit(&jump, before, depth + 1, files, settings, way)?;
    }
    let mut hop = hop(config, settings);
    hop.behind = match &*way.hops {
        [] => None,
        [.., last] if last.behind.is_none() => Some(last.login()),
        [others @ .., last] => {
            let jumps: Vec<_> = others.iter().map(Hop::jump).collect();
            Some(format!("-J {} {}", jumps.join(","), last.login()))
        }
    };
    way.hops.push(hop);
    Ok(())
}

fn configured(address: &Address, files: &[ConfigFile<'_>], settings: &Settings) -> Result<HostConfig, ConnectError> {
    let asked = Asked { host: &address.host, user: address.user.as_deref(), port: address.port };
    let surroundings = Surroundings {
        user: &settings.local_user,
        uid: settings.local_uid,
        home: &settings.home,
        variable: &|name| settings.environment.get(name).cloned(),
        read: &included,
    };
    resolve(files, asked, surroundings)
        .map_err(|error| ConnectError::Route { what: error.to_string(), hint: Some(error.hint.clone()) })
}

fn hop(config: HostConfig, settings: &Settings) -> Hop {
    let files = config.identity_files.map(|files| (files, true));
    let default = || (IDENTITIES.map(|name| settings.home.join(".ssh").join(name)).to_vec(), false);
    let (files, required) = files.unwrap_or_else(default);
    // OpenSSH passes over configured identities that are not there, too: a configuration is often shared between machines.
    let required = required && files.len() == 1 && config.identities_only;
    let mut known_hosts = config.user_known_hosts;
    known_hosts.extend(config.global_known_hosts);
    Hop {
        host: config.host,
        port: config.port,
        user: config.user,
        alias: config.host_key_alias,
        identities: files.into_iter().map(|file| IdentityFile { file, required }).collect(),
        identities_only: config.identities_only,
        agent: match config.identity_agent {
            Some(Agent::Off) => None,
            Some(Agent::Socket(socket)) => Some(socket),
            None => settings.agent.clone(),
        },
        known_hosts,
        known_hosts_required: false,
        connect_timeout: config.connect_timeout,
        behind: None,
    }
}

/// Reads the files that an `Include` names.
fn included(pattern: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let paths =
        glob::glob(&pattern.to_string_lossy()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(io::Error::from)?;
        let text = std::fs::read_to_string(&path)?;
        files.push((path, text));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::settings::{Limits, Wishes};
    use crate::ssh::{Nobody, Unlocked};
    use std::sync::Arc;

    fn settings(home: &Path, wishes: Wishes) -> Settings {
        Settings {
            local_user: "me".into(),
            local_uid: 1000,
            home: home.into(),
            environment: std::collections::BTreeMap::new(),
            config_files: vec![home.join(".ssh/config"), home.join("system")],
            agent: Some("/agent".into()),
            asker: Arc::new(Nobody),
            unlocked: Unlocked::default(),
            wishes,
            limits: Limits::default(),
        }
    }

    fn shown(way: &Way) -> Vec<String> {
        way.hops.iter().map(|hop| format!("{}@{}", hop.user, hop.at())).collect()
    }

    #[test]
    fn the_way_is_what_the_command_line_says_and_else_what_is_configured() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let config = "Include more/*\nHost web\n HostName 10.0.0.5\n User root\n ProxyJump gate,you@inner:2222\nHost gate\n HostName gate.example\n ProxyJump outer\nHost loop\n ProxyJump loop\nHost command\n ProxyCommand nc %h\n";
        std::fs::write(home.path().join(".ssh/config"), config).unwrap();
        std::fs::create_dir(home.path().join(".ssh/more")).unwrap();
        std::fs::write(home.path().join(".ssh/more/a"), "Host *.example\n Port 77\n").unwrap();
        let find = |name: &str, wishes: Wishes| way(&name.parse().unwrap(), &settings(home.path(), wishes));
        let jump = |jump: &str| Wishes { jump: Some(jump.into()), ..Wishes::default() };
        for (name, wishes, want) in [
            ("web", Wishes::default(), &["me@outer", "me@gate.example:22", "you@inner:2222", "root@10.0.0.5"][..]),
            ("you@web:23", jump("none"), &["you@10.0.0.5:23"]),
            ("web", jump("gate"), &["me@gate.example:22", "root@10.0.0.5"]),
            ("x.example", Wishes { port: Some(5), ..Wishes::default() }, &["me@x.example:5"]),
            ("x.example", Wishes::default(), &["me@x.example:77"]),
        ] {
            let want: Vec<_> = want.iter().map(|hop| hop.trim_end_matches(":22").to_owned()).collect();
            assert_eq!(shown(&find(name, wishes).unwrap()), want, "{name}");
        }
        assert!(find("loop", Wishes::default()).unwrap_err().to_string().contains("more than"));
        assert!(find("command", Wishes::default()).unwrap_err().to_string().contains("ProxyCommand"));
        assert!(find("command", jump("none")).is_ok());
    }

    #[test]
    fn what_the_command_line_names_is_all_that_is_used_at_the_end_of_the_way() {
        let home = tempfile::tempdir().unwrap();
        let wishes = Wishes {
            identity: Some("/key".into()),
            known_hosts: Some("/known".into()),
            jump: Some("gate".into()),
            ..Wishes::default()
        };
        let way = way(&"x".parse().unwrap(), &settings(home.path(), wishes)).unwrap();
        let [gate, end] = &way.hops[..] else { panic!("{way:?}") };
        assert_eq!(end.identities, [IdentityFile { file: "/key".into(), required: true }]);
        assert!(end.identities_only && end.known_hosts_required);
        assert_eq!(end.known_hosts, [PathBuf::from("/known")]);
        assert_eq!(gate.identities.len(), IDENTITIES.len());
        assert!(gate.known_hosts.contains(&home.path().join(".ssh/known_hosts")), "{gate:?}");
    }
}
