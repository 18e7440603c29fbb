//! Machines that start with their host: a unit of the user's own systemd for each, which lingers for them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use super::state::Lock;
use super::{MachineError, Machines, Name, State, identity, tool};

/// What the user's manager starts when it starts.
const WANTS: &str = "default.target.wants";

/// Remembers that nobody lingered before the first machine that starts with its host, below the folder of all machines.
const LINGERING: &str = ".lingering";

/// How long a machine may take for its shutdown before the manager cuts its power: longer than `vm stop` waits.
const SHUTDOWN: u32 = 120;

/// How machines are started with their host.
#[derive(Debug, Clone)]
pub struct Autostart {
    /// The folder of the user's own units.
    pub units: PathBuf,
    /// The program that starts machines.
    pub program: PathBuf,
    /// The variables by which it finds them.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Machines {
    /// Has a machine start with its host, or no longer.
    pub fn autostart(&self, name: &Name, on: bool) -> Result<(), MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let mut state = self.whole(name)?;
        state.desired.autostart = on;
        self.autostarted(&state)?;
        state.save(&self.settings.folder, &lock)
    }

    /// Makes it so that a machine starts with its host, or no longer, as its state wants it.
    pub(super) fn autostarted(&self, state: &State) -> Result<(), MachineError> {
        if state.desired.autostart { self.enable(&state.name) } else { self.disable(&state.name) }
    }

    fn enable(&self, name: &Name) -> Result<(), MachineError> {
        let Autostart { units, .. } = &self.settings.autostart;
        if !Path::new("/run/systemd/system").exists() {
            let hint = "leave `autostart` out, and have this machine's own service manager call `charly vm start`";
            return Err(MachineError::refused("machines are started by systemd, which does not run here", hint));
        }
        let _lock = self.autostart_lock()?;
        self.linger()?;
        let (unit, wants) = (units.join(unit_name(name)), units.join(WANTS));
        DirBuilder::new().recursive(true).mode(0o755).create(&wants).map_err(MachineError::file("made", &wants))?;
        let part = units.join(format!(".{}.part", unit_name(name)));
        identity::write_private(&part, self.unit(name).as_bytes())?;
        fs::rename(&part, &unit).map_err(MachineError::file("written", &unit))?;
        let link = wants.join(unit_name(name));
        match symlink(Path::new("..").join(unit_name(name)), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(MachineError::file("made", &link)(error));
            }
            _ => {}
        }
        reload();
        Ok(())
    }

    pub(super) fn disable(&self, name: &Name) -> Result<(), MachineError> {
        let Autostart { units, .. } = &self.settings.autostart;
        let (unit, wants) = (units.join(unit_name(name)), units.join(WANTS));
        if !unit.exists() && !wants.join(unit_name(name)).is_symlink() {
            return Ok(());
        }
        let _lock = self.autostart_lock()?;
        for path in [wants.join(unit_name(name)), unit] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(MachineError::file("removed", &path)(error));
                }
                _ => {}
            }
        }
        // Folders that hold nothing say nothing.
        for folder in [Some(wants.as_path()), Some(units), units.parent()].into_iter().flatten() {
            fs::remove_dir(folder).ok();
        }
        reload();
        let others = self.names()?;
        if others.iter().any(|other| wants.join(unit_name(other)).is_symlink()) {
            return Ok(());
        }
        self.linger_no_more()
    }

    /// Ends a machine's unit, whose machine has no power any more.
    pub(super) fn end_unit(&self, name: &Name) {
        if self.settings.autostart.units.join(unit_name(name)).exists() {
            // Where no manager answers, none runs it.
            tool::run("systemctl", ["--user", "stop", "--", &unit_name(name)]).ok();
        }
    }

    fn unit(&self, name: &Name) -> String {
        let Autostart { program, environment, .. } = &self.settings.autostart;
        let variables = environment
            .iter()
            .map(|(key, value)| format!("Environment={}\n", quoted(&format!("{key}={}", value.display()))));
        let (variables, program) = (variables.collect::<String>(), command(program));
        format!(
            "# charly writes this; `charly vm autostart {name} off` takes it away.\n\
             [Unit]\n\
             Description=Virtual machine {name}\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             {variables}\
             ExecStart={program} vm start {name} --no-wait\n\
             ExecStop=-{program} vm stop {name}\n\
             TimeoutStopSec={SHUTDOWN}\n\
             \n\
             [Install]\n\
             WantedBy=default.target\n"
        )
    }

    /// Has the user's manager run while the user is not logged in. Whether it did before is remembered.
    fn linger(&self) -> Result<(), MachineError> {
        let user = user()?;
        if lingers(&user) {
            return Ok(());
        }
        let memo = self.settings.folder.join(LINGERING);
        identity::write_private(&memo, b"")?;
        switch("enable-linger", &user)
    }

    /// Has it be as it was before.
    fn linger_no_more(&self) -> Result<(), MachineError> {
        let memo = self.settings.folder.join(LINGERING);
        if !memo.exists() {
            return Ok(());
        }
        let user = user()?;
        if lingers(&user) {
            switch("disable-linger", &user)?;
        }
        fs::remove_file(&memo).map_err(MachineError::file("removed", &memo))
    }

    fn autostart_lock(&self) -> Result<File, MachineError> {
        let path = self.settings.folder.join(".autostart.lock");
        let lock = || File::create(&path).and_then(|file| file.lock().map(|()| file));
        lock().map_err(MachineError::file("locked", &path))
    }
}

fn unit_name(name: &Name) -> String {
    format!("{}.service", name.domain())
}

fn user() -> Result<String, MachineError> {
    let name = tool::run("id", ["-un"])?;
    Ok(String::from_utf8_lossy(&name).trim().to_owned())
}

fn lingers(user: &str) -> bool {
    Path::new("/var/lib/systemd/linger").join(user).exists()
}

/// logind lets users turn their own switch only where policy does; elsewhere root must, which is tried without a question.
fn switch(verb: &str, user: &str) -> Result<(), MachineError> {
    let Err(error) = tool::run("loginctl", ["--no-ask-password", verb, user]) else { return Ok(()) };
    tool::run("sudo", ["-n", "loginctl", verb, user]).map(drop).map_err(|_| {
        let hint = format!("`sudo loginctl {verb} {user}` does it; then run the same command again");
        MachineError::refused(format!("{error}, and root is needed for it"), hint)
    })
}

/// A manager that runs takes notice; one that does not will when it starts.
fn reload() {
    tool::run("systemctl", ["--user", "daemon-reload"]).ok();
}

/// Writes a value of a unit, in which `%` begins a specifier.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// Writes a program of a command line, in which `$` begins a variable, too.
fn command(program: &Path) -> String {
    quoted(&program.display().to_string()).replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn a_unit_is_exactly_this() {
        let autostart = Autostart {
            units: "/units".into(),
            program: "/a b/50%/$charly".into(),
            environment: vec![("XDG_STATE_HOME", "/s\"t".into())],
        };
        let machines = Machines::new(Settings { autostart, ..Settings::below(Path::new("/")) });
        let want = r#"# charly writes this; `charly vm autostart demo off` takes it away.
[Unit]
Description=Virtual machine demo

[Service]
Type=oneshot
RemainAfterExit=yes
Environment="XDG_STATE_HOME=/s\"t"
ExecStart="/a b/50%%/$$charly" vm start demo --no-wait
ExecStop=-"/a b/50%%/$$charly" vm stop demo
TimeoutStopSec=120

[Install]
WantedBy=default.target
"#;
        assert_eq!(machines.unit(&"demo".parse().unwrap()), want);
    }
}
