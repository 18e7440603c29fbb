//! What keywords' values come to.

use std::path::PathBuf;
use std::time::Duration;

use super::{Agent, Asked, ConfigError, HostConfig, Surroundings};
use crate::ssh::{Address, Note, Place, address};

/// The port of SSH.
const PORT: u16 = 22;

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// The first value of each keyword, not yet expanded: values may refer to what later lines say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) host_name: Option<Said<String>>,
    pub(super) user: Option<Said<String>>,
    port: Option<u16>,
    identity_files: Vec<Said<String>>,
    identities_only: Option<bool>,
    identity_agent: Option<Said<String>>,
    certificate_files: Vec<Said<String>>,
    proxy: Option<Proxy>,
    user_known_hosts: Option<Said<Vec<String>>>,
    global_known_hosts: Option<Said<Vec<String>>>,
    host_key_alias: Option<String>,
    strict: Option<()>,
    connect_timeout: Option<Duration>,
    notes: Vec<Note>,
}

/// The way to a host. The two keywords exclude each other: the first of either wins.
#[derive(Debug)]
enum Proxy {
    Jumps(Said<String>),
    Command(Said<String>),
}

/// Returns whether a keyword, in lower case, is one that charly goes by.
pub(super) fn concerns(keyword: &str) -> bool {
    matches!(
        keyword,
        "hostname"
            | "user"
            | "port"
            | "identityfile"
            | "identitiesonly"
            | "identityagent"
            | "certificatefile"
            | "proxyjump"
            | "userknownhostsfile"
            | "globalknownhostsfile"
            | "hostkeyalias"
            | "stricthostkeychecking"
            | "connecttimeout"
            | "canonicalizehostname"
    )
}

impl Found {
    /// Adds a note, once: the last pass reads lines again.
    pub(super) fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Takes the command that `ProxyCommand` names.
    pub(super) fn proxy_command(&mut self, command: &str, place: Place) {
        self.proxy.get_or_insert_with(|| Proxy::Command(Said { value: command.to_owned(), place }));
    }

    /// Takes a keyword's value if it is the first, and refuses what cannot be its value in any case.
    pub(super) fn take(&mut self, keyword: &str, arguments: Vec<String>, place: Place) -> Result<(), ConfigError> {
        let lists = matches!(keyword, "userknownhostsfile" | "globalknownhostsfile");
        if arguments.is_empty() || arguments.iter().any(String::is_empty) {
            return Err(ConfigError::new(
                &place,
                format!("`{keyword}` has no value"),
                "write the value, or remove the line",
            ));
        }
        if lists {
            let slot =
                if keyword == "userknownhostsfile" { &mut self.user_known_hosts } else { &mut self.global_known_hosts };
            slot.get_or_insert(Said { value: arguments, place });
            return Ok(());
        }
        let [value] = <[String; 1]>::try_from(arguments).map_err(|_| {
            ConfigError::new(&place, format!("`{keyword}` has more than one value"), "quote a value that holds blanks")
        })?;
        let refused = |expected: &str| {
            ConfigError::new(&place, format!("`{value}` is no value of `{keyword}`"), format!("write {expected}"))
        };
        match keyword {
            "hostname" => {
                self.host_name.get_or_insert(Said { value, place });
            }
            "user" => {
                self.user.get_or_insert(Said { value, place });
            }
            "port" => {
                let port =
                    value.parse().ok().filter(|port| *port != 0).ok_or_else(|| refused("a port from 1 to 65535"))?;
                self.port.get_or_insert(port);
            }
            "identityfile" => add(&mut self.identity_files, value, place),
            "certificatefile" => {
                let text = "charly does not show certificates; the identities are shown by themselves".to_owned();
                self.note(Note { place: place.clone(), text });
                add(&mut self.certificate_files, value, place);
            }
            "identitiesonly" => {
                let flag = flag(&value).ok_or_else(|| refused("`yes` or `no`"))?;
                self.identities_only.get_or_insert(flag);
            }
            "identityagent" => {
                self.identity_agent.get_or_insert(Said { value, place });
            }
            "proxyjump" => {
                self.proxy.get_or_insert(Proxy::Jumps(Said { value, place }));
            }
            "hostkeyalias" => {
                self.host_key_alias.get_or_insert(value);
            }
            "stricthostkeychecking" => {
                self.strict(&value, &place).ok_or_else(|| refused("`yes`, `no`, `ask` or `accept-new`"))?;
            }
            "connecttimeout" => {
                // No time at all means as long as it takes.
                let timeout = if is_none(&value) { Some(Duration::ZERO) } else { time(&value) };
                let timeout = timeout.ok_or_else(|| refused("a time such as `10` or `1m30s`"))?;
                self.connect_timeout.get_or_insert(timeout);
            }
            // The only other keyword that concerns us.
            _ => {
                if value != "no" {
                    self.note(Note { place, text: "charly does not look for canonical names of hosts".to_owned() });
                }
            }
        }
        Ok(())
    }

    fn strict(&mut self, value: &str, place: &Place) -> Option<()> {
        let strict = match value.to_ascii_lowercase().as_str() {
            "yes" | "true" | "ask" => true,
            "no" | "false" | "off" | "accept-new" => false,
            _ => return None,
        };
        if self.strict.replace(()).is_none() && !strict {
            self.note(Note {
                place: place.clone(),
                text: format!("charly takes no unknown host key, whatever `{value}` says"),
            });
        }
        Some(())
    }

    /// Returns the host to connect to as far as it is known.
    pub(super) fn host(&self, original: &str) -> Result<String, ConfigError> {
        let Some(Said { value, place }) = &self.host_name else { return Ok(original.to_ascii_lowercase()) };
        let host = tokens(value, place, &|token| (token == 'h').then(|| original.to_owned()))?;
        if address::is_host(&host) {
            Ok(host.to_ascii_lowercase())
        } else {
            let what = format!("`{}` names no host", host.escape_debug());
            Err(ConfigError::new(place, what, "`HostName` is a name or an address, without a user or a port"))
        }
    }

    /// Expands what was found.
    pub(super) fn into_host(self, asked: Asked<'_>, surroundings: Surroundings<'_>) -> Result<HostConfig, ConfigError> {
        let host = self.host(asked.host)?;
        let port = asked.port.or(self.port).unwrap_or(PORT);
        let user = asked
            .user
            .map(str::to_owned)
            .or(self.user.map(|user| user.value))
            .unwrap_or_else(|| surroundings.user.to_owned());
        let key = self.host_key_alias.clone().unwrap_or_else(|| asked.host.to_owned());
        let remote = |token: char| match token {
            'h' => Some(host.clone()),
            'n' => Some(asked.host.to_owned()),
            'p' => Some(port.to_string()),
            'r' => Some(user.clone()),
            _ => None,
        };
        let every = |token: char| match token {
            'd' => Some(surroundings.home.display().to_string()),
            'i' => Some(surroundings.uid.to_string()),
            'k' => Some(key.clone()),
            'u' => Some(surroundings.user.to_owned()),
            _ => remote(token),
        };
        let path = |value: &str, place: &Place| {
            let value = tokens(&tilde(value, surroundings, place)?, place, &every)?;
            variables(&value, surroundings, place).map(PathBuf::from)
        };
        let paths = |said: &[Said<String>]| {
            let named = said.iter().filter(|said| !is_none(&said.value));
            named.map(|said| path(&said.value, &said.place)).collect::<Result<Vec<_>, _>>()
        };
        let known_hosts = |said: Option<Said<Vec<String>>>, default: [PathBuf; 2]| match said {
            None => Ok(default.to_vec()),
            Some(Said { value, .. }) if value.len() == 1 && is_none(&value[0]) => Ok(Vec::new()),
            Some(Said { value, place }) => value.iter().map(|value| path(value, &place)).collect(),
        };
        let agent = |said: Said<String>| match said.value.as_str() {
            value if is_none(value) => Ok(Agent::Off),
            value => {
                let variable = if value == "SSH_AUTH_SOCK" {
                    Some(value)
                } else {
                    value.strip_prefix('$').filter(|name| !name.starts_with('{'))
                };
                match variable {
                    Some(name) => {
                        Ok((surroundings.variable)(name).map_or(Agent::Off, |socket| Agent::Socket(socket.into())))
                    }
                    None => path(value, &said.place).map(Agent::Socket),
                }
            }
        };
        let ssh = surroundings.home.join(".ssh");
        let (jumps, proxy_command) = match self.proxy {
            None => (Vec::new(), None),
            Some(Proxy::Jumps(Said { value, place })) => (jumps(&value, &place, &remote)?, None),
            Some(Proxy::Command(Said { value, .. })) if is_none(&value) => (Vec::new(), None),
            Some(Proxy::Command(Said { value, place })) => (Vec::new(), Some((value, place))),
        };
        Ok(HostConfig {
            identity_files: if self.identity_files.is_empty() { None } else { Some(paths(&self.identity_files)?) },
            identities_only: self.identities_only.unwrap_or(false),
            identity_agent: self.identity_agent.map(agent).transpose()?,
            certificate_files: paths(&self.certificate_files)?,
            jumps,
            proxy_command,
            user_known_hosts: known_hosts(self.user_known_hosts, [ssh.join("known_hosts"), ssh.join("known_hosts2")])?,
            global_known_hosts: known_hosts(
                self.global_known_hosts,
                ["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()],
            )?,
            host_key_alias: self.host_key_alias.as_deref().map(str::to_ascii_lowercase),
            connect_timeout: self.connect_timeout.filter(|timeout| !timeout.is_zero()),
            notes: self.notes,
            host,
            port,
            user,
        })
    }
}

/// Puts the home folder in the place of a leading `~`.
pub(super) fn tilde(value: &str, surroundings: Surroundings<'_>, place: &Place) -> Result<String, ConfigError> {
    let Some(rest) = value.strip_prefix('~') else { return Ok(value.to_owned()) };
    let (user, rest) = rest.split_once('/').map_or((rest, None), |(user, rest)| (user, Some(rest)));
    if !user.is_empty() && user != surroundings.user {
        return Err(ConfigError::new(
            place,
            format!("the home folder of `{user}` is not looked up"),
            "write the whole path",
        ));
    }
    let home = surroundings.home.display();
    Ok(rest.map_or_else(|| home.to_string(), |rest| format!("{home}/{rest}")))
}

/// Adds a file that was not named before.
fn add(files: &mut Vec<Said<String>>, value: String, place: Place) {
    if files.iter().all(|file| file.value != value) {
        files.push(Said { value, place });
    }
}

fn is_none(value: &str) -> bool {
    value.eq_ignore_ascii_case("none")
}

fn flag(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// Reads `90`, `90s`, `1m30s` and the like.
fn time(value: &str) -> Option<Duration> {
    let mut seconds = 0u64;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit = match behind.bytes().next().map(|unit| unit.to_ascii_lowercase()) {
            None | Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            Some(_) => return None,
        };
        seconds = number.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(seconds)?;
        rest = behind.get(1..).unwrap_or("");
    }
    (!value.is_empty()).then(|| Duration::from_secs(seconds))
}

/// Reads the hosts to go through, nearest first.
fn jumps(value: &str, place: &Place, remote: &dyn Fn(char) -> Option<String>) -> Result<Vec<Address>, ConfigError> {
    let value = tokens(value, place, remote)?;
    Address::way(&value).map_err(|error| ConfigError {
        hint: error.hint().to_owned(),
        source: Some(error.into()),
        ..ConfigError::new(place, "`proxyjump` names a host that cannot be", "")
    })
}

/// Replaces `%` and a letter by what the letter stands for.
fn tokens(value: &str, place: &Place, meaning: &dyn Fn(char) -> Option<String>) -> Result<String, ConfigError> {
    let mut expanded = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            expanded.push(letter);
            continue;
        }
        let token = letters.next();
        if token == Some('%') {
            expanded.push('%');
        } else if let Some(text) = token.and_then(meaning) {
            expanded.push_str(&text);
        } else {
            let what = format!("`%{}` has no meaning here", token.map(String::from).unwrap_or_default().escape_debug());
            return Err(ConfigError::new(place, what, "write `%%` for a percent sign"));
        }
    }
    Ok(expanded)
}

/// Replaces `${NAME}` by the variable.
fn variables(value: &str, surroundings: Surroundings<'_>, place: &Place) -> Result<String, ConfigError> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, after) = behind
            .split_once('}')
            .ok_or_else(|| ConfigError::new(place, "a `${` without its `}`", "write the variable as `${NAME}`"))?;
        let variable = (surroundings.variable)(name);
        let variable = variable.ok_or_else(|| {
            ConfigError::new(place, format!("the variable `{name}` is not set"), "set it, or write the path itself")
        })?;
        expanded.push_str(before);
        expanded.push_str(&variable);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}
