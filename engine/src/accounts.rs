//! Users and groups of a root.
//!
//! A static program has no name service of its own, so the machine's accounts come from getent(1) and id(1), which know
//! directory services too; another root's come from its files.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use charly_ir::facts::User;

use crate::environment::tool;
use crate::lookup;
use crate::process::{Cancel, Exit, Identity, run_captured};

/// How long a directory service may take to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Far more than any entry has, and enough for a file of a hundred thousand accounts.
const CAP: usize = 16 << 20;

/// The accounts of a root.
#[derive(Debug, Clone)]
pub struct Accounts {
    root: PathBuf,
}

/// A group, as the group database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
    /// The users that are members besides those whose main group it is.
    pub members: Vec<String>,
}

/// Whom to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The numbers.
    pub identity: Identity,
    /// The account; one without a name or home of its own gets its number and `/`.
    pub user: User,
}

/// Why an account could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The text names nobody, in any database.
    #[error("`{text}` is not a user: a name, a number, `uid:gid` or `name:group` is wanted")]
    Malformed {
        /// The text.
        text: String,
    },
    /// There is no such user.
    #[error("there is no user `{name}` here")]
    NoUser {
        /// The name or number.
        name: String,
    },
    /// There is no such group.
    #[error("there is no group `{name}` here")]
    NoGroup {
        /// The name or number.
        name: String,
    },
    /// The database gave no answer.
    #[error("cannot look up `{key}` in the {database} database")]
    Lookup {
        /// The database.
        database: &'static str,
        /// What was looked up.
        key: String,
        /// Why.
        source: io::Error,
    },
}

impl AccountError {
    /// Returns what to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoUser { name } if is_number(name) => Some("write `uid:gid` to run as a number that has no account"),
            Self::NoUser { .. } => Some("create the user first, in a step before this one or by a package"),
            Self::NoGroup { .. } => Some("create the group first, in a step before this one or by a package"),
            Self::Malformed { .. } | Self::Lookup { .. } => None,
        }
    }
}

impl Accounts {
    /// Takes the folder that stands for `/`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns a user by name.
    pub fn user(&self, name: &str) -> Result<Option<User>, AccountError> {
        if !is_name(name) {
            return Ok(None);
        }
        self.find("passwd", name, parse_user, |user: &User| user.name == name)
    }

    /// Returns a user by number: the first that has it.
    pub fn user_by_uid(&self, uid: u32) -> Result<Option<User>, AccountError> {
        self.find("passwd", &uid.to_string(), parse_user, |user: &User| user.uid == uid)
    }

    /// Returns a group by name.
    pub fn group(&self, name: &str) -> Result<Option<Group>, AccountError> {
        if !is_name(name) {
            return Ok(None);
        }
        self.find("group", name, parse_group, |group: &Group| group.name == name)
    }

    /// Returns a group by number: the first that has it.
    pub fn group_by_gid(&self, gid: u32) -> Result<Option<Group>, AccountError> {
        self.find("group", &gid.to_string(), parse_group, |group: &Group| group.gid == gid)
    }

    /// Returns the numbers of all groups of a user, the main one first.
    pub fn groups_of(&self, user: &User) -> Result<Vec<u32>, AccountError> {
        let mut groups = vec![user.gid];
        if lookup::is_live(&self.root) && is_name(&user.name) {
            let error = |source| AccountError::Lookup { database: "group", key: user.name.clone(), source };
            match run_captured(&tool(&["id", "-G", &user.name], LIMIT), &Cancel::default(), CAP) {
                Ok(captured) if captured.exit == Exit::Status(0) => {
                    let text = captured.stdout.text();
                    groups.extend(text.split_whitespace().filter_map(|gid| gid.parse::<u32>().ok()));
                    return Ok(without_repeats(groups));
                }
                Ok(captured) => return Err(error(io::Error::other(captured.stderr.text().trim().to_owned()))),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(error(source)),
            }
        }
        let all = self.entries("group", &user.name)?;
        let all = all.lines().filter_map(parse_group);
        groups.extend(all.filter(|group| group.members.contains(&user.name)).map(|group| group.gid));
        Ok(without_repeats(groups))
    }

    /// Returns whom a `run_as` means: a name, a number, `uid:gid` or `name:group`.
    ///
    /// A group given replaces the main group; the account's other groups stay. A number without an account must come with
    /// a group, and has no other.
    pub fn run_as(&self, text: &str) -> Result<RunAs, AccountError> {
        let malformed = || AccountError::Malformed { text: text.chars().take(80).collect() };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        for part in [Some(user), group].into_iter().flatten() {
            if !is_name(part) && number(part).is_none() {
                return Err(malformed());
            }
        }
        let gid = match group {
            None => None,
            Some(group) => Some(match number(group) {
                Some(gid) => gid,
                None => self.group(group)?.ok_or_else(|| AccountError::NoGroup { name: group.to_owned() })?.gid,
            }),
        };
        let account = match number(user) {
            Some(uid) => self.user_by_uid(uid)?,
            None => self.user(user)?,
        };
        match (account, number(user), gid) {
            (Some(user), _, gid) => {
                let others = self.groups_of(&user)?;
                let gid = gid.unwrap_or(user.gid);
                let groups = without_repeats([gid].into_iter().chain(others).collect());
                Ok(RunAs { identity: Identity { uid: user.uid, gid, groups }, user })
            }
            (None, Some(uid), Some(gid)) => {
                Ok(RunAs { identity: Identity { uid, gid, groups: vec![gid] }, user: nameless(uid, gid) })
            }
            (None, _, _) => Err(AccountError::NoUser { name: user.to_owned() }),
        }
    }

    /// Returns the account this process runs as.
    pub fn own(&self) -> Result<User, AccountError> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(self.user_by_uid(uid)?.unwrap_or_else(|| nameless(uid, gid)))
    }

    fn find<T>(
        &self,
        database: &'static str,
        key: &str,
        parse: fn(&str) -> Option<T>,
        is_it: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, AccountError> {
        if lookup::is_live(&self.root) {
            let error = |source| AccountError::Lookup { database, key: key.to_owned(), source };
            match run_captured(&tool(&["getent", database, key], LIMIT), &Cancel::default(), CAP) {
                // A numeric name would be looked up as a number, so what comes back is compared too.
                Ok(captured) => match captured.exit {
                    Exit::Status(0) => return Ok(captured.stdout.text().lines().filter_map(parse).find(is_it)),
                    Exit::Status(2) => return Ok(None),
                    exit => return Err(error(io::Error::other(format!("getent ended with {exit}")))),
                },
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(error(source)),
            }
        }
        Ok(self.entries(database, key)?.lines().filter_map(parse).find(is_it))
    }

    /// Reads the file of a database; a root without one has no accounts.
    fn entries(&self, database: &'static str, key: &str) -> Result<String, AccountError> {
        match lookup::read_text(&self.root, &format!("/etc/{database}"), CAP as u64) {
            Ok(text) => Ok(text),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(AccountError::Lookup { database, key: key.to_owned(), source }),
        }
    }
}

fn nameless(uid: u32, gid: u32) -> User {
    User { name: uid.to_string(), uid, gid, home: "/".to_owned(), shell: "/bin/sh".to_owned() }
}

fn parse_user(line: &str) -> Option<User> {
    let [name, _, uid, gid, _, home, shell] = line.split(':').collect::<Vec<_>>()[..] else { return None };
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    Some(User {
        name: Some(name.to_owned()).filter(|name| !name.is_empty())?,
        uid: number(uid)?,
        gid: number(gid)?,
        home: or(home, "/"),
        shell: or(shell, "/bin/sh"),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let [name, _, gid, members] = line.split(':').collect::<Vec<_>>()[..] else { return None };
    let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
    Some(Group { name: Some(name.to_owned()).filter(|name| !name.is_empty())?, gid: number(gid)?, members })
}

/// Tells whether a text could name an account and is safe as a tool's argument.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && !text.starts_with('-')
        && !is_number(text)
        && !text.chars().any(|c| matches!(c, ':' | '/' | ',') || c.is_whitespace() || c.is_control())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads an account's number. The largest one means "leave as it is" to the kernel and is nobody's.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| is_number(text) && *number != u32::MAX)
}

fn without_repeats(groups: Vec<u32>) -> Vec<u32> {
    let mut seen = std::collections::BTreeSet::new();
    groups.into_iter().filter(|group| seen.insert(*group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (tempfile::TempDir, Accounts) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/bash\njunk\nann:x:1000:100:Ann,,,:/home/ann:\n\
                      bad:x:-1:0::/:\nnone:x:4294967295:0::/:\n+nis::::::\nbob:x:1001:1001::/home/bob:/bin/zsh\n";
        let group = "root:x:0:\nusers:x:100:bob\nwheel:x:10:ann,bob\nann:x:1000:\naudio:x:29:bob,ann\n";
        std::fs::write(temp.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(temp.path().join("etc/group"), group).unwrap();
        let accounts = Accounts::new(temp.path());
        (temp, accounts)
    }

    #[test]
    fn run_as_is_read_in_every_form() {
        let (_temp, accounts) = sample();
        for (text, want, home) in [
            ("root", (0, 0, vec![0]), "/root"),
            ("0", (0, 0, vec![0]), "/root"),
            ("ann", (1000, 100, vec![100, 10, 29]), "/home/ann"),
            ("1000", (1000, 100, vec![100, 10, 29]), "/home/ann"),
            ("ann:wheel", (1000, 10, vec![10, 100, 29]), "/home/ann"),
            ("1000:7", (1000, 7, vec![7, 100, 10, 29]), "/home/ann"),
            ("bob:0", (1001, 0, vec![0, 1001, 100, 10, 29]), "/home/bob"),
            ("5000:5001", (5000, 5001, vec![5001]), "/"),
        ] {
            let found = accounts.run_as(text).unwrap();
            let Identity { uid, gid, groups } = found.identity;
            assert_eq!(((uid, gid, groups), &*found.user.home), (want, home), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let (_temp, accounts) = sample();
        for text in
            ["", ":", "ann:", ":wheel", "a b", "-u", "ann:-g", "../x", "ann:wheel:x", "4294967295", "99999999999"]
        {
            let error = accounts.run_as(text).unwrap_err();
            assert!(matches!(error, AccountError::Malformed { .. }), "{text}: {error}");
        }
        for (text, want) in [
            ("eve", "there is no user `eve` here"),
            ("bad", "there is no user `bad` here"),
            ("none", "there is no user `none` here"),
            ("5000", "there is no user `5000` here"),
            ("eve:100", "there is no user `eve` here"),
            ("ann:nogroup", "there is no group `nogroup` here"),
        ] {
            let error = accounts.run_as(text).unwrap_err();
            assert_eq!(error.to_string(), want);
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn an_empty_root_has_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(temp.path());
        assert_eq!(accounts.user("root").unwrap(), None);
        assert_eq!(accounts.group("root").unwrap(), None);
        assert_eq!(accounts.own().unwrap().uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn the_machines_own_accounts_are_found() {
        let accounts = Accounts::new("/");
        let root = accounts.user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid, &*root.home), (0, 0, "/root"));
        assert_eq!(accounts.user_by_uid(0).unwrap(), Some(root.clone()));
        assert_eq!(accounts.group("root").unwrap(), accounts.group_by_gid(0).unwrap());
        assert_eq!(accounts.groups_of(&root).unwrap()[0], 0);
        assert_eq!(accounts.user("no-such-user-here").unwrap(), None);
        assert_eq!(accounts.user("0").unwrap(), None, "a number is no name");
        assert_eq!(accounts.user("--help").unwrap(), None);
    }
}
