//! The executor for this machine.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{DeployExecutor, ExecutorError, MAX_OUTPUT, ShellOptions, ShellOutput};

/// Runs scripts on this machine. It blocks: nothing is gained by waiting for a local pipe asynchronously.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShellExecutor;

#[async_trait]
impl DeployExecutor for ShellExecutor {
    async fn run_shell(&self, script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).envs(&options.env).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = shell.spawn().map_err(ExecutorError::Start)?;
        wait(child, options)
    }

    async fn put(&self, content: &mut (dyn Read + Send), path: &str, mode: u32) -> Result<(), ExecutorError> {
        place(content, Path::new(path), mode).map_err(|source| ExecutorError::File { path: path.to_owned(), source })
    }

    async fn get(&self, path: &str, into: &mut (dyn Write + Send)) -> Result<u64, ExecutorError> {
        std::fs::File::open(path)
            .and_then(|mut file| io::copy(&mut file, into))
            .map_err(|source| ExecutorError::File { path: path.to_owned(), source })
    }

    async fn forward(&self, to: SocketAddr) -> Result<SocketAddr, ExecutorError> {
        Ok(to)
    }

    async fn close(&self) -> Result<(), ExecutorError> {
        Ok(())
    }
}

/// Feeds a script and gathers what it writes. Each stream has a thread, so that none of them can hold up another.
fn wait(mut child: Child, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
    let group = Pid::from_child(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A script need not read what it is given.
            stdin.map(|mut stdin| stdin.write_all(&options.stdin))
        });
        let stdout = scope.spawn(move || stdout.map(capped).unwrap_or_default());
        let stderr = scope.spawn(move || stderr.map(capped).unwrap_or_default());
        scope.spawn(move || sender.send(child.wait()));
        let status = match options.timeout {
            None => ended.recv().ok(),
            Some(limit) => ended.recv_timeout(limit).ok(),
        };
        // Whatever the script left in the background would hold its pipes open.
        let killed = kill_process_group(group, Signal::KILL);
        let status = match status {
            Some(status) => status.map_err(ExecutorError::Start)?,
            None if killed.is_ok() => {
                return Err(ExecutorError::TimedOut(options.timeout.unwrap_or(Duration::ZERO)));
            }
            None => return Err(ExecutorError::Closed),
        };
        let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
        Ok(ShellOutput { status: code(status), stdout, stderr })
    })
}

/// Reads a stream to its end and keeps its beginning.
fn capped(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let read = (&mut stream).take(MAX_OUTPUT as u64).read_to_end(&mut kept);
    if read.is_ok() {
        io::copy(&mut stream, &mut io::sink()).ok();
    }
    kept
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn place(content: &mut dyn Read, path: &Path, mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(content, &mut file)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    fn run(script: &str, options: &ShellOptions) -> Result<ShellOutput, ExecutorError> {
        block_on(ShellExecutor.run_shell(script, options))
    }

    #[test]
    fn a_scripts_status_and_streams_come_back() {
        let options =
            ShellOptions { env: [("WHO".to_owned(), "a'b".to_owned())].into(), stdin: b"in".to_vec(), timeout: None };
        let output = run("cat; printf %s \"$WHO\" >&2; exit 3", &options).unwrap();
        assert_eq!(output, ShellOutput { status: 3, stdout: b"in".to_vec(), stderr: b"a'b".to_vec() });
        assert_eq!(run("kill -9 $$", &ShellOptions::default()).unwrap().status, 137);
    }

    #[test]
    fn a_flood_is_capped_and_a_background_child_holds_nothing_up() {
        let output = run("head -c 3000000 /dev/zero; sleep 1000 &", &ShellOptions::default()).unwrap();
        assert_eq!((output.status, output.stdout.len()), (0, MAX_OUTPUT));
    }

    #[test]
    fn a_script_that_takes_too_long_is_killed() {
        let options = ShellOptions { timeout: Some(Duration::from_millis(50)), ..ShellOptions::default() };
        assert!(matches!(run("sleep 1000 | sleep 1000", &options), Err(ExecutorError::TimedOut(_))));
    }

    #[test]
    fn files_are_placed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let path = path.to_str().unwrap();
        block_on(ShellExecutor.put(&mut &b"text"[..], path, 0o640)).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
        let mut back = Vec::new();
        assert_eq!(block_on(ShellExecutor.get(path, &mut back)).unwrap(), 4);
        assert_eq!(back, b"text");
        assert!(block_on(ShellExecutor.get("/nonexistent/x", &mut back)).is_err());
    }
}
