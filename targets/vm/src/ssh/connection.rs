//! One connection to a machine.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Config, Msg};
use russh::keys::Algorithm;
use russh::{Channel, ChannelReadHalf, Preferred, cipher};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::auth::{Means, authenticate};
use super::error::ConnectError;
use super::host_key::{Guard, Handle};
use super::route::Hop;
use super::settings::{Nobody, Settings};
use super::unlocked::Unlocked;

/// How often a sign of life is asked for where nothing else is heard.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How many of them may go unanswered.
const SILENT: usize = 3;

/// How much may be under way to us before we take it.
const WINDOW: u32 = 8 << 20;

/// The largest packet we take.
const PACKET: u32 = 65_535;

/// How long a session of a machine that has too many is waited for.
const PARTING: Duration = Duration::from_secs(10);

/// A connection that is let in. It ends when it is dropped.
pub(crate) struct Connection {
    handle: Handle,
    at: String,
    /// The connections that this one goes through, the nearest first.
    #[expect(dead_code, reason = "they live as long as what goes through them")]
    through: Vec<Handle>,
    /// What is still to be heard of the session before: a machine may allow only one at a time.
    last: Mutex<Option<ChannelReadHalf>>,
}

impl Connection {
    /// Connects, over as many machines as the way has.
    pub(crate) async fn open(way: &[Hop], settings: &Settings) -> Result<Self, ConnectError> {
        let mut through: Vec<Handle> = Vec::new();
        let Settings { asker, unlocked, limits, .. } = settings;
        let means = Means { asker: &**asker, unlocked, limit: limits.answer };
        for hop in way {
            let limit = hop.connect_timeout.unwrap_or(limits.connect);
            let handle = match through.last() {
                None => {
                    let stream = dial(hop, limit).await?;
                    // A request is often smaller than a packet and always waited for.
                    stream.set_nodelay(true).ok();
                    greet(hop, stream, limit).await?
                }
                Some(outer) => {
                    let channel = outer.channel_open_direct_tcpip(&hop.host, hop.port.into(), "127.0.0.1", 0);
                    let channel = within(limit, hop, "answer", channel).await?;
                    let channel = channel.map_err(|source| ConnectError::Handshake { at: hop.at(), source })?;
                    greet(hop, channel.into_stream(), limit).await?
                }
            };
            through.push(handle);
            let handle = through.last_mut().expect("one was just pushed");
            authenticate(handle, hop, means).await?;
        }
        let handle =
            through.pop().ok_or_else(|| ConnectError::Route { what: "the way is empty".into(), hint: None })?;
        let at = way.last().map(Hop::at).unwrap_or_default();
        Ok(Self { handle, at, through, last: Mutex::default() })
    }

    /// Returns the machine and its port.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Connects over a stream that somebody else has opened, straight to a machine.
    pub(crate) async fn over(stream: TcpStream, hop: &Hop, limit: Duration) -> Result<Self, ConnectError> {
        stream.set_nodelay(true).ok();
        let mut handle = greet(hop, stream, limit).await?;
        authenticate(&mut handle, hop, Means { asker: &Nobody, unlocked: &Unlocked::default(), limit }).await?;
        Ok(Self { handle, at: hop.at(), through: Vec::new(), last: Mutex::default() })
    }

    /// Tells whether nothing can be said over it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Opens a session.
    pub(crate) async fn session(&self) -> Result<Channel<Msg>, ConnectError> {
        let refused = |source| ConnectError::Session { at: self.at.clone(), source };
        match self.handle.channel_open_session().await {
            Ok(channel) => Ok(channel),
            Err(russh::Error::ChannelOpenFailure(failure)) => {
                let Some(mut last) = self.last.lock().await.take() else {
                    return Err(refused(russh::Error::ChannelOpenFailure(failure)));
                };
                timeout(PARTING, async { while last.wait().await.is_some() {} }).await.ok();
                self.handle.channel_open_session().await.map_err(refused)
            }
            Err(source) => Err(refused(source)),
        }
    }

    /// Takes what is left to be heard of a session that has done its work.
    pub(crate) async fn parted(&self, session: ChannelReadHalf) {
        *self.last.lock().await = Some(session);
    }

    /// Opens a stream to an address that the machine can reach.
    pub(crate) async fn stream_to(&self, host: &str, port: u16) -> Result<Channel<Msg>, ConnectError> {
        let opened = self.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await;
        opened.map_err(|source| ConnectError::Session { at: self.at.clone(), source })
    }

    /// Says good-bye, so that the other side need not find out.
    pub(crate) async fn close(&self) {
        let bye = self.handle.disconnect(russh::Disconnect::ByApplication, "", "");
        timeout(Duration::from_secs(1), bye).await.ok();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Connects to the first of a machine's addresses that answers, each given the whole time: one may lead nowhere.
async fn dial(hop: &Hop, limit: Duration) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Connect { at: hop.at(), source };
    let found = within(limit, hop, "become an address by its name", lookup_host((&*hop.host, hop.port))).await?;
    let mut last = failed(io::Error::new(io::ErrorKind::NotFound, "its name has no address"));
    for address in found.map_err(failed)? {
        match within(limit, hop, "answer", TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => last = failed(source),
            Err(slow) => last = slow,
        }
    }
    Err(last)
}

/// Agrees with a machine on how to talk, and checks its key.
async fn greet<S>(hop: &Hop, stream: S, limit: Duration) -> Result<Handle, ConnectError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let guard = Guard::new(hop)?;
    let (config, finding) = (Arc::new(config(&guard.algorithms())), guard.finding());
    match within(limit, hop, "introduce itself", client::connect_stream(config, stream, guard)).await? {
        Ok(handle) => Ok(handle),
        Err(source) => Err(finding.take().unwrap_or_else(|| ConnectError::Handshake { at: hop.at(), source })),
    }
}

/// Prefers what is fast with a processor's own AES, no compression (frames are packed), and kinds of host keys that are known.
fn config(known: &[Algorithm]) -> Config {
    let default = Preferred::DEFAULT;
    let mut keys: Vec<Algorithm> = known.to_vec();
    keys.extend(default.key.iter().filter(|algorithm| !known.contains(algorithm)).cloned());
    let first = [cipher::AES_128_GCM, cipher::AES_256_GCM];
    let mut ciphers = first.to_vec();
    ciphers.extend(default.cipher.iter().filter(|name| !first.contains(name)).copied());
    Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: SILENT,
        nodelay: true,
        preferred: Preferred {
            key: Cow::Owned(keys),
            cipher: Cow::Owned(ciphers),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            ..default
        },
        ..Config::default()
    }
}

async fn within<T>(
    limit: Duration,
    hop: &Hop,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    timeout(limit, work).await.map_err(|_| ConnectError::Slow { at: hop.at(), what, limit })
}
