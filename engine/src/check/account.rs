//! Judges users and groups.

use super::Probe;
use super::findings::{Findings, Halt, chain, quote};
use crate::accounts::AccountError;

/// What is asked of a user besides being there, or not.
pub(super) struct Wanted<'a> {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) groups: &'a [String],
    pub(super) home: Option<&'a str>,
    pub(super) shell: Option<&'a str>,
}

pub(super) fn user(probe: &Probe<'_>, name: &str, exists: Option<bool>, wanted: &Wanted<'_>) -> Result<Findings, Halt> {
    let accounts = probe.accounts();
    let found = accounts.user(name).map_err(fail)?;
    let mut findings = Findings::default();
    let Some(found) = presence(&mut findings, "user", name, exists, found, |found| found.uid) else {
        return Ok(findings);
    };
    findings.equal("uid", wanted.uid, &found.uid);
    findings.equal("gid", wanted.gid, &found.gid);
    findings.equal("home", wanted.home, &found.home.as_str());
    findings.equal("shell", wanted.shell, &found.shell.as_str());
    if !wanted.groups.is_empty() {
        let held = accounts.groups_of(&found).map_err(fail)?;
        for name in wanted.groups {
            match accounts.group(name).map_err(fail)? {
                None => findings.add(format!(
                    "wanted {} in the group {}, found no such group",
                    quote(&found.name),
                    quote(name)
                )),
                Some(group) if !held.contains(&group.gid) => {
                    findings.add(format!("wanted {} in the group `{name}`, found it in {held:?}", quote(&found.name)));
                }
                Some(_) => {}
            }
        }
    }
    Ok(findings)
}

pub(super) fn group(probe: &Probe<'_>, name: &str, exists: Option<bool>, gid: Option<u32>) -> Result<Findings, Halt> {
    let found = probe.accounts().group(name).map_err(fail)?;
    let mut findings = Findings::default();
    if let Some(found) = presence(&mut findings, "group", name, exists, found, |found| found.gid) {
        findings.equal("gid", gid, &found.gid);
    }
    Ok(findings)
}

/// Judges whether something is there, and returns it where more is to be judged.
fn presence<T>(
    findings: &mut Findings,
    what: &str,
    name: &str,
    exists: Option<bool>,
    found: Option<T>,
    number: impl Fn(&T) -> u32,
) -> Option<T> {
    match (found, exists.unwrap_or(true)) {
        (Some(found), true) => Some(found),
        (Some(found), false) => {
            findings.add(format!("wanted no {what} {}, found one with number {}", quote(name), number(&found)));
            None
        }
        (None, true) => {
            findings.add(format!("wanted a {what} {}, found none", quote(name)));
            None
        }
        (None, false) => None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` asks for")]
fn fail(error: AccountError) -> Halt {
    Halt::Fail(chain(&error))
}
