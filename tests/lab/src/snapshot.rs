//! Inventories of a guest: everything a test may compare before and after.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use crate::diff::{self, Diff};
use crate::{Allowed, Error, host};

const INVENTORY: &str = include_str!("inventory.sh");
/// Reads paths from its standard input; a file that has gone meanwhile is no failure.
const DIGEST: &str = "cd / && { xargs -0 -r sha256sum -z -- 2>/dev/null; true; }";

/// What an item of an inventory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A path: type, mode, owner, then the digest or link target, then the extended attributes.
    File,
    /// A package as `name:architecture`: wanted state, state, version.
    Package,
    /// A package that was installed because another wanted it.
    Auto,
    /// A user of `/etc/passwd`.
    User,
    /// A group of `/etc/group`, with its members.
    Group,
    /// A user whose manager runs without a login.
    Linger,
    /// A unit file of the system: enabled, disabled, static, masked.
    UnitFile,
    /// A unit of the system that is active or failed.
    Unit,
    /// A unit of a user's manager that is active or failed, as `user unit`.
    UserUnit,
}

impl Subject {
    /// The word it is shown by.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Package => "package",
            Self::Auto => "auto",
            Self::User => "user",
            Self::Group => "group",
            Self::Linger => "linger",
            Self::UnitFile => "unit-file",
            Self::Unit => "unit",
            Self::UserUnit => "user-unit",
        }
    }

    fn tagged(tag: &str) -> Option<Self> {
        Some(match tag {
            "P" => Self::Package,
            "A" => Self::Auto,
            "U" => Self::User,
            "G" => Self::Group,
            "L" => Self::Linger,
            "E" => Self::UnitFile,
            "R" => Self::Unit,
            "r" => Self::UserUnit,
            _ => return None,
        })
    }
}

/// Names one thing of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// What it is.
    pub subject: Subject,
    /// Its name: for a file its path.
    pub name: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject.word(), self.name)
    }
}

/// An inventory of a guest at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Item, String>);

impl Snapshot {
    /// The state of one thing, if it is there.
    pub fn get(&self, subject: Subject, name: &str) -> Option<&str> {
        self.0.get(&Item { subject, name: name.to_owned() }).map(String::as_str)
    }

    /// Everything in it, in order.
    pub fn items(&self) -> &BTreeMap<Item, String> {
        &self.0
    }

    /// Compares this inventory with a later one; differences on the list are set apart with their reasons.
    pub fn diff(&self, later: &Self, allowed: &'static [Allowed]) -> Diff {
        diff::between(&self.0, &later.0, allowed)
    }
}

/// Digests of files, each good for as long as the file's inode, size and change time stay as they were: the kernel
/// sets the change time, and no program can set it back.
#[derive(Debug, Default)]
pub(crate) struct Sums(HashMap<String, (String, String)>);

impl Sums {
    /// Reads every file of a tree on the host.
    pub(crate) fn of_tree(root: &Path) -> Result<Self, Error> {
        const LIST: &str = r"cd -- $1 && find . -xdev -type f -printf '%i %s %C@\0%p\0'";
        const READ: &str = "cd -- $1 && find . -xdev -type f -print0 | xargs -0 -r sha256sum -z --";
        let run = |script| host::run("sh", &["-c", script, "sh", host::text(root)]);
        let digests = digests(&run(READ)?);
        let listing = run(LIST)?;
        let fields: Vec<_> = listing.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let sums = fields.chunks_exact(2).filter_map(|pair| {
            let path = absolute(&pair[1]);
            let digest = digests.get(&path)?.clone();
            Some((path, (pair[0].clone().into_owned(), digest)))
        });
        Ok(Self(sums.collect()))
    }

    /// Writes the digests down.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let records: Vec<_> =
            self.0.iter().map(|(path, (stamp, digest))| format!("{path}\0{stamp}\0{digest}\0")).collect();
        host::write(path, records.concat())
    }

    /// Reads what [`Sums::save`] wrote.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = host::read(path)?;
        let fields: Vec<_> = text.split('\0').map(str::to_owned).collect();
        let sums = fields.chunks_exact(3).map(|record| (record[0].clone(), (record[1].clone(), record[2].clone())));
        Ok(Self(sums.collect()))
    }

    fn get(&self, path: &str, stamp: &str) -> Option<&str> {
        self.0.get(path).filter(|known| known.0 == stamp).map(|known| known.1.as_str())
    }
}

/// Takes an inventory through `exec`, which runs a script as the guest's root with a file for its standard input.
/// `list` is a file of the host to write in.
pub(crate) fn take(
    sums: &mut Sums,
    list: &Path,
    exec: impl Fn(&str, Option<&Path>) -> Result<Vec<u8>, Error>,
) -> Result<Snapshot, Error> {
    let Inventory { mut items, stamps, attributes } = parse(&exec(INVENTORY, None)?)?;

    let unknown: Vec<&str> =
        stamps.iter().filter(|(path, stamp)| sums.get(path, stamp).is_none()).map(|(path, _)| path.as_str()).collect();
    host::write(list, unknown.iter().flat_map(|path| [".", path, "\0"]).collect::<String>())?;
    let mut fresh = digests(&exec(DIGEST, Some(list))?);
    for (path, stamp) in stamps {
        let digest = match (sums.get(&path, &stamp), fresh.remove(&path)) {
            (Some(known), _) => known.to_owned(),
            (None, Some(digest)) => {
                sums.0.insert(path.clone(), (stamp, digest.clone()));
                digest
            }
            // It was there a moment ago; what flickers shows as different, as it should.
            (None, None) => "unreadable".to_owned(),
        };
        append(&mut items, path, &digest);
    }
    for (path, attribute) in attributes {
        append(&mut items, path, &attribute);
    }
    Ok(Snapshot(items))
}

#[derive(Debug, Default)]
struct Inventory {
    items: BTreeMap<Item, String>,
    /// Regular files, each with what its digest depends on.
    stamps: BTreeMap<String, String>,
    attributes: Vec<(String, String)>,
}

fn parse(output: &[u8]) -> Result<Inventory, Error> {
    let text = String::from_utf8_lossy(output);
    let fields: Vec<_> = text.split('\0').collect();
    let mut inventory = Inventory::default();
    for record in fields.chunks_exact(3) {
        let [value, name, addition] = [record[0], record[1], record[2]];
        let (tag, value) = value.split_once(' ').unwrap_or((value, ""));
        let unreadable = || Error::Inventory(format!("`{tag} {value}` of `{name}` is not understood"));
        match tag {
            "X" => inventory.attributes.extend(attributes(name)),
            "F" => {
                let path = absolute(name);
                let [kind, mode, owner, stamp] = value.splitn(4, ' ').collect::<Vec<_>>()[..] else {
                    return Err(unreadable());
                };
                let shown = match kind {
                    "l" => format!("l {owner} -> {addition}"),
                    _ => format!("{kind} {mode:0>4} {owner}"),
                };
                if kind == "f" {
                    inventory.stamps.insert(path.clone(), stamp.to_owned());
                }
                inventory.items.insert(Item { subject: Subject::File, name: path }, shown);
            }
            _ => {
                let subject = Subject::tagged(tag).ok_or_else(unreadable)?;
                inventory.items.insert(Item { subject, name: name.to_owned() }, value.to_owned());
            }
        }
    }
    if inventory.stamps.is_empty() || !inventory.items.keys().any(|item| item.subject == Subject::Package) {
        return Err(Error::Inventory("it lists no files or no packages".into()));
    }
    Ok(inventory)
}

/// Reads getfattr's output into pairs of path and `name=value`.
fn attributes(dump: &str) -> Vec<(String, String)> {
    let mut path = String::new();
    let mut pairs = Vec::new();
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("# file: ") {
            path = absolute(&unescape(name));
        } else if !line.is_empty() {
            pairs.push((path.clone(), line.to_owned()));
        }
    }
    pairs
}

/// Undoes getfattr's escapes, three octal digits for a byte.
fn unescape(name: &str) -> String {
    let mut pieces = name.split('\\');
    let mut plain = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let byte = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = byte {
            plain.push(byte);
            plain.extend_from_slice(&piece.as_bytes()[3..]);
        } else {
            plain.push(b'\\');
            plain.extend_from_slice(piece.as_bytes());
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Reads the output of `sha256sum -z`.
fn digests(output: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(output);
    let lines = text.split('\0').filter_map(|line| line.split_once("  "));
    lines.map(|(digest, path)| (absolute(path), digest.to_owned())).collect()
}

/// `find .` writes `./etc`; the guest's path is `/etc`.
fn absolute(path: &str) -> String {
    match path.strip_prefix('.') {
        Some("") => "/".to_owned(),
        Some(rest) => rest.to_owned(),
        None => path.to_owned(),
    }
}

fn append(items: &mut BTreeMap<Item, String>, path: String, text: &str) {
    let value = items.entry(Item { subject: Subject::File, name: path }).or_default();
    value.push(' ');
    value.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::{attributes, parse, unescape};

    #[test]
    fn reads_an_inventory() {
        let text = "F d 755 0:0 2 4096 1.5\0.\0\0F l 777 0:0 3 7 1.5\0./bin\0usr/bin\0F f 4755 0:0 4 10 1.5\0./su\0\0\
                    X\0# file: ./su\nsecurity.capability=0x01\n\n\0\0P install installed 1.2\0su:amd64\0\0R active\0ssh.service\0\0";
        let inventory = parse(text.as_bytes()).unwrap();
        let items: Vec<_> = inventory.items.iter().map(|(item, value)| format!("{item}: {value}")).collect();
        assert_eq!(
            items,
            [
                "file /: d 0755 0:0",
                "file /bin: l 0:0 -> usr/bin",
                "file /su: f 4755 0:0",
                "package su:amd64: install installed 1.2",
                "unit ssh.service: active",
            ]
        );
        assert_eq!(inventory.stamps["/su"], "4 10 1.5");
        assert_eq!(inventory.attributes, [("/su".to_owned(), "security.capability=0x01".to_owned())]);
    }

    #[test]
    fn refuses_an_inventory_that_is_none() {
        for text in ["", "nonsense", "Z what\0x\0\0", "F f 755\0./x\0\0"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_attributes_of_paths_with_strange_names() {
        let dump = "# file: ./a\\012b\nuser.x=0x01\nuser.y=0x02\n\n# file: ./c\nuser.z=0x\n";
        let pairs = attributes(dump);
        let pairs: Vec<_> = pairs.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("/a\nb", "user.x=0x01"), ("/a\nb", "user.y=0x02"), ("/c", "user.z=0x")]);
        assert_eq!(unescape("a\\134b\\9\\"), "a\\b\\9\\");
        assert_eq!(unescape("\\303\\244"), "ä");
    }
}
