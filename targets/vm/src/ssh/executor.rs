//! The executor for a machine over SSH.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use charly_target_core::DeployExecutor;
use charly_target_core::executor::{ExecutorError, MAX_OUTPUT, ShellOptions, ShellOutput};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::net::TcpListener;

use super::connection::Connection;
use super::shell;

/// Reads what it runs, in which environment, as data of announced lengths; then runs it on what is left of its input.
///
/// `dd` reads byte by byte, so it never takes what is not its own. Nothing of this is made from values.
const LOADER: &str = r#"
charly() {
  printf '\000charly-loader1\n'
  while read -r name length && [ "$name" != . ]; do
    value=$(dd bs=1 count="$length" 2>/dev/null; printf .)
    eval "$name=\${value%.}; export $name"
  done
  script=$(dd bs=1 count="$length" 2>/dev/null; printf .)
  unset value name
  eval "${script%.}"
}
charly; exit $?
"#;

/// What the loader says when it listens.
const LISTENS: &[u8] = b"\0charly-loader1\n";

/// How many bytes are read from a source at a time.
const PIECE: usize = 64 << 10;

/// Runs scripts on a machine, and moves files to and from it.
#[derive(Debug)]
pub struct SshExecutor {
    connection: Arc<Connection>,
    tunnels: std::sync::Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl SshExecutor {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, tunnels: std::sync::Mutex::default() }
    }

    /// Runs a script, from a source and into a sink. Returns its status and what it complained of.
    async fn run(
        &self,
        script: &str,
        env: &BTreeMap<String, String>,
        input: &mut (dyn Read + Send),
        output: &mut (dyn Write + Send),
    ) -> Result<(i32, Vec<u8>), ExecutorError> {
        let start = |error: io::Error| ExecutorError::Start(error);
        let lost = |_| ExecutorError::Closed;
        let opened = shell::open(&self.connection, None).await;
        let (mut incoming, outgoing) = opened.map_err(|error| start(io::Error::other(error)))?;
        outgoing.data_bytes(LOADER.as_bytes().to_vec()).await.map_err(lost)?;
        let head = head(script, env).map_err(start)?;
        let mut heard = Vec::new();
        let said_at = loop {
            match incoming.wait().await {
                Some(ChannelMsg::Data { data }) => heard.extend_from_slice(&data),
                Some(ChannelMsg::Close) | None => return Err(start(no_shell(&heard))),
                Some(_) => {}
            }
            if let Some(at) = heard.windows(LISTENS.len()).position(|window| window == LISTENS) {
                break at;
            }
            if heard.len() > MAX_OUTPUT {
                return Err(start(no_shell(&heard)));
            }
        };
        output.write_all(&heard[said_at + LISTENS.len()..]).map_err(start)?;
        let mut drain = std::pin::pin!(drain(&mut incoming, output));
        let ended = tokio::select! {
            ended = &mut drain => ended?,
            fed = feed(&outgoing, head, input) => {
                fed?;
                drain.await?
            }
        };
        outgoing.close().await.ok();
        ended.ok_or(ExecutorError::Closed)
    }
}

/// Gives a script what it reads. One that reads no more has its reasons.
async fn feed(
    outgoing: &ChannelWriteHalf<Msg>,
    head: Vec<u8>,
    input: &mut (dyn Read + Send),
) -> Result<(), ExecutorError> {
    let mut piece = head;
    while !piece.is_empty() && outgoing.data_bytes(std::mem::take(&mut piece)).await.is_ok() {
        piece.resize(PIECE, 0);
        let n = input.read(&mut piece).map_err(ExecutorError::Start)?;
        piece.truncate(n);
    }
    outgoing.eof().await.ok();
    Ok(())
}

/// Takes what a script writes, until it has ended. Returns its status and what it complained of, if it had a status.
async fn drain(
    incoming: &mut ChannelReadHalf,
    output: &mut (dyn Write + Send),
) -> Result<Option<(i32, Vec<u8>)>, ExecutorError> {
    let (mut complaints, mut status) = (Vec::new(), None);
    while let Some(message) = incoming.wait().await {
        match message {
            ChannelMsg::Data { data } => output.write_all(&data).map_err(ExecutorError::Start)?,
            ChannelMsg::ExtendedData { data, .. } => {
                let room = MAX_OUTPUT.saturating_sub(complaints.len()).min(data.len());
                complaints.extend_from_slice(&data[..room]);
            }
            ChannelMsg::ExitStatus { exit_status } => status = Some(i32::try_from(exit_status).unwrap_or(-1)),
            ChannelMsg::ExitSignal { signal_name, .. } => status = Some(128 + number(&signal_name)),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    Ok(status.map(|status| (status, complaints)))
}

fn no_shell(heard: &[u8]) -> io::Error {
    let said = &heard[..heard.len().min(4096)];
    io::Error::other(format!("the login shell ran no `sh`; it wrote `{}`", String::from_utf8_lossy(said).trim()))
}

/// Announces variables and the script.
fn head(script: &str, env: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    for (name, value) in env {
        let good = name
            .bytes()
            .enumerate()
            .all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()));
        if name.is_empty() || !good || value.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` cannot be a variable")));
        }
        write!(head, "{name} {}\n{value}", value.len())?;
    }
    write!(head, ". {}\n{script}", script.len())?;
    Ok(head)
}

fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        _ => 0,
    }
}

/// Keeps the beginning of what is written to it.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_OUTPUT.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl DeployExecutor for SshExecutor {
    async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
        let mut stdout = Capped(Vec::new());
        let mut stdin = &options.stdin[..];
        let run = self.run(script, &options.env, &mut stdin, &mut stdout);
        let (status, stderr) = match options.timeout {
            None => run.await?,
            Some(limit) => tokio::time::timeout(limit, run).await.map_err(|_| ExecutorError::TimedOut(limit))??,
        };
        Ok(ShellOutput { status, stdout: stdout.0, stderr })
    }

    async fn put(&self, content: &mut (dyn Read + Send), path: &str, mode: u32) -> Result<(), ExecutorError> {
        const PLACE: &str = r#"
            umask 077
            part=$(mktemp "$CHARLY_PATH.XXXXXX") || exit
            cat >"$part" && chmod "$CHARLY_MODE" "$part" && mv -f "$part" "$CHARLY_PATH" && exit
            rm -f "$part"; exit 1
        "#;
        let env = [("CHARLY_PATH".to_owned(), path.to_owned()), ("CHARLY_MODE".to_owned(), format!("{mode:o}"))].into();
        let (status, complaints) = self.run(PLACE, &env, content, &mut io::sink()).await?;
        moved(path, status, &complaints)
    }

    async fn get(&self, path: &str, into: &mut (dyn Write + Send)) -> Result<u64, ExecutorError> {
        let env = [("CHARLY_PATH".to_owned(), path.to_owned())].into();
        let mut counted = Counted { into, count: 0 };
        let (status, complaints) = self.run(r#"cat -- "$CHARLY_PATH""#, &env, &mut io::empty(), &mut counted).await?;
        moved(path, status, &complaints)?;
        Ok(counted.count)
    }

    async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ExecutorError::Start)?;
        let here = listener.local_addr().map_err(ExecutorError::Start)?;
        let connection = Arc::clone(&self.connection);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let connection = Arc::clone(&connection);
                tokio::spawn(async move {
                    if let Ok(channel) = connection.stream_to(&to.ip().to_string(), to.port()).await {
                        tokio::io::copy_bidirectional(&mut stream, &mut channel.into_stream()).await.ok();
                    }
                });
            }
        });
        self.tunnels.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(task);
        Ok(here)
    }

    async fn close(&self) -> Result<(), ExecutorError> {
        let tunnels = std::mem::take(&mut *self.tunnels.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for tunnel in tunnels {
            tunnel.abort();
            // Only then does nobody listen any more.
            tunnel.await.ok();
        }
        self.connection.close().await;
        Ok(())
    }
}

struct Counted<'a> {
    into: &'a mut (dyn Write + Send),
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.into.write(bytes)?;
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

fn moved(path: &str, status: i32, complaints: &[u8]) -> Result<(), ExecutorError> {
    if status == 0 {
        return Ok(());
    }
    let why = String::from_utf8_lossy(complaints).trim().to_owned();
    Err(ExecutorError::File { path: path.to_owned(), source: io::Error::other(why) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cross_as_they_are() {
        use std::process::{Command, Stdio};
        let env = [("A".to_owned(), "it's $HOME\n`x`\n".to_owned()), ("B_2".to_owned(), String::new())].into();
        let head = head("printf %s \"$A|$B_2|\"; cat; exit 3", &env).unwrap();
        for shell in ["dash", "bash"] {
            let mut child = Command::new(shell).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            stdin.write_all(LOADER.as_bytes()).unwrap();
            let mut listens = vec![0; LISTENS.len()];
            stdout.read_exact(&mut listens).unwrap();
            assert_eq!(listens, LISTENS);
            stdin.write_all(&head).unwrap();
            stdin.write_all(b"rest").unwrap();
            drop(stdin);
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            assert_eq!(text, "it's $HOME\n`x`\n||rest", "{shell}");
            assert_eq!(child.wait().unwrap().code(), Some(3), "{shell}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", "A;reboot", "1A", "A B", "A\n"] {
            assert!(head("", &[(name.to_owned(), String::new())].into()).is_err(), "{name:?}");
        }
    }
}
