//! Judges a path.

use std::io::{self, Read as _};

use charly_ir::Digest;
use charly_ir::check::Matcher;
use rustix::fs::{FileType, Stat};

use super::Probe;
use super::findings::{Findings, Halt, chain, quote};
use super::matcher;
use crate::lookup;

/// The largest file that is searched.
const SEARCHED: u64 = 16 << 20;

/// What is asked of a path besides being there, or not.
pub(super) struct Wanted<'a> {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<&'a str>,
    pub(super) filetype: Option<&'a str>,
    pub(super) contains: &'a [Matcher],
}

pub(super) fn evaluate(
    probe: &Probe<'_>,
    path: &str,
    exists: Option<bool>,
    wanted: &Wanted<'_>,
    sha256: Option<&str>,
) -> Result<Findings, Halt> {
    let mut findings = Findings::default();
    if !path.starts_with('/') {
        return Err(Halt::Fail(format!("{} is not an absolute path", quote(path))));
    }
    // A link is judged itself only where a link is asked for; even one that leads nowhere is something that exists.
    let wants_link = wanted.filetype == Some("symlink");
    let follow = exists.unwrap_or(true) && !wants_link;
    let stat = match lookup::stat(probe.context.root, path, follow) {
        Ok(stat) => stat,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            if exists.unwrap_or(true) {
                let dangling = follow && lookup::stat(probe.context.root, path, false).is_ok();
                let found = if dangling { "a link that leads nowhere" } else { "nothing" };
                findings.add(format!("wanted {} to exist, found {found}", quote(path)));
            }
            return Ok(findings);
        }
        Err(error) => return Err(Halt::Fail(format!("cannot look at {}: {error}", quote(path)))),
    };
    if exists == Some(false) {
        findings.add(format!("wanted nothing at {}, found a {}", quote(path), type_name(&stat)));
        return Ok(findings);
    }
    if let Some(filetype) = wanted.filetype {
        findings.equal("type", Some(filetype), &type_name(&stat));
    }
    if let Some(mode) = wanted.mode {
        findings.equal("mode", Some(format!("{mode:04o}")), &format!("{:04o}", stat.st_mode & 0o7777));
    }
    if let Some(owner) = wanted.owner {
        judge_owner(probe, &mut findings, owner, &stat)?;
    }
    if sha256.is_some() || !wanted.contains.is_empty() {
        judge_content(probe, &mut findings, path, &stat, wanted.contains, sha256)?;
    }
    Ok(findings)
}

fn type_name(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
        FileType::Fifo => "fifo",
        FileType::BlockDevice => "block",
        FileType::CharacterDevice => "char",
        FileType::Unknown => "unknown",
    }
}

fn judge_owner(probe: &Probe<'_>, findings: &mut Findings, owner: &str, stat: &Stat) -> Result<(), Halt> {
    let accounts = probe.accounts();
    let fail = |error: crate::accounts::AccountError| Halt::Fail(chain(&error));
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    if !user.is_empty() {
        let found = accounts.user_by_uid(stat.st_uid).map_err(fail)?.map(|user| user.name);
        judge_name(findings, "owner", user, stat.st_uid, found);
    }
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        let found = accounts.group_by_gid(stat.st_gid).map_err(fail)?.map(|group| group.name);
        judge_name(findings, "group", group, stat.st_gid, found);
    }
    Ok(())
}

fn judge_name(findings: &mut Findings, what: &str, wanted: &str, number: u32, name: Option<String>) {
    if wanted.parse() != Ok(number) && name.as_deref() != Some(wanted) {
        let found = name.unwrap_or_else(|| number.to_string());
        findings.add(format!("{what}: wanted `{wanted}`, found `{found}`"));
    }
}

fn judge_content(
    probe: &Probe<'_>,
    findings: &mut Findings,
    path: &str,
    stat: &Stat,
    contains: &[Matcher],
    sha256: Option<&str>,
) -> Result<(), Halt> {
    let fail = |error: io::Error| Halt::Fail(format!("cannot read {}: {error}", quote(path)));
    let mut file = lookup::open_file(probe.context.root, path).map_err(fail)?;
    if let Some(wanted) = sha256 {
        let (digest, _) = Digest::of_reader(&file).map_err(fail)?;
        findings.equal("sha256", Some(wanted.to_ascii_lowercase()), &digest.to_string());
    }
    if contains.is_empty() {
        return Ok(());
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > SEARCHED) {
        return Err(Halt::Fail(format!("{} is too large to be searched: {} bytes", quote(path), stat.st_size)));
    }
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).map_err(fail)?;
    file.take(SEARCHED).read_to_end(&mut bytes).map_err(fail)?;
    matcher::compare(findings, "content", &String::from_utf8_lossy(&bytes), contains, &probe.tokens());
    Ok(())
}
