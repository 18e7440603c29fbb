//! The listener, its connections, and the way to a graceful end.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;

use crate::{
    http::routes,
    service::{Phase, Service},
    settings::Listen,
};

/// Headers of a request, and bytes of its head.
const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 32 * 1024;

/// How often expired results are looked for when nobody asks.
const SWEEP: Duration = Duration::from_secs(60);

/// How long the last answers may take to go out.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Holds an open listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes the socket's file when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Opens the place to listen at; a socket's file gets `mode`.
    pub(crate) async fn open(listen: &Listen, mode: u32) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_dead_socket(path).await?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Says where it listens; the port may have been chosen by the system.
    pub(crate) fn place(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(_, SocketFile(path)) => Ok(Listen::Unix(path.clone())),
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is written whole; waiting for more would only delay it.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Removes a socket's file that nobody listens on any more, and nothing else.
async fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket
        && let Err(error) = tokio::net::UnixStream::connect(path).await
        && error.kind() == ErrorKind::ConnectionRefused
    {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Serves until `stop` resolves, then lets runs finish within the grace, ends the others, and returns when all have
/// ended. When `lost` resolves, which says that the supervisor is gone, there is no grace.
pub(crate) async fn serve(
    service: Arc<Service>,
    listener: Listener,
    stop: impl Future<Output = ()>,
    lost: impl Future<Output = ()>,
) {
    let mut lost = pin!(lost);
    let mut over = false;
    let (closing, closed) = watch::channel(());
    let room = Arc::new(Semaphore::new(service.limits.connections));
    let mut accepting = pin!(accept_all(&service, &listener, room.clone(), closed));
    tokio::select! {
        () = &mut accepting => {}
        () = stop => {}
        () = &mut lost => over = true,
    }
    service.phase.send_replace(Phase::Draining);
    tracing::info!("stopping: no new runs; waiting for those that go on");
    let grace = async {
        if !over {
            tokio::select! {
                () = sleep(service.limits.grace) => tracing::warn!("runs went on for longer than the grace and are ended"),
                () = lost => over = true,
            }
        }
        if over {
            tracing::error!("the supervisor is gone; runs are ended");
        }
    };
    // Callers can still fetch what their tasks answer while other runs go on.
    tokio::select! {
        () = &mut accepting => {}
        () = service.gate.empty() => {}
        () = grace => {
            service.phase.send_replace(Phase::Ending);
            service.gate.empty().await;
        }
    }
    drop(closing);
    let all = u32::try_from(service.limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(LAST_ANSWERS, room.acquire_many(all)).await;
}

async fn accept_all(service: &Arc<Service>, listener: &Listener, room: Arc<Semaphore>, closed: watch::Receiver<()>) {
    let routes = routes(service.clone());
    let patience = service.limits.patience;
    let mut connection = http1::Builder::new();
    connection
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEAD);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        // Those who come when there is no room wait in the listener's own queue.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            _ = sweep.tick() => {
                service.tasks.sweep();
                continue;
            }
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // One connection that went away, or no descriptors left: neither ends the server.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let mut stream = Box::pin(TimeoutStream::new(stream));
        stream.as_mut().set_write_timeout_pinned(Some(patience));
        let serving = connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
        let mut closed = closed.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut serving = pin!(serving);
            tokio::select! {
                _ = &mut serving => return,
                _ = closed.changed() => serving.as_mut().graceful_shutdown(),
            }
            let _ = serving.await;
        });
    }
}
