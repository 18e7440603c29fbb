//! Carries bytes between a client and an engine on a machine.

use std::time::{Duration, Instant};

use charly_ir::frame::write_message;
use charly_ir::message::Request;
use charly_target_core::wire::{Client, ClientError};
use charly_target_core::{Notice, TargetError, engine};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bootstrap::{Listener, Word, deliver_script, script};
use super::connection::Connection;
use super::error::ConnectError;
use super::settings::{Delivery, Settings};
use super::shell;
use super::venue::interrupted;

/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often an engine is told that its controller is there.
const ALIVE: Duration = Duration::from_secs(15);

/// The most bytes of the engine that are sent at once, so that its progress can be shown.
const PIECE: usize = 64 << 10;

/// Starts an engine and carries bytes until the client is done, has failed, or the session ends.
pub(super) async fn carry(
    connection: &Connection,
    venue: &str,
    settings: &Settings,
    client: &mut Client<'_>,
) -> Result<(), TargetError> {
    let Settings { wishes, limits, .. } = settings;
    let (delivery, patience) = (wishes.delivery, limits.answer);
    let opened = tokio::select! {
        opened = timeout(patience, shell::open(connection, wishes.inside.as_ref())) => opened,
        error = interrupted(client) => return Err(error.into()),
    };
    let talk = Talk { venue, at: connection.at(), delivery, patience };
    let Ok(opened) = opened else { return Err(talk.silent()) };
    let (mut incoming, outgoing) = opened.map_err(|error| error.of(venue))?;
    let mut writer = Writer::start(outgoing);
    writer.send(Piece::Bytes(script(delivery).into_bytes())).await;
    client.across_a_network();
    let result = converse(&mut incoming, &mut writer, talk, client).await;
    writer.end();
    connection.parted(incoming).await;
    result
}

/// What a session is about.
#[derive(Clone, Copy)]
struct Talk<'a> {
    venue: &'a str,
    at: &'a str,
    delivery: Delivery,
    /// How long nothing may be heard until an engine is awake. From then on, signs of life tell who is there.
    patience: Duration,
}

impl Talk<'_> {
    fn silent(&self) -> TargetError {
        let Self { venue, at, patience, .. } = *self;
        let silent = ConnectError::Slow { at: at.to_owned(), what: "start a shell that answers", limit: patience };
        let hint = "see what the user's login shell and its start-up files wait for there: `ssh` and `sh` show it";
        TargetError::Unreachable { venue: venue.to_owned(), source: silent.into(), hint: Some(hint.to_owned()) }
    }
}

async fn converse(
    incoming: &mut ChannelReadHalf,
    writer: &mut Writer,
    talk: Talk<'_>,
    client: &mut Client<'_>,
) -> Result<(), TargetError> {
    let Talk { venue, delivery, patience, .. } = talk;
    let mut listener = Listener::default();
    let mut heard = Instant::now();
    let mut delivering: Option<Delivering> = None;
    let mut awake = false;
    let mut tick = tokio::time::interval(TICK);
    loop {
        client.attend()?;
        while let Some((bytes, took)) = writer.paced() {
            client.paced(bytes, took);
        }
        let mut idle = false;
        if writer.has_room() {
            if let Some(piece) = delivering.as_mut().and_then(|delivering| delivering.next(client)) {
                writer.send(Piece::Bytes(piece)).await;
                heard = Instant::now();
                continue;
            }
            let mut pending = Vec::new();
            client.transmit(&mut pending)?;
            if !pending.is_empty() {
                writer.send(Piece::Bytes(pending)).await;
                continue;
            }
            idle = true;
        }
        tokio::select! {
            message = incoming.wait() => match message {
                Some(ChannelMsg::Data { data }) if awake => client.receive(&data)?,
                Some(ChannelMsg::Data { data }) => {
                    heard = Instant::now();
                    let (bytes, word) = listener.hear(&data);
                    match word {
                        Some(Word::More) if delivery == Delivery::Never => return Err(absent(venue)),
                        Some(Word::More) => writer.send(Piece::Bytes(deliver_script().into_bytes())).await,
                        Some(word) => delivering = Some(Delivering::answer(word, venue)?),
                        None => {}
                    }
                    client.receive(&bytes)?;
                    if client.hello().is_some() {
                        awake = true;
                        writer.send(Piece::Awake).await;
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => client.receive_complaint(&data),
                // The engine's last complaints may come after its output has ended; the session's end is the end.
                Some(ChannelMsg::Close) => return Ok(()),
                None => return Err(ClientError::Lost.into()),
                Some(_) => {}
            },
            // Where there is room already there is nothing to say; only what is heard changes that.
            () = writer.room(), if !idle => {}
            _ = tick.tick() => {}
        }
        if client.is_done() {
            return Ok(());
        }
        if !awake && heard.elapsed() > patience {
            return Err(talk.silent());
        }
    }
}

fn absent(venue: &str) -> TargetError {
    TargetError::Unreachable {
        venue: venue.to_owned(),
        source: format!("it has no engine of this charly's ({})", engine::digest().short()).into(),
        hint: Some("let it be sent, with `--engine auto`".to_owned()),
    }
}

/// The engine on its way to a machine.
struct Delivering {
    bytes: Vec<u8>,
    sent: usize,
}

impl Delivering {
    /// Answers what a machine's script says.
    fn answer(word: Word, venue: &str) -> Result<Self, TargetError> {
        let refuse = |what: String, hint: Option<&str>| {
            let (source, hint) = (what.into(), hint.map(str::to_owned));
            Err(TargetError::Unreachable { venue: venue.to_owned(), source, hint })
        };
        let bytes = match word {
            Word::Packed => engine::PACKED.to_vec(),
            Word::Plain => engine::program(),
            Word::Arch(theirs) => {
                let what =
                    format!("its architecture is `{theirs}`, and this charly carries an engine for `{}`", engine::ARCH);
                return refuse(what, Some("use a charly that was built for that architecture"));
            }
            Word::Nowhere => {
                return refuse(
                    "there is no folder there from which programs can be started".into(),
                    Some(
                        "neither `~/.cache/charly` nor `/var/tmp` will do: one must be on a disk with room, not mounted `noexec`",
                    ),
                );
            }
            Word::Full => {
                return refuse(
                    format!("there is no room there for the engine ({} MiB)", engine::size().div_ceil(1 << 20)),
                    Some("make room in the home folder or `/var/tmp`, then run the same command again"),
                );
            }
            Word::Damaged => {
                return refuse("the engine did not arrive as it was sent".into(), Some("run the same command again"));
            }
            Word::More => return refuse("its shell asks for what it has".into(), None),
            Word::Other(text) => return refuse(format!("its shell said `{text}`"), None),
        };
        Ok(Self { bytes, sent: 0 })
    }

    fn next(&mut self, client: &mut Client<'_>) -> Option<Vec<u8>> {
        let piece = self.bytes[self.sent..].chunks(PIECE).next()?.to_vec();
        self.sent += piece.len();
        client.notice(Notice::Delivering { done: self.sent as u64, total: self.bytes.len() as u64 });
        Some(piece)
    }
}

/// What is written to a session.
enum Piece {
    Bytes(Vec<u8>),
    /// An engine listens: from now on it is told that somebody is there.
    Awake,
}

/// Writes to a session beside whatever else happens: reading must not wait for it, nor may a question to the user.
struct Writer {
    pieces: Option<mpsc::Sender<Piece>>,
    paces: mpsc::UnboundedReceiver<(usize, Duration)>,
    task: JoinHandle<()>,
}

impl Writer {
    /// One piece is written while the next is made.
    const AHEAD: usize = 1;

    fn start(session: ChannelWriteHalf<Msg>) -> Self {
        let (pieces, mut waiting) = mpsc::channel(Self::AHEAD);
        let (pace, paces) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut alive = Vec::new();
            write_message(&mut alive, &Request::Alive).expect("memory takes what is written");
            let mut awake = false;
            loop {
                let bytes = match tokio::time::timeout(ALIVE, waiting.recv()).await {
                    Ok(Some(Piece::Bytes(bytes))) => bytes,
                    Ok(Some(Piece::Awake)) => {
                        awake = true;
                        continue;
                    }
                    Ok(None) => break,
                    Err(_) if awake => alive.clone(),
                    Err(_) => continue,
                };
                let (count, began) = (bytes.len(), Instant::now());
                if session.data_bytes(bytes).await.is_err() {
                    return;
                }
                pace.send((count, began.elapsed())).ok();
            }
            session.eof().await.ok();
            session.close().await.ok();
        });
        Self { pieces: Some(pieces), paces, task }
    }

    /// Hands a piece over. One for a session that has ended is dropped: reading will tell.
    async fn send(&mut self, piece: Piece) {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_err()
        {
            self.pieces = None;
        }
    }

    fn has_room(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.capacity() > 0)
    }

    /// Waits until there is room; for ever where there will be none.
    async fn room(&self) {
        if let Some(pieces) = &self.pieces
            && pieces.reserve().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    fn paced(&mut self) -> Option<(usize, Duration)> {
        self.paces.try_recv().ok()
    }

    /// Says that nothing more comes.
    fn end(&mut self) {
        self.pieces = None;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.pieces.is_some() {
            self.task.abort();
        }
    }
}
