//! An executor for tests: it does nothing, and remembers what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{DeployExecutor, ExecutorError, ShellOptions, ShellOutput};

/// Remembers calls, answers scripts from a prepared list, and keeps files in memory.
#[derive(Debug, Default)]
pub struct RecordingExecutor(Mutex<Tape>);

/// What an executor was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// To run a script.
    RunShell(String, ShellOptions),
    /// To write a file, with these permission bits.
    Put(String, u32),
    /// To read a file.
    Get(String),
    /// To make an address reachable.
    Forward(SocketAddr),
    /// To close.
    Close,
}

#[derive(Debug, Default)]
struct Tape {
    calls: Vec<Call>,
    answers: VecDeque<ShellOutput>,
    files: BTreeMap<String, Vec<u8>>,
    closed: bool,
}

impl RecordingExecutor {
    /// Prepares the answers to scripts, first to last. A script beyond them succeeds and writes nothing.
    pub fn answering(answers: impl IntoIterator<Item = ShellOutput>) -> Self {
        Self(Mutex::new(Tape { answers: answers.into_iter().collect(), ..Tape::default() }))
    }

    /// Returns what was asked so far.
    pub fn calls(&self) -> Vec<Call> {
        self.tape().calls.clone()
    }

    /// Returns a file that was put.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.tape().files.get(path).cloned()
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) -> Result<MutexGuard<'_, Tape>, ExecutorError> {
        let mut tape = self.tape();
        tape.calls.push(call);
        if tape.closed { Err(ExecutorError::Closed) } else { Ok(tape) }
    }
}

#[async_trait]
impl DeployExecutor for RecordingExecutor {
    async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
        let mut tape = self.record(Call::RunShell(script.to_owned(), options.clone()))?;
        Ok(tape.answers.pop_front().unwrap_or_default())
    }

    async fn put(&self, content: &mut (dyn Read + Send), path: &str, mode: u32) -> Result<(), ExecutorError> {
        let mut bytes = Vec::new();
        let file = |source| ExecutorError::File { path: path.to_owned(), source };
        content.read_to_end(&mut bytes).map_err(file)?;
        self.record(Call::Put(path.to_owned(), mode))?.files.insert(path.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, path: &str, into: &mut (dyn Write + Send)) -> Result<u64, ExecutorError> {
        let bytes = self.record(Call::Get(path.to_owned()))?.files.get(path).cloned();
        let file = |source| ExecutorError::File { path: path.to_owned(), source };
        let bytes = bytes.ok_or_else(|| file(io::ErrorKind::NotFound.into()))?;
        into.write_all(&bytes).map_err(file)?;
        Ok(bytes.len() as u64)
    }

    async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError> {
        self.record(Call::Forward(to)).map(|_| to)
    }

    async fn close(&self) -> Result<(), ExecutorError> {
        self.record(Call::Close)?.closed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    #[test]
    fn calls_are_remembered_in_order() {
        let executor = RecordingExecutor::answering([ShellOutput { status: 1, ..ShellOutput::default() }]);
        let options = ShellOptions::default();
        assert_eq!(block_on(executor.run_shell("a", &options)).unwrap().status, 1);
        assert_eq!(block_on(executor.run_shell("b", &options)).unwrap().status, 0);
        block_on(executor.put(&mut &b"x"[..], "/f", 0o600)).unwrap();
        block_on(executor.close()).unwrap();
        assert!(matches!(block_on(executor.run_shell("c", &options)), Err(ExecutorError::Closed)));
        assert_eq!(executor.file("/f").unwrap(), b"x");
        let shell = |script: &str| Call::RunShell(script.into(), options.clone());
        assert_eq!(executor.calls(), [shell("a"), shell("b"), Call::Put("/f".into(), 0o600), Call::Close, shell("c")]);
    }
}
