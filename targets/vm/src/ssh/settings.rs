//! What reaching machines depends on beside their names.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use charly_ir::message::SecretValue;

use super::shell::Inside;
use super::unlocked::Unlocked;

/// What reaching machines depends on beside their names: files, the user, the user's wishes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The user here, whose name is taken there where no other is given.
    pub local_user: String,
    /// That user's number.
    pub local_uid: u32,
    /// The user's home folder here.
    pub home: PathBuf,
    /// The variables that a configuration may refer to.
    pub environment: BTreeMap<String, String>,
    /// The files of ssh_config(5): the user's, then the system's.
    pub config_files: Vec<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// Whom to ask for passphrases and passwords.
    pub asker: Arc<dyn Asker>,
    /// The identities that were unlocked already.
    pub unlocked: Unlocked,
    /// What the command line says.
    pub wishes: Wishes,
    /// How long things may take.
    pub limits: Limits,
}

/// What the command line says of a connection.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The only identity to use.
    pub identity: Option<PathBuf>,
    /// The only file of known hosts to believe.
    pub known_hosts: Option<PathBuf>,
    /// The machines to go through, as `ProxyJump` has them.
    pub jump: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The container to work on in the machine's stead.
    pub inside: Option<Inside>,
    /// How the engine gets there.
    pub delivery: Delivery,
}

/// How the engine gets to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// The one that is there is used if it is this charly's; else it is sent.
    #[default]
    Auto,
    /// It is sent, whatever is there.
    Always,
    /// It must be there.
    Never,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One attempt to connect, where the user's configuration says nothing of it.
    pub connect: Duration,
    /// How long a machine that is connected may say nothing that is due: whether it lets us in, that a session is open, that its
    /// engine is awake. People may have to touch a key meanwhile; a server gives them as long (`LoginGraceTime`).
    pub answer: Duration,
    /// From a reboot to the machine being ready.
    pub reboot: Duration,
    /// How long a machine that is still, or again, in the same boot is given to leave it.
    pub unchanged: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(15), answer: seconds(120), reboot: seconds(900), unchanged: seconds(120) }
    }
}

/// Asks the user for something that nobody else may see.
pub trait Asker: Debug + Send + Sync {
    /// Returns the answer; none where nobody can be asked, or nobody answers.
    fn secret(&self, question: &str) -> Option<SecretValue>;
}

/// Asks nobody.
#[derive(Clone, Copy)]
pub struct Nobody;

impl Asker for Nobody {
    fn secret(&self, _: &str) -> Option<SecretValue> {
        None
    }
}

impl Debug for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nobody")
    }
}
