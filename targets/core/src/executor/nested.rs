//! The executor for a container of a machine that another executor reaches.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::{DeployExecutor, ExecutorError, MAX_OUTPUT, ShellOptions, ShellOutput};

/// Gives its place to a shell in a container. Names and values are read from the environment, and nothing is made from them.
const ENTER: &str = r#"
    set --
    for name in $CHARLY_NAMES; do set -- "$@" --env "$name"; done
    exec podman exec --interactive "$@" -- "$CHARLY_CONTAINER" \
        sh -c 'charly=$CHARLY_SCRIPT; unset CHARLY_SCRIPT; eval "unset charly; $charly"'
"#;

/// How many bytes of a file are moved at once: what is kept of a script's output.
const PIECE: usize = MAX_OUTPUT;

/// Runs scripts in a container of a machine, and moves files to and from it, by that machine's podman.
#[derive(Debug, Clone)]
pub struct NestedExecutor {
    outer: Arc<dyn DeployExecutor>,
    container: String,
}

impl NestedExecutor {
    /// Takes what reaches the machine, and the name of a container that runs there.
    pub fn new(outer: Arc<dyn DeployExecutor>, container: impl Into<String>) -> Self {
        Self { outer, container: container.into() }
    }

    /// Runs a step of moving a file. Returns what it wrote.
    async fn step(
        &self,
        script: &str,
        path: &str,
        more: &[(&str, String)],
        stdin: Vec<u8>,
    ) -> Result<Vec<u8>, ExecutorError> {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let env = std::iter::once(("CHARLY_PATH".to_owned(), path.to_owned())).chain(more).collect();
        let options = ShellOptions { env, stdin, timeout: None };
        let ShellOutput { status, stdout, stderr } = self.run_shell(script, &options).await?;
        if status == 0 {
            return Ok(stdout);
        }
        let why = String::from_utf8_lossy(&stderr).trim().to_owned();
        Err(ExecutorError::File { path: path.to_owned(), source: io::Error::other(why) })
    }
}

#[async_trait]
impl DeployExecutor for NestedExecutor {
    async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
        let mut options = options.clone();
        let is_name = |name: &String| {
            let good = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            name.bytes().all(good) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        };
        if let Some(name) = options.env.keys().find(|name| !is_name(name)) {
            let what = format!("`{name}` cannot be a variable");
            return Err(ExecutorError::Start(io::Error::new(io::ErrorKind::InvalidInput, what)));
        }
        options.env.insert("CHARLY_SCRIPT".to_owned(), script.to_owned());
        let names: Vec<_> = options.env.keys().cloned().collect();
        options.env.insert("CHARLY_NAMES".to_owned(), names.join(" "));
        options.env.insert("CHARLY_CONTAINER".to_owned(), self.container.clone());
        self.outer.run_shell(ENTER, &options).await
    }

    async fn put(&self, content: &mut (dyn Read + Send), path: &str, mode: u32) -> Result<(), ExecutorError> {
        let failed = |source| ExecutorError::File { path: path.to_owned(), source };
        let part = self.step(r#"umask 077; mktemp "$CHARLY_PATH.XXXXXX""#, path, &[], Vec::new()).await?;
        let part = String::from_utf8_lossy(&part).trim_end_matches('\n').to_owned();
        let moved = async {
            loop {
                let mut piece = Vec::new();
                (&mut *content).take(PIECE as u64).read_to_end(&mut piece).map_err(failed)?;
                if piece.is_empty() {
                    break;
                }
                self.step(r#"cat >>"$CHARLY_PART""#, path, &[("CHARLY_PART", part.clone())], piece).await?;
            }
            let last = [("CHARLY_PART", part.clone()), ("CHARLY_MODE", format!("{mode:o}"))];
            self.step(
                r#"chmod "$CHARLY_MODE" "$CHARLY_PART" && mv -f "$CHARLY_PART" "$CHARLY_PATH""#,
                path,
                &last,
                vec![],
            )
            .await
        };
        let moved = moved.await;
        if moved.is_err() {
            self.step(r#"rm -f "$CHARLY_PART""#, path, &[("CHARLY_PART", part.clone())], Vec::new()).await.ok();
        }
        moved.map(drop)
    }

    async fn get(&self, path: &str, into: &mut (dyn Write + Send)) -> Result<u64, ExecutorError> {
        const READ: &str = r#"dd if="$CHARLY_PATH" bs="$CHARLY_PIECE" skip="$CHARLY_AT" count=1 status=none"#;
        let mut size = 0;
        for at in 0_u64.. {
            let which = [("CHARLY_PIECE", PIECE.to_string()), ("CHARLY_AT", at.to_string())];
            let piece = self.step(READ, path, &which, Vec::new()).await?;
            into.write_all(&piece).map_err(|source| ExecutorError::File { path: path.to_owned(), source })?;
            size += piece.len() as u64;
            if piece.len() < PIECE {
                break;
            }
        }
        Ok(size)
    }

    /// Makes an address reachable as the machine around the container sees it.
    async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError> {
        self.outer.forward(to).await
    }

    async fn close(&self) -> Result<(), ExecutorError> {
        self.outer.close().await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::executor::ShellExecutor;
    use pollster::block_on;

    /// This machine, with a podman that enters nothing.
    #[derive(Debug)]
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let podman = folder.path().join("podman");
            let script = "#!/bin/sh\n[ \"$1\" = exec ] || exit 9\nwhile [ \"$1\" != -- ]; do shift; done\n[ \"$2\" = \"we'b\" ] || exit 8\nshift 2; exec \"$@\"\n";
            std::fs::write(&podman, script).unwrap();
            std::fs::set_permissions(&podman, std::fs::Permissions::from_mode(0o755)).unwrap();
            Self(folder)
        }
    }

    #[async_trait]
    impl DeployExecutor for Machine {
        async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
            let mut options = options.clone();
            options.env.insert("PATH".into(), format!("{}:/usr/bin:/bin", self.0.path().display()));
            ShellExecutor.run_shell(script, &options).await
        }

        async fn put(&self, _: &mut (dyn Read + Send), _: &str, _: u32) -> Result<(), ExecutorError> {
            Err(ExecutorError::Closed)
        }

        async fn get(&self, _: &str, _: &mut (dyn Write + Send)) -> Result<u64, ExecutorError> {
            Err(ExecutorError::Closed)
        }

        async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError> {
            Ok(to)
        }

        async fn close(&self) -> Result<(), ExecutorError> {
            Ok(())
        }
    }

    #[test]
    fn scripts_and_values_arrive_as_they_are() {
        let nested = NestedExecutor::new(Arc::new(Machine::new()), "we'b");
        let env = [("WHO".to_owned(), "it's $HOME\n`x`".to_owned())].into();
        let options = ShellOptions { env, stdin: b"rest".to_vec(), timeout: None };
        let script = "printf %s \"$WHO|${charly-}|${CHARLY_SCRIPT-}|\"; cat; exit 3";
        let output = block_on(nested.run_shell(script, &options)).unwrap();
        assert_eq!((output.status, &*output.stdout), (3, &b"it's $HOME\n`x`|||rest"[..]), "{output:?}");
        let bad = ShellOptions { env: [("A;x".to_owned(), String::new())].into(), ..ShellOptions::default() };
        assert!(block_on(nested.run_shell("true", &bad)).is_err());
    }

    #[test]
    fn files_larger_than_a_piece_move_both_ways() {
        let nested = NestedExecutor::new(Arc::new(Machine::new()), "we'b");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        let path = path.to_str().unwrap();
        for size in [0, 1, PIECE, PIECE * 2 + 5] {
            let content: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
            block_on(nested.put(&mut &*content, path, 0o640)).unwrap();
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
            let mut back = Vec::new();
            assert_eq!(block_on(nested.get(path, &mut back)).unwrap(), size as u64);
            assert!(back == content, "{size}");
        }
        assert!(block_on(nested.put(&mut &b"x"[..], "/nonexistent/x", 0o600)).is_err());
        assert!(block_on(nested.get("/nonexistent/x", &mut Vec::new())).is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing is left half done");
    }
}
