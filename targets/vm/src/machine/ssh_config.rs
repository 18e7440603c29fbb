//! What ssh_config(5) is told of machines, so that plain `ssh` finds them.
//!
//! The user's own file gets one line, an `Include` of a file that is kept here and follows the machines.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::state::Made;
use super::{Endpoint, MachineError, Machines, Name, State, identity};

/// The file that is kept, below the folder of all machines. No machine can be called so.
const KEPT: &str = "ssh_config";

/// What the file that is kept begins with.
const HEADER: &str =
    "# charly writes this, and follows its machines here. `charly ssh-config --no-include` takes it away.\n";

impl Machines {
    /// Returns what OpenSSH is told of a machine.
    pub fn ssh_stanza(&self, name: &Name) -> Result<String, MachineError> {
        let state = self.whole(name)?;
        Ok(stanza(name, &state.endpoint(&self.settings.folder)))
    }

    /// Has the user's own configuration include what is told of all machines, now and later. Returns whether it did not before.
    pub fn include_in_ssh_config(&self) -> Result<bool, MachineError> {
        let _lock = self.ssh_config_lock()?;
        // First, so that nothing is ever included that is not there.
        self.keep_ssh_config()?;
        let line = include_line(&self.kept());
        let own = Own::read(&self.settings.home)?;
        if own.text.split_inclusive('\n').any(|one| one == line) {
            return Ok(false);
        }
        // Further down it would belong to whatever host is spoken of there.
        let text = format!("{line}{}", own.text);
        own.write(&text)?;
        Ok(true)
    }

    /// Takes that back. Returns whether there was something to take back.
    pub fn exclude_from_ssh_config(&self) -> Result<bool, MachineError> {
        let _lock = self.ssh_config_lock()?;
        let line = include_line(&self.kept());
        let own = Own::read(&self.settings.home)?;
        let text: String = own.text.split_inclusive('\n').filter(|one| *one != line).collect();
        let was_there = text != own.text;
        if was_there {
            own.write(&text)?;
        }
        match fs::remove_file(self.kept()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(MachineError::file("removed", &self.kept())(error))
            }
            _ => Ok(was_there),
        }
    }

    /// Has what is kept follow a change, where somebody includes it.
    pub(super) fn follow_in_ssh_config(&self) -> Result<(), MachineError> {
        if !self.kept().exists() {
            return Ok(());
        }
        let _lock = self.ssh_config_lock()?;
        // Somebody may have taken it away in between.
        if self.kept().exists() { self.keep_ssh_config() } else { Ok(()) }
    }

    fn keep_ssh_config(&self) -> Result<(), MachineError> {
        let folder = &self.settings.folder;
        let mut text = HEADER.to_owned();
        // One whose file cannot be read hides no other.
        let states = self.names()?.into_iter().filter_map(|name| State::load(folder, &name).ok()?);
        for state in states.filter(|state| state.made == Made::Whole) {
            text.push('\n');
            text += &stanza(&state.name, &state.endpoint(folder));
        }
        let (path, part) = (self.kept(), folder.join("ssh_config.part"));
        identity::write_private(&part, text.as_bytes())?;
        fs::rename(&part, &path).map_err(MachineError::file("written", &path))
    }

    fn kept(&self) -> PathBuf {
        self.settings.folder.join(KEPT)
    }

    fn ssh_config_lock(&self) -> Result<File, MachineError> {
        let folder = &self.settings.folder;
        let path = folder.join(".ssh_config.lock");
        let lock = || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let file = File::create(&path)?;
            file.lock().map(|()| file)
        };
        lock().map_err(MachineError::file("locked", &path))
    }
}

/// Returns what OpenSSH is told of a machine: all that is needed, whatever is said of other hosts.
fn stanza(name: &Name, endpoint: &Endpoint) -> String {
    let Endpoint { host, port, user, identity, known_hosts, install: _ } = endpoint;
    let mut text = format!("Host {}\n    HostName {host}\n    Port {port}\n    User {user}\n", name.domain());
    if let Some(identity) = identity {
        writeln!(text, "    IdentityFile {}\n    IdentitiesOnly yes", quoted(identity)).ok();
    }
    writeln!(text, "    UserKnownHostsFile {}", quoted(known_hosts)).ok();
    text + "    GlobalKnownHostsFile none\n    StrictHostKeyChecking yes\n    ProxyJump none\n"
}

/// Writes a path as one value of ssh_config(5), in which `%` begins a token.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// In `Include`, a path may be a pattern, and `%` is nothing but itself.
fn include_line(kept: &Path) -> String {
    let mut path = String::new();
    for c in kept.display().to_string().chars() {
        if matches!(c, '*' | '?' | '[') {
            path += "\\\\";
        } else if matches!(c, '\\' | '"') {
            path.push('\\');
        }
        path.push(c);
    }
    format!("Include \"{path}\"\n")
}

/// The user's own configuration.
struct Own {
    /// Where it lies in the end: it may be a link to where somebody keeps such files.
    path: PathBuf,
    text: String,
    /// Its permissions, where it is there.
    mode: Option<u32>,
}

impl Own {
    fn read(home: &Path) -> Result<Self, MachineError> {
        let path = home.join(".ssh/config");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let path = path.canonicalize().map_err(MachineError::file("read", &path))?;
                let mode = path.metadata().map_err(MachineError::file("read", &path))?.permissions().mode();
                Ok(Self { path, text, mode: Some(mode & 0o7777) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path, text: String::new(), mode: None }),
            Err(error) => Err(MachineError::file("read", &path)(error)),
        }
    }

    /// Writes it, whole or not at all. One that nothing is left in goes, as it says nothing.
    fn write(&self, text: &str) -> Result<(), MachineError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let write = || {
            if text.is_empty() {
                fs::remove_file(&self.path)?;
                // Nor does its folder say anything, where it held nothing else.
                fs::remove_dir(folder).or_else(|error| match error.kind() {
                    io::ErrorKind::DirectoryNotEmpty => Ok(()),
                    _ => Err(error),
                })?;
                return Ok(());
            }
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut part = tempfile::Builder::new().prefix(".config.").tempfile_in(folder)?;
            part.write_all(text.as_bytes())?;
            part.as_file().set_permissions(fs::Permissions::from_mode(self.mode.unwrap_or(0o600)))?;
            part.as_file().sync_all()?;
            part.persist(&self.path)?;
            Ok(())
        };
        write().map_err(MachineError::file("written", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::spec::{Source, Spec};
    use super::super::state::{KeyInjection, Lock};
    use super::*;
    use std::process::Command;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::Builder::new().prefix("a \"b\" 50% [c] ").tempdir().unwrap())
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn machines(&self) -> Machines {
            Machines::new(Settings::below(self.0.path()))
        }

        /// Writes a machine down, as a making would.
        fn machine(&self, name: &str, port: u16, made: Made) {
            let name: Name = name.parse().unwrap();
            let folder = self.at("vm");
            let lock = Lock::take(&folder, &name).unwrap();
            let source = Source::CloudImage { url: "https://x/debian.qcow2".into(), checksum: None };
            let mut state = State::new(&folder, name.clone(), Spec::new(source), port);
            let identity = Some(folder.join(name.as_str()).join("id_ed25519"));
            state.key_injection_resolved =
                Some(KeyInjection { identity, public: None, smbios: false, cloud_init: true });
            state.made = made;
            fs::create_dir_all(folder.join(name.as_str())).unwrap();
            state.save(&folder, &lock).unwrap();
        }

        /// Says what OpenSSH itself makes of a host; `None` where it is not there.
        fn openssh(&self, host: &str) -> Option<String> {
            let config = self.at("home/.ssh/config");
            let output = Command::new("ssh").arg("-G").arg("-F").arg(config).arg(host).output().ok()?;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }

    #[test]
    fn a_path_is_one_value() {
        assert_eq!(quoted(Path::new("/a b/50%\"")), r#""/a b/50%%\"""#);
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_was_there_before_comes_back_byte_for_byte() {
        for before in [None, Some("Host *\n  User me"), Some("# mine\n\nHost a\n  Port 1\n")] {
            let place = Place::new();
            place.machine("demo", 2222, Made::Whole);
            let (machines, config) = (place.machines(), place.at("home/.ssh/config"));
            if let Some(text) = before {
                fs::create_dir_all(place.at("home/.ssh")).unwrap();
                fs::write(&config, text).unwrap();
                fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
            }
            for is_new in [true, false] {
                assert_eq!(machines.include_in_ssh_config().unwrap(), is_new);
                let text = fs::read_to_string(&config).unwrap();
                let (line, rest) = text.split_once('\n').unwrap();
                assert!(line.starts_with("Include "), "{text}");
                assert_eq!(rest, before.unwrap_or_default());
                assert_eq!(mode(&config), if before.is_some() { 0o640 } else { 0o600 });
            }
            for was_there in [true, false] {
                assert_eq!(machines.exclude_from_ssh_config().unwrap(), was_there);
                assert_eq!(fs::read_to_string(&config).ok().as_deref(), before);
                assert!(!machines.kept().exists());
            }
            assert_eq!(place.at("home/.ssh").exists(), before.is_some());
        }
    }

    #[test]
    fn a_configuration_that_is_kept_elsewhere_stays_a_link() {
        let place = Place::new();
        fs::create_dir_all(place.at("home/.ssh")).unwrap();
        fs::create_dir_all(place.at("dotfiles")).unwrap();
        fs::write(place.at("dotfiles/ssh"), "Host a\n").unwrap();
        std::os::unix::fs::symlink(place.at("dotfiles/ssh"), place.at("home/.ssh/config")).unwrap();
        place.machines().include_in_ssh_config().unwrap();
        assert!(place.at("home/.ssh/config").is_symlink());
        assert!(fs::read_to_string(place.at("dotfiles/ssh")).unwrap().starts_with("Include "));
        place.machines().exclude_from_ssh_config().unwrap();
        assert_eq!(fs::read_to_string(place.at("dotfiles/ssh")).unwrap(), "Host a\n");
    }

    #[test]
    fn openssh_takes_it_as_it_is_meant_and_it_follows() {
        let place = Place::new();
        let (machines, vm) = (place.machines(), place.at("vm"));
        fs::create_dir_all(place.at("home/.ssh")).unwrap();
        fs::write(place.at("home/.ssh/config"), "Host *\n  ProxyJump gate\n  Port 7\n  StrictHostKeyChecking no\n")
            .unwrap();
        place.machine("demo", 2222, Made::Whole);
        place.machine("half", 2223, Made::Begun);
        machines.include_in_ssh_config().unwrap();
        let Some(said) = place.openssh("charly-demo") else { return };
        let says = |said: &str, line: &str| assert!(said.lines().any(|one| one == line), "{line}\n{said}");
        // The one is shown as it is, the other as it was written.
        let known_hosts = format!("userknownhostsfile {}", vm.join("demo/known_hosts").display());
        let identity = format!("identityfile {}", vm.join("demo/id_ed25519").display()).replace('%', "%%");
        for line in [
            "hostname 127.0.0.1",
            "port 2222",
            "user debian",
            "identitiesonly yes",
            "stricthostkeychecking true",
            &known_hosts,
            &identity,
        ] {
            says(&said, line);
        }
        assert!(!said.contains("proxyjump"), "{said}");
        says(&place.openssh("charly-half").unwrap(), "port 7");

        // A machine comes, another's port changes, one goes.
        place.machine("half", 2223, Made::Whole);
        place.machine("demo", 2224, Made::Whole);
        machines.follow_in_ssh_config().unwrap();
        says(&place.openssh("charly-half").unwrap(), "port 2223");
        says(&place.openssh("charly-demo").unwrap(), "port 2224");
        fs::remove_file(vm.join("half/state.json")).unwrap();
        machines.follow_in_ssh_config().unwrap();
        says(&place.openssh("charly-half").unwrap(), "port 7");
    }
}
