//! Users and groups that packages make, and who still uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::tree;

/// The numbers that packages take for their users; people's begin here.
const FIRST_PERSON: u32 = 1000;

/// Where an account's files may lie.
const SEARCHED: [&str; 7] = ["etc", "home", "opt", "root", "srv", "usr/local", "var"];

/// The accounts of a root's own files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Accounts {
    /// System users: name to number.
    pub(super) users: BTreeMap<String, u32>,
    /// System groups: name to number.
    pub(super) groups: BTreeMap<String, u32>,
    /// The main groups of all users, people included.
    pub(super) main_groups: BTreeSet<u32>,
    /// Who is in which group beside their main one.
    pub(super) members: BTreeMap<String, BTreeSet<String>>,
}

/// The numbers that a process or a file uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct InUse {
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
}

impl Accounts {
    /// Reads the system accounts of a root. Those of people are left out: no package makes them, so none is ever removed.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let read =
            |path: &str| Ok::<_, io::Error>(tree::present(fs::read_to_string(root.join(path)))?.unwrap_or_default());
        let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
        let main_groups = passwd.lines().filter_map(|line| line.split(':').nth(3)?.parse().ok()).collect();
        Ok(Self { users: numbered(&passwd), groups: numbered(&group), main_groups, members: members(&group) })
    }
}

/// Takes name and number from lines such as `redis:x:101:102:…`.
fn numbered(text: &str) -> BTreeMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (id < FIRST_PERSON && id != 0).then(|| (name.to_owned(), id))
    };
    text.lines().filter_map(entry).collect()
}

/// Takes the names from lines such as `ssl-cert:x:104:postgres,caddy`.
fn members(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, members) = (fields.next()?, fields.nth(2)?);
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned);
        Some((name.to_owned(), members.collect()))
    };
    text.lines().filter_map(entry).collect()
}

/// Finds which of some accounts processes or files use, in one pass. Of a root that does not run, only files count.
pub(super) fn in_use(root: &Path, accounts: &Accounts) -> io::Result<InUse> {
    let uids: BTreeSet<u32> = accounts.users.values().copied().collect();
    let gids: BTreeSet<u32> = accounts.groups.values().copied().collect();
    let mut out = InUse::default();
    let mut note = |meta: &fs::Metadata| {
        out.uids.extend(uids.get(&meta.uid()));
        out.gids.extend(gids.get(&meta.gid()));
    };
    for folder in SEARCHED {
        search(&root.join(folder), &mut note)?;
    }
    if root == Path::new("/") {
        for entry in fs::read_dir("/proc")? {
            // The folder's owner would not do: that of a process which changed its user is root. One that ended meanwhile
            // uses nothing.
            let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
            out.uids.extend(status_ids(&status, "Uid:").filter(|id| uids.contains(id)));
            out.gids.extend(
                ["Gid:", "Groups:"].iter().flat_map(|field| status_ids(&status, field)).filter(|id| gids.contains(id)),
            );
        }
    }
    Ok(out)
}

/// Takes the numbers of one field of a process's status.
fn status_ids<'a>(status: &'a str, field: &str) -> impl Iterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.into_iter().flat_map(str::split_whitespace).filter_map(|word| word.parse().ok())
}

fn search(folder: &Path, note: &mut dyn FnMut(&fs::Metadata)) -> io::Result<()> {
    let Some(top) = tree::present(fs::symlink_metadata(folder))? else { return Ok(()) };
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let Some(entries) = tree::present(fs::read_dir(&folder))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Some(meta) = tree::present(entry.metadata())? else { continue };
            note(&meta);
            if meta.is_dir() && meta.dev() == top.dev() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_names_all_its_users() {
        let status = "Name:\tredis\nUid:\t101\t101\t0\t101\nGroups:\t102 103\n";
        assert_eq!(status_ids(status, "Uid:").collect::<Vec<_>>(), [101, 101, 0, 101]);
        assert_eq!(status_ids(status, "Groups:").collect::<Vec<_>>(), [102, 103]);
        assert_eq!(status_ids(status, "Gid:").count(), 0);
    }

    #[test]
    fn groups_have_members() {
        let read = members("ssl-cert:x:104:postgres,caddy\npostgres:x:105:\njunk\n");
        let of = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let want = [("ssl-cert".to_owned(), of(&["caddy", "postgres"])), ("postgres".to_owned(), of(&[]))];
        assert_eq!(read, want.into());
    }

    #[test]
    fn only_system_accounts_are_read() {
        let passwd = "root:x:0:0::/root:/bin/sh\nredis:x:101:102::/var/lib/redis:/usr/sbin/nologin\nann:x:1000:1000::/home/ann:\nnobody:x:65534:1::/:\njunk\n";
        assert_eq!(numbered(passwd), [("redis".to_owned(), 101)].into());
    }
}
