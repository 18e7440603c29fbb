//! What is known of a machine: one file, written whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::spec::{InstallStrategy, KeySource, NetworkBackend, Spec};
use super::{BackendKind, Deployed, MachineError, Name, identity};

/// The format that is written. Older ones stay readable.
const FORMAT: u32 = 1;

/// The address at which machines are reached.
const HOST: &str = "127.0.0.1";

/// What is known of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of this file's format.
    format: u32,
    /// Its name.
    pub name: Name,
    /// What it is to be.
    pub desired: Spec,
    /// How far it has been made.
    pub made: Made,
    /// Its instance: new only where its disk is.
    pub instance_id: Uuid,
    /// How often its first boot was ordered anew.
    #[serde(default)]
    pub reseeded: u32,
    /// Its disk.
    pub disk_path: PathBuf,
    /// The base below its disk, which nothing may change.
    pub base: Option<PathBuf>,
    /// The seed of its first boot.
    pub seed_iso: Option<PathBuf>,
    /// The port that leads to its sshd.
    pub ssh_port: u16,
    /// The user it is reached as.
    pub ssh_user: String,
    /// What runs it, from its first making on.
    pub backend: BackendKind,
    /// The key that was put in, and how.
    pub key_injection_resolved: Option<KeyInjection>,
    /// How the engine gets into it.
    pub charly_install_strategy: InstallStrategy,
    /// The digest of what its first boot was told.
    pub cloud_init_rendered_digest: Option<Digest>,
    /// The snapshots of its disk.
    pub snapshots: Vec<Snapshot>,
    /// What was seen of it when it was last started.
    pub observed: Option<Started>,
    /// When its disk was made, in seconds since 1970.
    #[serde(default)]
    pub born: Option<u64>,
    /// What is remembered of the deploy on it.
    #[serde(default)]
    pub deployed: Deployed,
}

/// How far a machine has been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// Its making was begun; the same command goes on with it.
    Begun,
    /// Its disk is there.
    Built,
    /// It can be started.
    Whole,
}

/// How a key was put into a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInjection {
    /// The private key; none where the machine lets its user in by other means.
    pub identity: Option<PathBuf>,
    /// The public key.
    pub public: Option<String>,
    /// Whether it went in through SMBIOS credentials.
    pub smbios: bool,
    /// Whether it went in through cloud-init.
    pub cloud_init: bool,
}

/// A snapshot of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was taken, in seconds since 1970.
    pub taken: u64,
    /// Whether the machine's file systems were at rest: it was stopped, or its agent froze them.
    pub at_rest: bool,
}

/// What was seen of a machine when it was last started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The boot of this machine in which it was started.
    pub host_boot: String,
    /// What runs its instructions.
    pub accelerator: String,
    /// What carries its network.
    #[serde(default)]
    pub network: NetworkBackend,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// Where and as whom a machine is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The private key, where there is one of the machine's own.
    pub identity: Option<PathBuf>,
    /// The file that knows the machine's host key, and no other.
    pub known_hosts: PathBuf,
    /// How the engine gets there.
    pub install: InstallStrategy,
}

/// The one who may change a machine, until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl State {
    /// Begins a machine.
    pub fn new(folder: &Path, name: Name, desired: Spec, ssh_port: u16) -> Self {
        Self {
            format: FORMAT,
            made: Made::Begun,
            instance_id: Uuid::new_v4(),
            reseeded: 0,
            disk_path: folder.join(name.as_str()).join("disk.qcow2"),
            base: None,
            seed_iso: None,
            ssh_port,
            ssh_user: desired.ssh.user.clone(),
            backend: BackendKind::Qemu,
            key_injection_resolved: None,
            charly_install_strategy: desired.charly_install,
            cloud_init_rendered_digest: None,
            snapshots: Vec::new(),
            observed: None,
            born: None,
            deployed: Deployed::default(),
            name,
            desired,
        }
    }

    /// Reads what is known of a machine in the folder of all machines; `None` where it is not there.
    pub fn load(folder: &Path, name: &Name) -> Result<Option<Self>, MachineError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let path = file(folder, name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(MachineError::file("read", &path)(error)),
        };
        let damaged = |error: serde_json::Error| {
            let what = format!("`{}` is damaged: {error}", path.display());
            MachineError::refused(what, "mend it, or move it away; the disk beside it is left alone either way")
        };
        let Version { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            let what = format!("`{}` was written by a newer charly (format {format})", path.display());
            return Err(MachineError::refused(what, "use that charly, or a newer one"));
        }
        let state: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if state.name != *name {
            let what = format!("`{}` is of the machine `{}`", path.display(), state.name);
            return Err(MachineError::refused(what, "move it back to where it belongs"));
        }
        Ok(Some(state))
    }

    /// Writes it, durably and at once.
    pub fn save(&self, folder: &Path, _: &Lock) -> Result<(), MachineError> {
        let path = file(folder, &self.name);
        let part = path.with_extension("part");
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other);
        let text = text.map_err(MachineError::file("written", &path))?;
        identity::write_private(&part, &text)?;
        fs::rename(&part, &path)
            .and_then(|()| File::open(home(folder, &self.name))?.sync_all())
            .map_err(MachineError::file("written", &path))
    }

    /// Returns where and as whom the machine is reached.
    pub fn endpoint(&self, folder: &Path) -> Endpoint {
        let identity = self.key_injection_resolved.as_ref().and_then(|key| key.identity.clone());
        Endpoint {
            host: HOST.to_owned(),
            port: self.ssh_port,
            user: self.ssh_user.clone(),
            identity: identity.filter(|_| self.desired.ssh.key != KeySource::None),
            known_hosts: home(folder, &self.name).join("known_hosts"),
            install: self.charly_install_strategy,
        }
    }
}

impl Lock {
    /// Becomes the one who may change a machine; refused where somebody else is.
    pub fn take(folder: &Path, name: &Name) -> Result<Self, MachineError> {
        let (path, file) = Self::open(folder, name)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another charly is at work on `{name}`");
                Err(MachineError::refused(what, "wait until it is done"))
            }
            Err(TryLockError::Error(error)) => Err(MachineError::file("locked", &path)(error)),
        }
    }

    /// Becomes the one who may change a machine, as soon as nobody else is.
    pub fn wait(folder: &Path, name: &Name) -> Result<Self, MachineError> {
        let (path, file) = Self::open(folder, name)?;
        file.lock().map(|()| Self(file)).map_err(MachineError::file("locked", &path))
    }

    fn open(folder: &Path, name: &Name) -> Result<(PathBuf, File), MachineError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(MachineError::file("made", folder))?;
        // Beside the machine's folder, so that it stays when the folder goes.
        let path = folder.join(format!(".{name}.lock"));
        let file = File::create(&path).map_err(MachineError::file("written", &path))?;
        Ok((path, file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a program that is just being started has it, too.
        self.0.unlock().ok();
    }
}

/// Returns the folder of one machine.
pub fn home(folder: &Path, name: &Name) -> PathBuf {
    folder.join(name.as_str())
}

/// Lists the machines that a folder knows, by name.
pub fn names(folder: &Path) -> Result<Vec<Name>, MachineError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(MachineError::file("read", folder)(error)),
    };
    let named = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut names: Vec<_> = named.filter(|name| file(folder, name).exists()).collect();
    names.sort();
    Ok(names)
}

fn file(folder: &Path, name: &Name) -> PathBuf {
    home(folder, name).join("state.json")
}

#[cfg(test)]
mod tests {
    use super::super::spec::Source;
    use super::*;

    fn state(folder: &Path, name: &str) -> State {
        let source = Source::CloudImage { url: "https://x/debian.qcow2".into(), checksum: None };
        fs::create_dir_all(folder.join(name)).unwrap();
        State::new(folder, name.parse().unwrap(), Spec::new(source), 2222)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let name: Name = "demo".parse().unwrap();
        assert_eq!(State::load(folder, &name).unwrap(), None);
        let mut demo = state(folder, "demo");
        let lock = Lock::take(folder, &name).unwrap();
        demo.save(folder, &lock).unwrap();
        assert_eq!(State::load(folder, &name).unwrap(), Some(demo.clone()));
        demo.made = Made::Whole;
        demo.save(folder, &lock).unwrap();
        assert_eq!(State::load(folder, &name).unwrap(), Some(demo));
        assert_eq!(names(folder).unwrap(), [name]);
        assert_eq!(names(&folder.join("none")).unwrap(), []);
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let name = "demo".parse().unwrap();
        let lock = Lock::take(folder.path(), &name).unwrap();
        let error = Lock::take(folder.path(), &name).unwrap_err();
        assert_eq!(error.to_string(), "another charly is at work on `demo`");
        drop(lock);
        Lock::take(folder.path(), &name).unwrap();
    }

    #[test]
    fn what_is_damaged_newer_or_anothers_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let name: Name = "demo".parse().unwrap();
        let lock = Lock::take(folder, &name).unwrap();
        state(folder, "demo").save(folder, &lock).unwrap();
        let path = file(folder, &name);
        let text = fs::read_to_string(&path).unwrap();
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        let other = text.replace("\"name\": \"demo\"", "\"name\": \"other\"");
        for (text, want) in [
            (&text[..text.len() / 2], "is damaged"),
            (newer.as_str(), "was written by a newer charly (format 2)"),
            (other.as_str(), "is of the machine `other`"),
        ] {
            fs::write(&path, text).unwrap();
            let error = State::load(folder, &name).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn an_endpoint_names_the_machines_own_files() {
        let folder = Path::new("/s");
        let mut demo = State::new(
            folder,
            "demo".parse().unwrap(),
            state(tempfile::tempdir().unwrap().path(), "demo").desired,
            2222,
        );
        let key = |identity| KeyInjection { identity, public: None, smbios: false, cloud_init: true };
        demo.key_injection_resolved = Some(key(Some("/s/demo/id_ed25519".into())));
        let endpoint = demo.endpoint(folder);
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.user.as_str()), ("127.0.0.1", 2222, "debian"));
        assert_eq!(endpoint.identity, Some("/s/demo/id_ed25519".into()));
        assert_eq!(endpoint.known_hosts, Path::new("/s/demo/known_hosts"));
        demo.desired.ssh.key = KeySource::None;
        assert_eq!(demo.endpoint(folder).identity, None);
    }
}
