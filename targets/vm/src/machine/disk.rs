//! Disks, made and changed by `qemu-img`.
//!
//! Invariant: nothing here deletes or replaces a disk. What is made appears under its name when it is whole.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Deserialize;

use super::spec::DiskFormat;
use super::{MachineError, size, tool};

const PROGRAM: &str = "qemu-img";

/// What a disk says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Info {
    /// The size that a machine sees.
    pub virtual_size: u64,
    /// The disk below it.
    pub full_backing_filename: Option<PathBuf>,
    /// The disk below it, as it is written down.
    backing_filename: Option<String>,
    /// Its snapshots.
    #[serde(default)]
    pub snapshots: Vec<Held>,
    format_specific: Option<Specific>,
}

#[derive(Debug, Clone, Deserialize)]
struct Specific {
    data: Option<Data>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Data {
    /// The file that holds what the disk only lists.
    data_file: Option<String>,
}

/// A snapshot within a disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Held {
    /// What it is known by within the disk.
    id: String,
    /// Its name.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    pub date_sec: u64,
}

/// Finds out a disk's format from its first bytes; an error where they are no disk's.
pub fn format(path: &Path) -> Result<DiskFormat, MachineError> {
    let read = || -> io::Result<[u8; 512]> {
        let mut first = [0; 512];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut first).map(|()| first)
    };
    let first = match read() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => [0; 512],
        first => first.map_err(MachineError::file("read", path))?,
    };
    match first {
        [b'Q', b'F', b'I', 0xfb, ..] => Ok(DiskFormat::Qcow2),
        [.., 0x55, 0xaa] => Ok(DiskFormat::Raw),
        _ => Err(MachineError::invalid(
            format!("`{}` is no disk: neither qcow2 nor one with a boot sector", path.display()),
            "unpack it first if it is compressed; convert other formats with `qemu-img convert -O qcow2`",
        )),
    }
}

/// Asks a disk what it is; it may be in use.
pub fn info(path: &Path, format: DiskFormat) -> Result<Info, MachineError> {
    let words = ["info", "--force-share", "--output=json", "-f", name(format)].map(AsRef::as_ref);
    let text = tool::run(PROGRAM, [&words[..], &[path.as_os_str()]].concat())?;
    serde_json::from_slice(&text)
        .map_err(|error| MachineError::Program { program: PROGRAM.into(), said: error.to_string() })
}

/// Refuses a disk from elsewhere that would have other files of this machine read.
pub fn alone(path: &Path, format: DiskFormat) -> Result<Info, MachineError> {
    let info = info(path, format)?;
    let held_by = info.format_specific.as_ref().and_then(|specific| specific.data.as_ref()?.data_file.as_ref());
    let how = match (&info.backing_filename, held_by) {
        (None, None) => return Ok(info),
        (Some(below), _) => format!("lies over another disk, `{below}`"),
        (None, Some(file)) => format!("keeps its data in another file, `{file}`"),
    };
    Err(MachineError::invalid(
        format!("`{}` {how}", path.display()),
        "flatten it first: `qemu-img convert -O qcow2 OLD NEW`",
    ))
}

/// Makes a disk that holds only what differs from a base.
pub fn overlay(path: &Path, base: &Path, base_format: DiskFormat, wanted: Option<u64>) -> Result<(), MachineError> {
    let size = at_least(info(base, base_format)?.virtual_size, wanted)?;
    whole(path, |part| {
        let words = ["create", "-q", "-f", "qcow2", "-F", name(base_format), "-b"].map(AsRef::as_ref);
        let size = size.to_string();
        tool::run(PROGRAM, [&words[..], &[base.as_os_str(), part.as_os_str(), size.as_ref()]].concat()).map(drop)
    })
}

/// Makes an empty disk.
pub fn empty(path: &Path, size: u64) -> Result<(), MachineError> {
    whole(path, |part| {
        let words = ["create", "-q", "-f", "qcow2"].map(AsRef::as_ref);
        let size = size.to_string();
        tool::run(PROGRAM, [&words[..], &[part.as_os_str(), size.as_ref()]].concat()).map(drop)
    })
}

/// Copies a disk, or a snapshot of it. A copy of an overlay lies over the same base, which never changes.
pub fn copy(
    path: &Path,
    from: &Path,
    from_format: DiskFormat,
    snapshot: Option<&str>,
    wanted: Option<u64>,
) -> Result<(), MachineError> {
    let info = info(from, from_format)?;
    let size = at_least(info.virtual_size, wanted)?;
    whole(path, |part| {
        let mut command = tool::command(PROGRAM);
        command.args(["convert", "-q", "-f", name(from_format), "-O", "qcow2"]);
        if let Some(snapshot) = snapshot {
            command.arg("-l").arg(format!("snapshot.name={snapshot}"));
        }
        if let Some(below) = &info.full_backing_filename {
            command.arg("-B").arg(below).args(["-F", name(format(below)?)]);
        }
        tool::finish(command.args([from, part]))?;
        if size > info.virtual_size {
            grow(part, size)?;
        }
        Ok(())
    })
}

/// Makes a disk larger.
pub fn grow(path: &Path, size: u64) -> Result<(), MachineError> {
    let size = size.to_string();
    let words = ["resize", "-q", "-f", "qcow2"].map(AsRef::as_ref);
    tool::run(PROGRAM, [&words[..], &[path.as_os_str(), size.as_ref()]].concat()).map(drop)
}

/// What is done with a snapshot of a disk that no machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum OnSnapshot {
    Create,
    Revert,
    Delete,
}

/// Takes a snapshot, goes back to one, or forgets it.
pub fn snapshot(path: &Path, what: OnSnapshot, name: &str) -> Result<(), MachineError> {
    let id;
    let (option, name) = match what {
        OnSnapshot::Create => ("-c", name),
        OnSnapshot::Revert => {
            id = id_of(path, name)?;
            ("-a", id.as_str())
        }
        OnSnapshot::Delete => ("-d", name),
    };
    let words = ["snapshot", "-q", option, name].map(AsRef::as_ref);
    tool::run(PROGRAM, [&words[..], &[path.as_os_str()]].concat()).map(drop)
}

/// Returns a snapshot's id. Whoever goes back to one is asked for an id before a name, and ids are numbers, which names may be too.
fn id_of(path: &Path, name: &str) -> Result<String, MachineError> {
    let held = info(path, DiskFormat::Qcow2)?.snapshots;
    let mut ids = held.into_iter().filter(|held| held.name == name).map(|held| held.id);
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            let what = format!("`{}` has no snapshot `{name}`", path.display());
            Err(MachineError::refused(what, "`charly vm snapshot list` shows those there are"))
        }
        (Some(_), Some(_)) => {
            let what = format!("`{}` has two snapshots `{name}`", path.display());
            Err(MachineError::refused(what, "tell them apart by `qemu-img snapshot -l`, and delete one by its id"))
        }
    }
}

/// Makes a file that has its name only once it is whole; one that is there already is left alone.
fn whole(path: &Path, make: impl FnOnce(&Path) -> Result<(), MachineError>) -> Result<(), MachineError> {
    if path.exists() {
        return Ok(());
    }
    let part = path.with_extension("part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(MachineError::file("removed", &part)(error));
        }
        _ => {}
    }
    make(&part)?;
    let durable = File::open(&part).and_then(|file| file.sync_all());
    durable.and_then(|()| name_it(&part, path)).map_err(MachineError::file("written", path))
}

/// Gives a file its name, which it takes from no other.
fn name_it(part: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
        // File systems that know no such thing know links, which take no name that is in use either.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(part, path).and_then(|()| fs::remove_file(part)),
        done => Ok(done?),
    }
}

pub(super) fn at_least(least: u64, wanted: Option<u64>) -> Result<u64, MachineError> {
    let wanted = wanted.unwrap_or(least);
    if wanted >= least {
        return Ok(wanted);
    }
    let what = format!("a disk of {} is smaller than what it is made from", size::display(wanted));
    Err(MachineError::invalid(what, format!("make it {} or larger", size::display(least))))
}

pub(super) fn name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Raw => "raw",
    }
}

#[cfg(test)]
mod tests;
