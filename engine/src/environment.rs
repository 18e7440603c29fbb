//! What surrounds the programs that an engine runs: their environment, and the shell for an author's body.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use charly_ir::facts::User;
use charly_ir::{STANDARD_PATH, asked_interpreter};

use crate::process::{Identity, Program};

/// Returns the environment of an author's command.
///
/// Nothing of the engine's own is in it; above all no `SSH_*`, which would make bash source the user's `.bashrc`.
/// `path_append` are the folders that candies already applied append to PATH, `variables` the command's own.
pub fn command_environment(
    user: &User,
    path_append: &[String],
    variables: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let folders = path_append.iter().map(String::as_str).filter(|folder| !folder.is_empty());
    let path = std::iter::once(STANDARD_PATH).chain(folders).collect::<Vec<_>>().join(":");
    let fixed = [
        ("HOME", user.home.as_str()),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
        ("LANG", "C.UTF-8"),
        ("PATH", &path),
    ];
    let own = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    fixed.into_iter().chain(own).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Returns one of the venue's own tools to be run for the engine, its messages in English.
pub fn tool<S: AsRef<std::ffi::OsStr>>(argv: &[S], limit: Duration) -> Program {
    Program {
        argv: argv.iter().map(|word| word.as_ref().to_owned()).collect(),
        env: [("LC_ALL", "C"), ("PATH", STANDARD_PATH)].map(|(name, value)| (name.into(), value.into())).into(),
        cwd: PathBuf::from("/"),
        user: None,
        stdin: Vec::new(),
        limit: Some(limit),
        script: None,
    }
}

/// An author's body as a file, gone when this is dropped.
#[derive(Debug)]
pub struct Script {
    path: PathBuf,
    interpreter: Vec<OsString>,
}

impl Script {
    /// Writes a body to a file that only `user` may read, in a folder that user must be able to pass through.
    pub fn write(body: &str, folder: &Path, user: Option<&Identity>) -> io::Result<Self> {
        let bash = ["/usr/bin/bash", "/bin/bash"].into_iter().any(|path| Path::new(path).exists());
        let interpreter = interpreter(body, bash);
        let (mut file, path) = create(folder)?;
        // Owned by a value from here on: whatever fails, the file goes.
        let script = Self { path, interpreter };
        file.write_all(body.as_bytes())?;
        if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
            fchown(&file, Some(user.uid), Some(user.gid))?;
        }
        Ok(script)
    }

    /// Returns where the body lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the arguments that run the body.
    pub fn argv(&self) -> Vec<OsString> {
        self.interpreter.iter().cloned().chain([self.path.clone().into()]).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a file of a name that was free. Nobody else's file or link is ever opened.
fn create(folder: &Path) -> io::Result<(fs::File, PathBuf)> {
    for number in 0..u32::MAX {
        let path = folder.join(format!("body-{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Returns what runs a body: what its first line asks for, else bash, else sh.
fn interpreter(body: &str, has_bash: bool) -> Vec<OsString> {
    let asked = asked_interpreter(body).map(|words| words.map(OsString::from).collect());
    asked.unwrap_or_else(|| vec![if has_bash { "bash" } else { "sh" }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Cancel, Exit, run_captured};

    fn ann() -> User {
        User { name: "ann".into(), uid: 1000, gid: 100, home: "/home/ann".into(), shell: "/bin/zsh".into() }
    }

    #[test]
    fn a_commands_environment_is_these_variables_alone() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("LANG".to_owned(), "de_DE".to_owned())]);
        let found = command_environment(&ann(), &["/home/ann/.foo/bin".into(), String::new()], &variables);
        let found: Vec<_> =
            found.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        assert_eq!(
            found,
            [
                "A=1",
                "HOME=/home/ann",
                "LANG=de_DE",
                "LOGNAME=ann",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/home/ann/.foo/bin",
                "SHELL=/bin/zsh",
                "USER=ann",
            ]
        );
    }

    #[test]
    fn a_bodys_first_line_chooses_what_runs_it() {
        for (body, with_bash, without) in [
            ("echo", "bash", "sh"),
            ("#! /bin/sh -eu \necho", "/bin/sh|-eu", "/bin/sh|-eu"),
            ("#!/usr/bin/env  python3\n", "/usr/bin/env|python3", "/usr/bin/env|python3"),
            ("#!/bin/bash\r\n", "/bin/bash", "/bin/bash"),
            ("#!\n", "bash", "sh"),
            ("\n#!/bin/sh", "bash", "sh"),
        ] {
            for (has_bash, want) in [(true, with_bash), (false, without)] {
                let found = interpreter(body, has_bash).join("|".as_ref());
                assert_eq!(found, want, "{body:?}");
            }
        }
    }

    #[test]
    fn a_script_is_private_and_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        // Names that are taken are passed over, whatever has them.
        std::os::unix::fs::symlink("/dev/null", folder.path().join(format!("body-{}-0", std::process::id()))).unwrap();
        let script = Script::write("echo $0; exit 3", folder.path(), None).unwrap();
        assert_eq!(fs::metadata(&script.path).unwrap().permissions().mode() & 0o777, 0o700);
        let program = tool(&script.argv(), Duration::from_secs(30));
        let captured = run_captured(&program, &Cancel::default(), 1000).unwrap();
        assert_eq!(captured.exit, Exit::Status(3));
        assert_eq!(captured.stdout.text(), format!("{}\n", script.path.display()));
        let path = script.path.clone();
        drop(script);
        assert!(!path.exists());
    }
}
