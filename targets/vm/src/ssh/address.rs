//! Names of machines as users type them: `user@host:port`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A machine, and as whom and where to log in if that was said.
///
/// What is absent is for [`resolve`](super::resolve) to find in the user's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Who logs in.
    pub user: Option<String>,
    /// The host: a name, an alias of the user's configuration, an IPv4 or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
}

/// A text that names no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` names no machine: {fault} at character {position}", .text.escape_debug())]
pub struct AddressError {
    /// The text as it was given.
    pub text: String,
    /// The character at which reading failed, counted from one.
    pub position: usize,
    /// What is wrong there.
    pub fault: AddressFault,
}

/// What is wrong with a machine's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Nothing stands before the `@`.
    #[error("the user is empty")]
    NoUser,
    /// Nothing stands where the host should.
    #[error("the host is empty")]
    NoHost,
    /// A program that is given such a name would take it for an option.
    #[error("a leading `-`")]
    Dash,
    /// A character that no name has, and that a shell or a terminal might interpret.
    #[error("an impossible character")]
    Character,
    /// The port is no number from 1 to 65535.
    #[error("no port from 1 to 65535")]
    Port,
    /// A `[` without its `]`, or something other than a port behind it.
    #[error("brackets that do not enclose the host")]
    Brackets,
    /// Colons outside of brackets that make no IPv6 address.
    #[error("no IPv6 address")]
    Ipv6,
}

impl AddressError {
    /// Returns what would do instead.
    pub fn hint(&self) -> &'static str {
        match self.fault {
            AddressFault::NoUser | AddressFault::NoHost => "write `host`, `user@host` or `user@host:port`",
            AddressFault::Dash => "names of machines and users begin with a letter or a digit",
            AddressFault::Character => {
                "a host is a name of letters, digits, `.`, `-` and `_`, or an IP address; charly has no paths behind it"
            }
            AddressFault::Port => "leave the `:` away for the usual port",
            AddressFault::Brackets | AddressFault::Ipv6 => {
                "write an IPv6 address as `[2001:db8::1]`, and its port as `[2001:db8::1]:2222`"
            }
        }
    }
}

impl Address {
    /// Reads a way as `ProxyJump` has it: machines that are gone through, nearest first, with commas between them, or `none`.
    pub fn way(text: &str) -> Result<Vec<Self>, AddressError> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        let address = |text: &str| {
            text.strip_prefix("ssh://").map_or(text, |text| text.strip_suffix('/').unwrap_or(text)).parse()
        };
        text.split(',').map(address).collect()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // Users' names may hold an `@` (those of a directory service do), hosts may not: the last one counts.
        let (user, rest, from) = match text.rfind('@') {
            Some(at) => (Some(&text[..at]), &text[at + 1..], at + 1),
            None => (None, text, 0),
        };
        let fault = |offset: usize, fault: AddressFault| AddressError {
            text: text.to_owned(),
            position: text[..offset].chars().count() + 1,
            fault,
        };
        if let Some(user) = user {
            // A backslash stands between the domain and the name of a directory's users.
            check_name(user, '\\', AddressFault::NoUser).map_err(|(offset, what)| fault(offset, what))?;
        }
        let (host, port) = split_port(rest).map_err(|(offset, what)| fault(from + offset.min(rest.len()), what))?;
        let host_at = from + usize::from(rest.starts_with('['));
        check_host(host).map_err(|(offset, what)| fault(host_at + offset, what))?;
        let port = match port {
            None => None,
            Some(port) => Some(parse_port(port).ok_or_else(|| fault(text.len() - port.len(), AddressFault::Port))?),
        };
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match (self.host.contains(':'), self.port) {
            (false, None) => write!(f, "{}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (true, None) => write!(f, "[{}]", self.host),
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
        }
    }
}

/// Returns whether a text will do as a host: as [`Address`] takes it, and as a configuration's `HostName` must be.
pub(crate) fn is_host(text: &str) -> bool {
    check_host(text).is_ok()
}

/// A fault, and the byte at which it is.
type Fault = (usize, AddressFault);

/// Splits the port from a host, whose brackets are taken off.
fn split_port(text: &str) -> Result<(&str, Option<&str>), Fault> {
    if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']').ok_or((text.len(), AddressFault::Brackets))?;
        return match &inner[end + 1..] {
            "" => Ok((&inner[..end], None)),
            behind => match behind.strip_prefix(':') {
                Some(port) => Ok((&inner[..end], Some(port))),
                None => Err((end + 2, AddressFault::Brackets)),
            },
        };
    }
    match text.split_once(':') {
        // An address without brackets has no port: nobody could tell where it ends.
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        _ => Ok((text, None)),
    }
}

/// Reads a port as digits alone, which `u16::from_str` would precede with a `+`.
fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn check_host(host: &str) -> Result<(), Fault> {
    // Colons are judged below: they make an IPv6 address, or nothing.
    check_name(host, ':', AddressFault::NoHost)?;
    if let Some(offset) = host.find(':') {
        let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
        if address.parse::<Ipv6Addr>().is_err() || zone.is_some_and(|zone| zone.is_empty() || zone.contains([':', '%']))
        {
            return Err((offset, AddressFault::Ipv6));
        }
    }
    Ok(())
}

/// Refuses what no user and no host is called, and what a shell, a terminal or another program's options might make of a name.
fn check_name(name: &str, also: char, empty: AddressFault) -> Result<(), Fault> {
    if name.is_empty() {
        return Err((0, empty));
    }
    if name.starts_with('-') {
        return Err((0, AddressFault::Dash));
    }
    let impossible = |letter: char| {
        letter != also
            && (letter.is_whitespace()
                || letter.is_control()
                || "'`\"$\\;&<>|(){}*?!#,/[]:".contains(letter)
                || is_unseen(letter))
    };
    match name.find(impossible) {
        Some(offset) => Err((offset, AddressFault::Character)),
        None => Ok(()),
    }
}

/// Returns whether a character shows as nothing or turns the direction of what follows, so that a name looks like another.
fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(user: Option<&str>, host: &str, port: Option<u16>) -> Address {
        Address { user: user.map(str::to_owned), host: host.to_owned(), port }
    }

    #[test]
    fn what_users_type_is_understood() {
        for (text, expected) in [
            ("web", address(None, "web", None)),
            ("root@web", address(Some("root"), "web", None)),
            ("root@web:2222", address(Some("root"), "web", Some(2222))),
            ("a@b@web", address(Some("a@b"), "web", None)),
            ("web.example.org:1", address(None, "web.example.org", Some(1))),
            ("192.0.2.1:65535", address(None, "192.0.2.1", Some(65535))),
            ("AD\\me@web", address(Some("AD\\me"), "web", None)),
            ("2001:db8::1", address(None, "2001:db8::1", None)),
            ("::1", address(None, "::1", None)),
            ("[::1]", address(None, "::1", None)),
            ("me@[::1]:22", address(Some("me"), "::1", Some(22))),
            ("fe80::1%eth0", address(None, "fe80::1%eth0", None)),
            ("[fe80::1%eth0]:22", address(None, "fe80::1%eth0", Some(22))),
            ("[web]:2222", address(None, "web", Some(2222))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn ways_name_machines_in_order() {
        for (text, expected) in [
            ("none", vec![]),
            ("a", vec![address(None, "a", None)]),
            (
                "me@a:1,ssh://b:2/,[::1]",
                vec![address(Some("me"), "a", Some(1)), address(None, "b", Some(2)), address(None, "::1", None)],
            ),
        ] {
            assert_eq!(Address::way(text), Ok(expected), "{text}");
        }
        for text in ["", "a,", ",a", "a,-b", "a, b"] {
            assert!(Address::way(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_names_no_machine_is_refused_where_it_goes_wrong() {
        for (text, position, fault) in [
            ("", 1, AddressFault::NoHost),
            ("root@", 6, AddressFault::NoHost),
            ("@web", 1, AddressFault::NoUser),
            (":22", 1, AddressFault::NoHost),
            ("[]:22", 2, AddressFault::NoHost),
            ("-oProxyCommand=x", 1, AddressFault::Dash),
            ("root@-web", 6, AddressFault::Dash),
            ("-l@web", 1, AddressFault::Dash),
            ("[-x]:1", 2, AddressFault::Dash),
            ("we b", 3, AddressFault::Character),
            ("web\n", 4, AddressFault::Character),
            ("web\u{1b}[2J", 4, AddressFault::Character),
            ("web/etc", 4, AddressFault::Character),
            ("$(id)", 1, AddressFault::Character),
            ("ü@w;b", 4, AddressFault::Character),
            ("we\u{202e}b", 3, AddressFault::Character),
            ("we[b", 3, AddressFault::Character),
            ("web:", 5, AddressFault::Port),
            ("web:0", 5, AddressFault::Port),
            ("web:65536", 5, AddressFault::Port),
            ("web:+22", 5, AddressFault::Port),
            ("web:ssh", 5, AddressFault::Port),
            ("[::1", 5, AddressFault::Brackets),
            ("[::1]22", 6, AddressFault::Brackets),
            ("web:22:22", 4, AddressFault::Ipv6),
            ("fe80::1%", 5, AddressFault::Ipv6),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!((error.position, error.fault), (position, fault), "{text:?}");
            assert!(!error.to_string().contains(char::is_control), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
            user in proptest::option::of("[a-z_][a-z0-9_.@-]{0,8}"),
            host in prop_oneof![
                "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}",
                any::<std::net::Ipv4Addr>().prop_map(|host| host.to_string()),
                any::<Ipv6Addr>().prop_map(|host| host.to_string()),
                any::<Ipv6Addr>().prop_map(|host| format!("{host}%eth0")),
            ],
            port in proptest::option::of(1u16..),
        ) {
            let address = Address { user, host, port };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn whatever_is_taken_is_harmless_and_reads_back(text in any::<String>()) {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(!address.host.starts_with('-') && !address.host.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/'));
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
