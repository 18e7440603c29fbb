//! Words and numbers that have a form of their own.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::diagnostic::Diagnostic;
use crate::read::{FromText, Problem, choice};

/// A version by date: year, day of the year, hour and minute, `YYYY.DDD.HHMM`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CalVer(String);

/// Permission bits, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// A stretch of time, written as in `90s`, `5m`, `1m30s` or `500ms`; a bare number means seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

/// The name of a candy or another entity: lower-case letters, digits, and `-`, `_`, `.` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvName(String);

/// A path below the candy's own folder, with `/` between its parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePath(String);

/// A port of a service, with what is spoken on it where that is not plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// What is spoken.
    pub protocol: PortProtocol,
    /// The port's number.
    pub number: u16,
}

/// A digest, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub charly_ir::Digest);

choice! {
    /// What is spoken on a port.
    pub enum PortProtocol {
        /// Plain TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// HTTP.
        Http = "http",
        /// HTTPS with a certificate that others vouch for.
        Https = "https",
        /// HTTPS with a certificate nobody vouches for.
        HttpsInsecure = "https+insecure",
    }
}

impl CalVer {
    /// Returns the version of a moment, given in seconds since 1970.
    pub fn at(seconds: u64) -> Self {
        let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut day, minute) = (seconds / 86_400, seconds / 60 % 1440);
        let mut year = 1970;
        while day >= 365 + u64::from(leap(year)) {
            day -= 365 + u64::from(leap(year));
            year += 1;
        }
        Self(format!("{year:04}.{:03}.{:02}{:02}", day + 1, minute / 60, minute % 60))
    }
}

impl Mode {
    /// Reads a mode out of octal digits.
    fn parse(text: &str) -> Option<u32> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = (3..=5).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o7777)
    }
}

impl Duration {
    /// Returns it in milliseconds.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns it in whole seconds, rounded up.
    pub fn as_seconds(self) -> u32 {
        u32::try_from(self.0.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl FromText for CalVer {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let parts: Vec<_> = text.split('.').collect();
        let number = |at: usize, length: usize| -> Option<u32> {
            let part: &str = parts.get(at)?;
            (part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
        };
        let valid = match (number(0, 4), number(1, 3), number(2, 4)) {
            (Some(year), Some(day), Some(time)) => {
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                parts.len() == 3 && (1..=365 + u32::from(leap)).contains(&day) && time / 100 < 24 && time % 100 < 60
            }
            _ => false,
        };
        if !valid {
            let hint = "write year, day of the year, hour and minute with all their zeros, such as `2026.165.0930`";
            return Err(Problem::new(format!("`{text}` is not a CalVer `YYYY.DDD.HHMM`"), hint));
        }
        Ok(Self(text.to_owned()))
    }

    fn text_schema() -> Json {
        json!({"type": "string", "pattern": r"^\d{4}\.\d{3}\.\d{4}$"})
    }
}

impl FromText for Mode {
    fn from_text(text: &str) -> Result<Self, Problem> {
        if let Some(mode) = Self::parse(text) {
            Ok(Self(mode))
        } else {
            let hint = "write it in octal with all its digits, such as \"0644\" or \"0755\"";
            Err(Problem::new(format!("`{text}` is not a mode"), hint))
        }
    }

    fn text_schema() -> Json {
        json!({"type": ["string", "integer"], "pattern": "^(0o)?[0-7]{3,5}$"})
    }
}

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let problem =
            || Problem::new(format!("`{text}` is not a stretch of time"), "write it as in `90s`, `5m` or `500ms`");
        let mut total = 0_u64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().map_err(|_| problem())?;
            rest = &rest[digits..];
            let unit = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
            let millis = match &rest[..unit] {
                "ms" => 1,
                "s" => 1000,
                "" if digits == text.len() => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(problem()),
            };
            total = number.checked_mul(millis).and_then(|part| part.checked_add(total)).ok_or_else(problem)?;
            rest = &rest[unit..];
        }
        if text.is_empty() {
            return Err(problem());
        }
        Ok(Self(std::time::Duration::from_millis(total)))
    }

    fn text_schema() -> Json {
        json!({"type": ["string", "integer"], "pattern": r"^(\d+|(\d+(ms|s|m|h|d))+)$"})
    }
}

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        let bytes = text.as_bytes();
        let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| inner(*byte) && byte.is_ascii_alphanumeric());
        if text.len() > 64
            || !bytes.iter().all(|byte| inner(*byte))
            || !ends_well(bytes.first())
            || !ends_well(bytes.last())
        {
            let hint = "use lower-case letters and digits, with `-`, `_` or `.` between them, 64 at most";
            return Err(Problem::new(format!("`{text}` is not a name"), hint));
        }
        Ok(Self(text.to_owned()))
    }

    fn text_schema() -> Json {
        json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", "maxLength": 64})
    }
}

impl FromText for EnvName {
    fn from_text(text: &str) -> Result<Self, Problem> {
        if is_env_name(text) {
            return Ok(Self(text.to_owned()));
        }
        let hint = "use letters, digits and `_`, and no digit first";
        Err(Problem::new(format!("`{text}` is not the name of a variable"), hint))
    }

    fn text_schema() -> Json {
        json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})
    }
}

impl FromText for SourcePath {
    fn from_text(text: &str) -> Result<Self, Problem> {
        if text.starts_with(['/', '~']) || text.split('/').any(|part| part == "..") {
            let hint = "put the file beside the candy's charly.yml and name it from there";
            return Err(Problem::new(format!("`{text}` lies outside the candy's folder"), hint));
        }
        let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() || text.contains(['\\', '\0', '\n']) {
            return Err(format!("`{text}` names no file").into());
        }
        Ok(Self(parts.join("/")))
    }

    fn text_schema() -> Json {
        json!({"type": "string"})
    }
}

impl FromText for Port {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let (protocol, number) = match text.rsplit_once(':') {
            Some((protocol, number)) => (PortProtocol::from_text(protocol)?, number),
            None => (PortProtocol::Tcp, text),
        };
        match number.parse() {
            Ok(number) if number > 0 => Ok(Self { protocol, number }),
            _ => Err(Problem::new(format!("`{text}` is not a port"), "write a number, or as in `tcp:5900`")),
        }
    }

    fn text_schema() -> Json {
        json!({"type": ["integer", "string"], "pattern": r"^([a-z+]+:)?\d+$", "minimum": 1, "maximum": 65535})
    }
}

impl FromText for Sha256 {
    fn from_text(text: &str) -> Result<Self, Problem> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        digits
            .parse()
            .map(Self)
            .map_err(|_| Problem::new(format!("`{text}` is not a SHA-256"), "write 64 hexadecimal digits"))
    }

    fn text_schema() -> Json {
        json!({"type": "string", "pattern": "^(sha256:)?[0-9a-fA-F]{64}$"})
    }
}

/// Tells whether a shell takes the text for the name of a variable.
pub(crate) fn is_env_name(text: &str) -> bool {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

macro_rules! text_types {
    ($($name:ident),+) => {$(
        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text_types!(CalVer, Name, EnvName, SourcePath);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_millis() {
            millis if millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            PortProtocol::Tcp => write!(f, "{}", self.number),
            protocol => write!(f, "{protocol}:{}", self.number),
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.strip_prefix("sha256:").unwrap_or(&text))
    }
}

macro_rules! written_as_shown {
    ($($name:ident),+) => {$(
        impl FromStr for $name {
            type Err = Diagnostic;

            fn from_str(text: &str) -> Result<Self, Diagnostic> {
                let problem = |Problem { message, hint }| Diagnostic { hint, ..Diagnostic::error(message) };
                <Self as FromText>::from_text(text).map_err(problem)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

written_as_shown!(CalVer, Mode, Duration, Name, EnvName, SourcePath, Port, Sha256);

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T: FromText>(good: &[(&str, &str)], bad: &[&str]) {
        for (text, want) in good {
            let read = T::from_text(text).map(|value| value.to_string()).map_err(|problem| problem.message);
            assert_eq!(read.as_deref(), Ok(*want), "{text}");
        }
        for text in bad {
            assert!(T::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_has_a_version() {
        for (seconds, want) in [(0, "1970.001.0000"), (951_782_399, "2000.059.2359"), (1_781_429_400, "2026.165.0930")]
        {
            assert_eq!(CalVer::at(seconds).as_str(), want);
        }
    }

    #[test]
    fn forms() {
        reads::<CalVer>(
            &[("2026.165.0930", "2026.165.0930"), ("2024.366.2359", "2024.366.2359")],
            &[
                "2026.165.930",
                "2026.65.0930",
                "2026.366.0000",
                "2026.000.0000",
                "2026.001.2400",
                "2026.001.0060",
                "1.2.3",
                "",
                "2026.001.0000.1",
                "+026.001.0000",
            ],
        );
        reads::<Mode>(
            &[("0644", "0644"), ("755", "0755"), ("0o1777", "1777"), ("07777", "7777")],
            &["", "8", "0888", "rwx", "17777", "-644", "7"],
        );
        reads::<Duration>(
            &[("5", "5s"), ("5s", "5s"), ("1m30s", "90s"), ("500ms", "500ms"), ("2h", "7200s")],
            &["", "s", "5 s", "5x", "-1s", "1.5s", "99999999999999999999s", "5s5"],
        );
        reads::<Name>(
            &[("a", "a"), ("k3s-server", "k3s-server"), ("fedora.43", "fedora.43")],
            &["", "-a", "a-", "A", "a b", "a/b", "..", "ü"],
        );
        reads::<SourcePath>(
            &[("a/b", "a/b"), ("./a//b", "a/b"), ("a..b", "a..b")],
            &["", ".", "/a", "../a", "a/../b", "~/a"],
        );
        reads::<Port>(
            &[
                ("8080", "8080"),
                ("tcp:5900", "5900"),
                ("udp:53", "udp:53"),
                ("https+insecure:3000", "https+insecure:3000"),
            ],
            &["0", "65536", "x:1", "http", ""],
        );
        reads::<EnvName>(&[("A_1", "A_1"), ("_x", "_x")], &["1A", "", "A-B", "A=B"]);
    }
}
