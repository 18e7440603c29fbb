//! Asks the venue's package manager about a package.

use std::io;

use charly_ir::check::Matcher;
use charly_ir::facts::PackageManager;

use super::findings::{Findings, Halt, quote};
use super::{Probe, matcher};
use crate::lookup;
use crate::process::Exit;

pub(super) fn evaluate(
    probe: &Probe<'_>,
    name: &str,
    installed: Option<bool>,
    version: &[Matcher],
) -> Result<Findings, Halt> {
    let Some(manager) = probe.context.facts.package_manager else {
        return Err(Halt::Skip("no known package manager is on the venue".to_owned()));
    };
    if !is_name(name) {
        return Err(Halt::Fail(format!("{} is not a package's name", quote(name))));
    }
    let found = find(probe, manager, name)?;
    let mut findings = Findings::default();
    match (found, installed.unwrap_or(true)) {
        (None, false) => {}
        (None, true) => findings.add(format!("wanted the package `{name}` installed, {} has it not", manager.name())),
        (Some(found), false) => {
            findings.add(format!("wanted the package `{name}` not installed, found version {}", quote(&found)));
        }
        (Some(found), true) => matcher::compare(&mut findings, "version", &found, version, &probe.tokens()),
    }
    Ok(findings)
}

/// Tells whether a text is a name and no pattern, path or option: dpkg-query would take each of them.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | ':' | '@' | '~');
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && text.chars().all(plain)
}

/// Returns the version of an installed package.
fn find(probe: &Probe<'_>, manager: PackageManager, name: &str) -> Result<Option<String>, Halt> {
    let root = probe.context.root;
    let inside = |path: &str| root.join(path).display().to_string();
    let argv = match manager {
        PackageManager::Apt => vec![
            "dpkg-query".to_owned(),
            format!("--admindir={}", inside("var/lib/dpkg")),
            "--showformat=${db:Status-Status} ${Version}\\n".to_owned(),
            "--show".to_owned(),
            name.to_owned(),
        ],
        PackageManager::Dnf => {
            let root = root.display().to_string();
            ["rpm", "--root", &root, "--query", "--queryformat", "installed %{EVR}\\n", name].map(str::to_owned).into()
        }
        PackageManager::Pacman => {
            let root = root.display().to_string();
            ["pacman", "--root", &root, "--query", name].map(str::to_owned).into()
        }
        PackageManager::Apk => return find_apk(probe, name),
    };
    let Some(captured) = probe.tool(&argv)? else {
        return Err(Halt::Skip(format!("`{}` is not on the venue", argv[0])));
    };
    // Each of them ends with 1 both for a package it does not know and for some errors; only the former is an answer.
    let said = captured.stderr.text();
    match captured.exit {
        Exit::Status(0) => {}
        Exit::Status(1) if !said.contains("error:") || said.contains("was not found") => return Ok(None),
        exit => return Err(Halt::Fail(format!("`{}` ended with {exit}: {}", argv[0], quote(said.trim())))),
    }
    let text = captured.stdout.text();
    // dpkg knows packages that are not installed; pacman begins with the name in place of a state.
    let versions = text.lines().filter_map(|line| line.split_once(' '));
    let mut installed = versions.filter(|(state, _)| *state == "installed" || manager == PackageManager::Pacman);
    Ok(installed.next().map(|(_, version)| version.trim().to_owned()))
}

/// Reads apk's own database: its tool has no format that says version and state alone.
fn find_apk(probe: &Probe<'_>, name: &str) -> Result<Option<String>, Halt> {
    for path in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
        match lookup::read_text(probe.context.root, path, 64 << 20) {
            Ok(text) => return Ok(in_apk_database(&text, name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Halt::Fail(format!("cannot read `{path}`: {error}"))),
        }
    }
    Ok(None)
}

/// Finds a version among paragraphs of lines such as `P:name` and `V:version`.
fn in_apk_database(text: &str, name: &str) -> Option<String> {
    text.split("\n\n").find_map(|paragraph| {
        let field = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key));
        (field("P:") == Some(name)).then(|| field("V:").unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_paths_and_options_are_no_names() {
        for (text, want) in [
            ("libstdc++6", true),
            ("libc6:amd64", true),
            ("python3.13-venv", true),
            ("_x", true),
            ("", false),
            ("-W", false),
            ("lib*", false),
            ("a b", false),
            ("./a.deb", false),
            ("/etc", false),
        ] {
            assert_eq!(is_name(text), want, "{text}");
        }
    }

    #[test]
    fn apks_database_is_read() {
        let text = "C:Q1x\nP:musl\nV:1.2.5-r10\nA:x86_64\nF:lib\n\nP:bash\nV:5.2.37-r0\nD:musl\n";
        for (name, want) in [("musl", Some("1.2.5-r10")), ("bash", Some("5.2.37-r0")), ("D", None), ("mus", None)] {
            assert_eq!(in_apk_database(text, name).as_deref(), want, "{name}");
        }
    }
}
