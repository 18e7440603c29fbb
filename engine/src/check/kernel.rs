//! Judges what the kernel tells: parameters and mounts.

use std::fs;
use std::io;

use charly_ir::check::Matcher;

use super::findings::{Findings, Halt, quote};
use super::{Probe, matcher};

pub(super) fn parameter(probe: &Probe<'_>, name: &str, value: &[Matcher]) -> Result<Findings, Halt> {
    probe.needs_live("a kernel parameter")?;
    let Some(path) = parameter_path(name) else {
        return Err(Halt::Fail(format!("{} is not a kernel parameter's name", quote(name))));
    };
    let found = match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Halt::Fail(format!("there is no kernel parameter {}", quote(name))));
        }
        Err(error) => return Err(Halt::Fail(format!("cannot read the kernel parameter {}: {error}", quote(name)))),
    };
    let mut findings = Findings::default();
    // Lists are set off by tabs; authors write blanks.
    let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
    matcher::compare(&mut findings, name, &found, value, &probe.tokens());
    Ok(findings)
}

/// Turns a name as sysctl(8) reads it into a path below `/proc/sys`: the first separator says which of dot and slash
/// separates, and the other one then stands for it within a part.
fn parameter_path(name: &str) -> Option<String> {
    let path: String = match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let sane = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.split('/').all(sane).then_some(path)
}

/// What is asked of a mount besides being there, or not.
pub(super) struct Wanted<'a> {
    pub(super) filesystem: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) options: &'a [String],
}

pub(super) fn mount(
    probe: &Probe<'_>,
    path: &str,
    exists: Option<bool>,
    wanted: &Wanted<'_>,
) -> Result<Findings, Halt> {
    probe.needs_live("a mount")?;
    let table =
        fs::read("/proc/self/mountinfo").map_err(|error| Halt::Fail(format!("cannot list the mounts: {error}")))?;
    let table = String::from_utf8_lossy(&table);
    // The kernel's paths have no links in them.
    let real = fs::canonicalize(path).ok().and_then(|real| real.to_str().map(str::to_owned));
    let real = real.unwrap_or_else(|| path.to_owned());
    // What was mounted last hides what was mounted there before.
    let found = table.lines().filter_map(Mount::parse).rfind(|mount| mount.point == real);
    let mut findings = Findings::default();
    match (found, exists.unwrap_or(true)) {
        (None, true) => findings.add(format!("wanted a mount at {}, found none", quote(path))),
        (None, false) => {}
        (Some(found), false) => {
            findings.add(format!("wanted no mount at {}, found {} mounted there", quote(path), quote(&found.source)));
        }
        (Some(found), true) => found.judge(&mut findings, wanted),
    }
    Ok(findings)
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: String,
    filesystem: String,
    source: String,
    options: Vec<String>,
}

impl Mount {
    /// Reads a line as proc_pid_mountinfo(5) describes it; after six fields come optional ones up to a dash.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<_> = before.split(' ').collect();
        let mut after = after.split(' ');
        let (filesystem, source) = (after.next()?.to_owned(), unescape(after.next()?));
        let options = before.get(5)?.split(',').chain(after.next().unwrap_or_default().split(','));
        Some(Self {
            point: unescape(before.get(4)?),
            filesystem,
            source,
            options: options.filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        })
    }

    fn judge(&self, findings: &mut Findings, wanted: &Wanted<'_>) {
        findings.equal("filesystem", wanted.filesystem, &self.filesystem.as_str());
        findings.equal("source", wanted.source, &self.source.as_str());
        let missing: Vec<_> =
            wanted.options.iter().filter(|option| !self.options.contains(option)).map(|o| quote(o)).collect();
        if !missing.is_empty() {
            findings.add(format!("options: wanted {}, found {}", missing.join(", "), quote(&self.options.join(","))));
        }
    }
}

/// Undoes the kernel's escapes: a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => out.push(*first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameters_name_is_read_as_sysctl_reads_it() {
        for (name, want) in [
            ("kernel.ostype", Some("kernel/ostype")),
            ("kernel/ostype", Some("kernel/ostype")),
            ("net.ipv4.conf.eth0/1.forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("", None),
            ("..", None),
            ("/etc/passwd", None),
            ("kernel/../../etc/passwd", None),
            ("kernel.//.passwd", None),
        ] {
            assert_eq!(parameter_path(name).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_mount_is_read_and_judged() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/ro\\134ot rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((&*mount.point, &*mount.source), ("/mnt 2", "/dev/ro\\ot"));
        for (filesystem, source, options, want) in [
            (None, None, vec![], ""),
            (Some("ext3"), Some("/dev/ro\\ot"), vec!["noatime", "errors=continue"], ""),
            (
                Some("ext4"),
                Some("x"),
                vec![],
                "filesystem: wanted `ext4`, found `ext3`; source: wanted `x`, found `/dev/ro\\ot`",
            ),
            (None, None, vec!["rw", "ro"], "options: wanted `ro`, found `rw,noatime,rw,errors=continue`"),
        ] {
            let options: Vec<_> = options.into_iter().map(str::to_owned).collect();
            let mut findings = Findings::default();
            mount.judge(&mut findings, &Wanted { filesystem, source, options: &options });
            assert_eq!(findings.into_evidence(), want);
        }
        for line in ["", "36 35 98:0 / /", "36 - ext4", "1 2 3 4 5 rw - ext4"] {
            assert_eq!(Mount::parse(line), None, "{line}");
        }
    }
}
