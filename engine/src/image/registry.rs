//! A registry that holds one image, for one reader, on loopback.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use charly_ir::Digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::http::{self, Refusal};

/// The most connections at once. Podman has as many as it has layers to fetch at once, which is six.
const CONNECTIONS: usize = 24;

/// How many chunks of a layer wait for podman to take them.
const WAITING: usize = 4;

/// How long a connection may ask for nothing. Whoever has more to ask for connects again.
const IDLE: Duration = Duration::from_secs(15);

/// How long podman may take nothing of what it asked for: it may be busy with the layers before.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the registry holds.
#[derive(Debug)]
pub(super) struct Held {
    /// The manifest and its media type.
    pub manifest: (Vec<u8>, String),
    /// The configuration.
    pub config: Vec<u8>,
    /// The sizes of the layers.
    pub layers: BTreeMap<Digest, u64>,
}

/// Somebody wants a layer.
#[derive(Debug)]
pub(super) struct Ask {
    /// Which.
    pub layer: Digest,
    /// Where its bytes go. It closes where they are no longer wanted.
    pub sink: SyncSender<Vec<u8>>,
}

/// A registry that listens until it is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    address: SocketAddr,
    secret: String,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    held: Held,
    manifest: Digest,
    config: Digest,
    /// The digest of the path that must be known: comparing digests takes the same time whatever was guessed.
    secret: Digest,
    ending: AtomicBool,
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Registry {
    /// Begins to listen. Layers are asked for by `asks`.
    pub(super) fn start<T: From<Ask> + Send + 'static>(held: Held, asks: Sender<T>) -> io::Result<Self> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret = format!("{:032x}", u128::from_le_bytes(random));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            manifest: Digest::of(&held.manifest.0),
            config: Digest::of(&held.config),
            secret: Digest::of(secret.as_bytes()),
            held,
            ending: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let (address, theirs) = (listener.local_addr()?, Arc::clone(&shared));
        let listener = std::thread::spawn(move || theirs.listen(&listener, &asks));
        Ok(Self { address, secret, shared, listener: Some(listener) })
    }

    /// Returns where the image is: host, port and a path that nobody can guess.
    pub(super) fn location(&self) -> String {
        format!("{}/{}/image", self.address, self.secret)
    }

    /// Returns the digest by which the image is asked for.
    pub(super) fn manifest(&self) -> Digest {
        self.shared.manifest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for stream in self.shared.open().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen<T: From<Ask> + Send + 'static>(self: &Arc<Self>, listener: &TcpListener, asks: &Sender<T>) {
        let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut number = 0;
        while !self.ending.load(Ordering::SeqCst) {
            // What goes wrong with one connection is that connection's.
            let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
            let Ok((stream, _)) = listener.accept() else { continue };
            let Ok(ours) = stream.try_clone() else { continue };
            number += 1;
            let mut open = self.open();
            if open.len() >= CONNECTIONS || self.ending.load(Ordering::SeqCst) {
                continue;
            }
            open.insert(number, ours);
            drop(open);
            let (shared, asks) = (Arc::clone(self), asks.clone());
            std::thread::spawn(move || {
                let _ = shared.converse(stream, &asks);
                shared.open().remove(&number);
            });
        }
    }

    fn converse<T: From<Ask>>(&self, mut stream: TcpStream, asks: &Sender<T>) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut held = Vec::new();
        while let Some(asked) = http::read(&mut stream, &mut held)? {
            let answer = asked.and_then(|asked| {
                let thing = self.find(&asked.path).ok_or(Refusal::NotFound)?;
                Ok((asked.head_only, thing))
            });
            match answer {
                Ok((head_only, thing)) => self.answer(&mut stream, head_only, thing, asks)?,
                Err(refusal) => {
                    http::refuse(&mut stream, refusal)?;
                    if refusal != Refusal::NotFound {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<Thing> {
        let below = path.strip_prefix("/v2/")?;
        if below.is_empty() {
            return Some(Thing::Root);
        }
        let (secret, below) = below.split_once('/')?;
        let (kind, digest) = below.strip_prefix("image/")?.split_once("/sha256:")?;
        if Digest::of(secret.as_bytes()) != self.secret {
            return None;
        }
        let digest: Digest = digest.parse().ok()?;
        match kind {
            "manifests" if digest == self.manifest => Some(Thing::Manifest),
            "blobs" if digest == self.config => Some(Thing::Config),
            "blobs" => self.held.layers.get(&digest).map(|size| Thing::Layer(digest, *size)),
            _ => None,
        }
    }

    fn answer<T: From<Ask>>(
        &self,
        stream: &mut TcpStream,
        head_only: bool,
        thing: Thing,
        asks: &Sender<T>,
    ) -> io::Result<()> {
        let bytes = |bytes: &[u8]| bytes.len() as u64;
        let plain = "application/octet-stream";
        let body: &[u8] = match thing {
            Thing::Root => {
                http::write_head(stream, "application/json", None, 2)?;
                b"{}"
            }
            Thing::Manifest => {
                let (manifest, kind) = &self.held.manifest;
                http::write_head(stream, kind, Some(&self.manifest.to_string()), bytes(manifest))?;
                manifest
            }
            Thing::Config => {
                http::write_head(stream, plain, Some(&self.config.to_string()), bytes(&self.held.config))?;
                &self.held.config
            }
            Thing::Layer(layer, size) => {
                http::write_head(stream, plain, Some(&layer.to_string()), size)?;
                if !head_only {
                    let (sink, chunks) = sync_channel(WAITING);
                    asks.send(Ask { layer, sink }.into()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                    pass_on(&chunks, size, stream)?;
                }
                return Ok(());
            }
        };
        if head_only { Ok(()) } else { stream.write_all(body) }
    }
}

/// What can be asked for.
#[derive(Debug, Clone, Copy)]
enum Thing {
    /// The word that a registry is here.
    Root,
    Manifest,
    Config,
    Layer(Digest, u64),
}

/// Writes a layer as it comes. One that ends early ends the connection, which tells podman.
fn pass_on(chunks: &Receiver<Vec<u8>>, size: u64, stream: &mut impl Write) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let chunk = chunks.recv().map_err(io::Error::other)?;
        left = left.checked_sub(chunk.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        stream.write_all(&chunk)?;
    }
    Ok(())
}
