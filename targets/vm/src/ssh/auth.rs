//! Proves to a machine who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::client::AuthResult;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::key::PrivateKeyWithHashAlg;
use russh::keys::{HashAlg, PrivateKey, PublicKey, ssh_key};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::ConnectError;
use super::host_key::Handle;
use super::route::Hop;
use super::settings::Asker;
use super::unlocked::Unlocked;

/// How often a passphrase is asked for.
const ATTEMPTS: u32 = 3;

/// What proving who we are depends on.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    /// Whom to ask for passphrases.
    pub(super) asker: &'a dyn Asker,
    /// What need not be asked any more.
    pub(super) unlocked: &'a Unlocked,
    /// How long a machine or an agent may take to answer.
    pub(super) limit: Duration,
}

/// Proves who we are, by the identities of a hop in the order that OpenSSH has: those of them that the agent holds, the
/// agent's others unless only these are wanted, the files.
pub(super) async fn authenticate(handle: &mut Handle, hop: &Hop, means: Means<'_>) -> Result<(), ConnectError> {
    let mut attempt = Attempt { handle, hop, means, tried: Vec::new(), partial: false };
    let mut files = Vec::new();
    for path in &hop.identities {
        match Identity::read(&path.file) {
            Ok(identity) => files.push(identity),
            Err(_) if !path.required => {}
            Err(source) => return Err(ConnectError::Identity { path: path.file.clone(), source }),
        }
    }
    // An identity that lies open needs no agent; asking one would only cost time.
    let first_is_open = hop.identities_only && files.first().is_some_and(|identity| identity.open.is_some());
    if let Some(socket) = hop.agent.as_deref().filter(|_| !first_is_open)
        && let Ok(Some((agent, held))) = timeout(means.limit, Agent::ask(socket)).await
        && attempt.agent(agent, held, &files).await?
    {
        return Ok(());
    }
    for identity in files {
        let Some(key) = attempt.opened(identity) else { continue };
        if attempt.key(key).await? {
            return Ok(());
        }
    }
    Err(attempt.failed())
}

/// An identity's file.
struct Identity {
    path: PathBuf,
    public: PublicKey,
    text: String,
    /// The key itself, where no passphrase is needed.
    open: Option<PrivateKey>,
}

impl Identity {
    fn read(path: &Path) -> Result<Self, russh::keys::Error> {
        let text = std::fs::read_to_string(path)?;
        match russh::keys::decode_secret_key(&text, None) {
            Ok(key) => Ok(Self { path: path.into(), public: key.public_key().clone(), text, open: Some(key) }),
            Err(error) => {
                // OpenSSH's own format shows the public half of a key that is locked; for others it lies beside it.
                let public = PrivateKey::from_openssh(&text).ok().map(|key| key.public_key().clone());
                let public_file = || russh::keys::load_public_key(beside(path)).ok();
                let public = public.or_else(public_file).ok_or(error)?;
                Ok(Self { path: path.into(), public, text, open: None })
            }
        }
    }
}

/// Returns where an identity's public half lies.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// An agent that answers.
struct Agent(AgentClient<UnixStream>);

impl Agent {
    /// Asks for the keys it holds. An agent that does not answer is one that is not there.
    async fn ask(socket: &Path) -> Option<(Self, Vec<PublicKey>)> {
        let mut client = AgentClient::connect_uds(socket).await.ok()?;
        let identities = client.request_identities().await.ok()?;
        let keys = identities.into_iter().filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            AgentIdentity::Certificate { .. } => None,
        });
        Some((Self(client), keys.collect()))
    }
}

struct Attempt<'a> {
    handle: &'a mut Handle,
    hop: &'a Hop,
    means: Means<'a>,
    tried: Vec<String>,
    partial: bool,
}

impl Attempt<'_> {
    /// Lets the agent sign for what it holds.
    async fn agent(
        &mut self,
        Agent(mut client): Agent,
        held: Vec<PublicKey>,
        files: &[Identity],
    ) -> Result<bool, ConnectError> {
        let is_wanted = |key: &PublicKey| files.iter().any(|file| file.public.key_data() == key.key_data());
        let (mut keys, others): (Vec<_>, Vec<_>) = held.into_iter().partition(is_wanted);
        if !self.hop.identities_only {
            keys.extend(others);
        }
        for key in keys {
            let hash = self.hash(&key).await?;
            let name = format!("{} of the agent", key.fingerprint(HashAlg::Sha256));
            let answer = self.handle.authenticate_publickey_with(&self.hop.user, key, hash, &mut client);
            let Ok(result) = timeout(self.means.limit, answer).await else { return Err(self.silent()) };
            match result {
                Ok(result) => {
                    if self.judge(result, name)? {
                        return Ok(true);
                    }
                }
                Err(error) => self.tried.push(format!("{name}: {error}")),
            }
        }
        Ok(false)
    }

    async fn key(&mut self, (path, key): (PathBuf, PrivateKey)) -> Result<bool, ConnectError> {
        let hash = self.hash(key.public_key()).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = self.handle.authenticate_publickey(&self.hop.user, key);
        let Ok(result) = timeout(self.means.limit, answer).await else { return Err(self.silent()) };
        let result = result.map_err(|source| self.broken(source))?;
        self.judge(result, format!("`{}`", path.display()))
    }

    /// Unlocks an identity. One that cannot be unlocked is passed over, and named if nothing else works.
    fn opened(&mut self, identity: Identity) -> Option<(PathBuf, PrivateKey)> {
        let Identity { path, public: _, text, open } = identity;
        if let Some(key) = open {
            return Some((path, key));
        }
        let Means { asker, unlocked, .. } = self.means;
        let question = format!("passphrase of {}", path.display());
        let mut why = "the passphrase is another";
        let unlock = || {
            for _ in 0..ATTEMPTS {
                let Some(passphrase) = asker.secret(&question) else {
                    why = "it is locked, and nobody can be asked";
                    break;
                };
                if let Ok(key) = russh::keys::decode_secret_key(&text, Some(passphrase.expose())) {
                    return Some(key);
                }
            }
            None
        };
        let key = unlocked.key(&path, unlock);
        if key.is_none() {
            self.tried.push(format!("`{}`: {why}", path.display()));
        }
        Some((path, key?))
    }

    /// RSA keys sign with what the server takes, SHA-1 never.
    async fn hash(&mut self, key: &PublicKey) -> Result<Option<HashAlg>, ConnectError> {
        if !matches!(key.algorithm(), ssh_key::Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        let Ok(best) = timeout(self.means.limit, self.handle.best_supported_rsa_hash()).await else {
            return Err(self.silent());
        };
        let best = best.map_err(|source| self.broken(source))?;
        Ok(Some(best.flatten().unwrap_or(HashAlg::Sha512)))
    }

    fn judge(&mut self, result: AuthResult, name: String) -> Result<bool, ConnectError> {
        match result {
            AuthResult::Success => Ok(true),
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.partial |= partial_success;
                self.tried.push(if partial_success { format!("{name}: not enough by itself") } else { name });
                let asks_for_keys = remaining_methods.contains(&russh::MethodKind::PublicKey);
                if remaining_methods.is_empty() || asks_for_keys { Ok(false) } else { Err(self.failed()) }
            }
        }
    }

    fn silent(&self) -> ConnectError {
        ConnectError::Slow { at: self.hop.at(), what: "say whether it lets us in", limit: self.means.limit }
    }

    fn broken(&self, source: russh::Error) -> ConnectError {
        ConnectError::Handshake { at: self.hop.at(), source }
    }

    fn failed(&mut self) -> ConnectError {
        let hint = if self.partial {
            "it wants a second proof, which charly cannot give; use a user who needs none".to_owned()
        } else if self.tried.is_empty() {
            format!(
                "name an identity with `--identity`, or load one into the agent: `ssh-copy-id {}` teaches it to the machine",
                self.hop.login()
            )
        } else {
            format!(
                "teach the machine one of these keys with `ssh-copy-id`, or name another with `--identity`; `ssh {}` must work without a password",
                self.hop.login()
            )
        };
        let (at, user) = (self.hop.at(), self.hop.user.clone());
        ConnectError::Auth { at, user, tried: std::mem::take(&mut self.tried), hint }
    }
}
