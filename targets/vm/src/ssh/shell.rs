//! A shell to talk to: the machine's own, or one in a container that runs there.
//!
//! The exec request is the single word `sh`, whatever is to come: no login shell interprets anything else. Into a container that
//! shell is followed by another, which takes its place; the container's name is data that the first one reads, never text that
//! it interprets.

use std::fmt;
use std::str::FromStr;

use charly_target_core::executor::MAX_OUTPUT;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::connection::Connection;
use super::error::ConnectError;

/// Reads a container's name, by its announced length, and gives its place to a shell in that container.
///
/// `dd` reads byte by byte, so it never takes what is not its own. On one line at last, as in `deliver.sh`.
const ENTER: &str = r#"
enter() {
  printf '\000charly-inside1\n'
  read -r length && name=$(dd bs=1 count="$length" 2>/dev/null) && exec podman exec --interactive -- "$name" sh
}
enter; exit
"#;

/// What the first shell says when it listens.
const LISTENS: &[u8] = b"\0charly-inside1\n";

/// A container that runs on a machine, and is worked on in its stead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    container: String,
}

/// A text that names no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no container; it is written `podman:NAME`")]
pub struct InsideError(String);

impl FromStr for Inside {
    type Err = InsideError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &&str| {
            let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            name.len() <= 255 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(rest)
        };
        let container = text.strip_prefix("podman:").filter(is_name).ok_or_else(|| InsideError(text.to_owned()))?;
        Ok(Self { container: container.to_owned() })
    }
}

impl Inside {
    /// Returns the container's name.
    pub fn container(&self) -> &str {
        &self.container
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "podman:{}", self.container)
    }
}

/// Opens a session, and starts a shell that reads what it is to do.
pub(super) async fn open(
    connection: &Connection,
    inside: Option<&Inside>,
) -> Result<(ChannelReadHalf, ChannelWriteHalf<Msg>), ConnectError> {
    let channel = connection.session().await?;
    let lost = |source| ConnectError::Session { at: connection.at().to_owned(), source };
    channel.exec(false, "sh").await.map_err(lost)?;
    let (mut incoming, outgoing) = channel.split();
    if let Some(Inside { container }) = inside {
        outgoing.data_bytes(ENTER.as_bytes().to_vec()).await.map_err(lost)?;
        let mut heard = Vec::new();
        // What a start-up file prints before is nobody's.
        while !heard.windows(LISTENS.len()).any(|window| window == LISTENS) {
            match incoming.wait().await {
                Some(ChannelMsg::Data { data }) if heard.len() < MAX_OUTPUT => heard.extend_from_slice(&data),
                Some(ChannelMsg::Data { .. } | ChannelMsg::Close) | None => return Err(lost(russh::Error::Disconnect)),
                Some(_) => {}
            }
        }
        outgoing.data_bytes(format!("{}\n{container}", container.len()).into_bytes()).await.map_err(lost)?;
    }
    Ok((incoming, outgoing))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_names_are_names() {
        assert_eq!("podman:web-1.2_x".parse::<Inside>().unwrap().to_string(), "podman:web-1.2_x");
        for text in ["", "web", "podman:", "podman:-f", "podman:a b", "podman:a\n", "podman:$(x)", "docker:web"] {
            assert!(text.parse::<Inside>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_shell_inside_reads_on_where_the_first_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        // A podman that enters nothing, and says what it was called with.
        let podman = folder.path().join("podman");
        std::fs::write(&podman, "#!/bin/sh\necho \"$# $*\"; shift 4; exec \"$@\"\n").unwrap();
        std::fs::set_permissions(&podman, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        for shell in ["dash", "bash"] {
            let mut child = Command::new(shell);
            let mut child = child.env("PATH", &path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            stdin.write_all(ENTER.as_bytes()).unwrap();
            let mut listens = vec![0; LISTENS.len()];
            stdout.read_exact(&mut listens).unwrap();
            assert_eq!(listens, LISTENS);
            stdin.write_all(b"3\nwebecho \"it is $0\"\n").unwrap();
            drop(stdin);
            let mut said = String::new();
            stdout.read_to_string(&mut said).unwrap();
            assert!(child.wait().unwrap().success());
            assert_eq!(said, "5 exec --interactive -- web sh\nit is sh\n", "{shell}");
        }
    }
}
