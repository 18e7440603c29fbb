//! What tells one machine from another: its instance, its keys, its card's address.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use rustix::rand::{GetRandomFlags, getrandom};
use uuid::Uuid;

use super::MachineError;

/// A key pair in OpenSSH's own form.
#[derive(Clone)]
pub struct KeyPair {
    /// The private key.
    pub private: String,
    /// The public key, in one line.
    pub public: String,
}

impl KeyPair {
    /// Reads a key pair, or makes it where there is none: what was made once is never made again.
    pub fn at(path: &Path, comment: &str) -> Result<Self, MachineError> {
        match Self::read(path) {
            Err(MachineError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let pair = Self::generate(comment)?;
                pair.write(path)?;
                Ok(pair)
            }
            pair => pair,
        }
    }

    fn read(path: &Path) -> Result<Self, MachineError> {
        let private = fs::read_to_string(path).map_err(MachineError::file("read", path))?;
        let damaged = |_| MachineError::refused(format!("`{}` is no private key", path.display()), "put the key back");
        let key = PrivateKey::from_openssh(&private).map_err(damaged)?;
        // What is derived needs no second file to be whole.
        Ok(Self { public: key.public_key().to_openssh().map_err(damaged)?, private })
    }

    fn generate(comment: &str) -> Result<Self, MachineError> {
        let mut seed = [0; 32];
        let got = getrandom(&mut seed, GetRandomFlags::empty());
        if got != Ok(seed.len()) {
            return Err(MachineError::failed("this machine gives no random bytes", "try again"));
        }
        let broken = |error| MachineError::failed(format!("no key could be made: {error}"), "try again");
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        key.set_comment(comment);
        let private = key.to_openssh(LineEnding::LF).map_err(broken)?.to_string();
        Ok(Self { private, public: key.public_key().to_openssh().map_err(broken)? })
    }

    fn write(&self, path: &Path) -> Result<(), MachineError> {
        let part = path.with_extension("part");
        write_private(&part, self.private.as_bytes())?;
        let public = path.with_extension("pub");
        fs::write(&public, format!("{}\n", self.public)).map_err(MachineError::file("written", &public))?;
        fs::rename(&part, path).map_err(MachineError::file("written", path))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Reads the public half of a user's own key.
pub(super) fn public_of(path: &Path) -> Result<String, MachineError> {
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    let line = fs::read_to_string(&public).map_err(MachineError::file("read", &public))?;
    let key = PublicKey::from_openssh(line.trim()).map_err(|_| {
        MachineError::invalid(
            format!("`{}` is no public key", public.display()),
            "`key_source` names a private key with its `.pub` beside it",
        )
    })?;
    key.to_openssh().map_err(|error| MachineError::failed(error.to_string(), "use another key"))
}

/// Writes a file that its owner alone can read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), MachineError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(MachineError::file("written", path))
}

/// Returns the hardware address that follows from an instance.
pub(super) fn mac(instance: Uuid) -> String {
    let [.., a, b, c] = *instance.as_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// Returns the machine-id that follows from an instance.
pub(super) fn machine_id(instance: Uuid) -> String {
    instance.simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id_ed25519");
        let first = KeyPair::at(&path, "charly demo").unwrap();
        let second = KeyPair::at(&path, "other").unwrap();
        assert_eq!((&first.private, &first.public), (&second.private, &second.public));
        assert!(first.public.starts_with("ssh-ed25519 ") && first.public.ends_with(" charly demo"), "{}", first.public);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(public_of(&path).unwrap(), first.public);
        let other = KeyPair::at(&folder.path().join("other"), "charly demo").unwrap();
        assert_ne!(first.public, other.public);

        // A kill between the two files: the private key decides.
        fs::remove_file(&path).unwrap();
        let third = KeyPair::at(&path, "charly demo").unwrap();
        assert_ne!(first.public, third.public);
        assert_eq!(public_of(&path).unwrap(), third.public);
        fs::write(&path, "nonsense").unwrap();
        assert!(KeyPair::at(&path, "x").is_err(), "a damaged key is nobody's to replace");
    }

    #[test]
    fn addresses_follow_from_the_instance() {
        let instance = Uuid::from_bytes([7; 16]);
        assert_eq!(mac(instance), "52:54:00:07:07:07");
        assert_eq!(machine_id(instance), "07".repeat(16));
    }
}
