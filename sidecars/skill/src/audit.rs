//! The audit log: one line of JSON for every run's start and end, and for every request that was refused.

use std::{
    fmt,
    io::{self, Write},
    thread,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::run::{Ending, Outcome};

/// Lines that may wait for a slow reader of the log; then runs wait too, rather than go unrecorded.
const WAITING: usize = 1024;

/// Arguments and their bytes beyond these are not written.
const MOST_ARGUMENTS: usize = 64;
const LONGEST_ARGUMENT: usize = 256;

/// Writes the audit log in a thread of its own.
pub(crate) struct Audit {
    lines: mpsc::Sender<Vec<u8>>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

/// Holds what the lines of one run have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) id: Uuid,
    pub(crate) caller: &'a str,
    pub(crate) skill: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Started {
        run: Uuid,
        caller: &'a str,
        skill: &'a str,
        args: Vec<&'a str>,
        arg_count: usize,
    },
    Finished {
        run: Uuid,
        caller: &'a str,
        skill: &'a str,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        ms: u64,
        stdout_bytes: usize,
        stderr_bytes: usize,
        truncated: bool,
    },
    Refused {
        caller: Option<&'a str>,
        method: &'a str,
        path: &'a str,
        status: u16,
        reason: &'a str,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: Event<'a>,
}

impl Audit {
    /// Starts writing to `target`; the thread ends when everybody is done with the log.
    pub(crate) fn start(mut target: Box<dyn Write + Send>) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (lines, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
        let writer = thread::Builder::new().name("audit".into()).spawn(move || {
            let mut failing = false;
            while let Some(mut batch) = waiting.blocking_recv() {
                while let Ok(line) = waiting.try_recv() {
                    batch.extend_from_slice(&line);
                }
                let written = target.write_all(&batch).and_then(|()| target.flush());
                if let Err(error) = &written
                    && !failing
                {
                    tracing::error!(%error, "cannot write the audit log");
                }
                failing = written.is_err();
            }
        })?;
        Ok((Self { lines }, writer))
    }

    /// Records that a run starts; the arguments are redacted already.
    pub(crate) async fn started(&self, run: Run<'_>, arguments: &[String]) {
        let args = arguments.iter().take(MOST_ARGUMENTS).map(|text| shorten(text, LONGEST_ARGUMENT)).collect();
        let Run { id, caller, skill } = run;
        self.write(Event::Started { run: id, caller, skill, args, arg_count: arguments.len() }).await;
    }

    /// Records how a run ended.
    pub(crate) async fn finished(&self, run: Run<'_>, outcome: &Outcome, time: Duration) {
        let Outcome { ending, stdout, stderr } = outcome;
        let (word, exit_code, signal) = match ending {
            Ending::Exited(0) => ("ok", Some(0), None),
            Ending::Exited(code) => ("failed", Some(*code), None),
            Ending::Signalled(signal) => ("signalled", None, Some(*signal)),
            Ending::TimedOut => ("timed_out", None, None),
            Ending::Cancelled => ("cancelled", None, None),
            Ending::NoTurn | Ending::NotStarted(_) => ("not_started", None, None),
        };
        let Run { id, caller, skill } = run;
        self.write(Event::Finished {
            run: id,
            caller,
            skill,
            outcome: word,
            exit_code,
            signal,
            ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            stdout_bytes: stdout.kept.len(),
            stderr_bytes: stderr.kept.len(),
            truncated: stdout.truncated || stderr.truncated,
        })
        .await;
    }

    /// Records a request that was refused.
    pub(crate) async fn refused(&self, caller: Option<&str>, method: &str, path: &str, status: u16, reason: &str) {
        let (method, path) = (shorten(method, 16), shorten(path, LONGEST_ARGUMENT));
        self.write(Event::Refused { caller, method, path, status, reason }).await;
    }

    async fn write(&self, event: Event<'_>) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        if let Ok(mut line) = serde_json::to_vec(&Line { time, event }) {
            line.push(b'\n');
            // The writer ends only after everybody who could send.
            let _ = self.lines.send(line).await;
        }
    }
}

fn shorten(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::run::Stream;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_line_an_event() {
        let target = Shared::default();
        let (audit, writer) = Audit::start(Box::new(target.clone())).unwrap();
        let run = Run { id: Uuid::nil(), caller: "agent", skill: "gh" };
        audit.started(run, &["a\n\"b".into(), "ä".repeat(200)]).await;
        let stream = |length| Stream { kept: vec![0; length], truncated: length > 5 };
        let outcome = Outcome { ending: Ending::Exited(2), stdout: stream(9), stderr: stream(1) };
        audit.finished(run, &outcome, Duration::from_millis(12)).await;
        audit.refused(None, "POST", "/skill/x", 401, "no token").await;
        drop(audit);
        writer.join().unwrap();

        let text = String::from_utf8(target.0.lock().unwrap().clone()).unwrap();
        let without_time: Vec<_> = text.lines().map(|line| line.split_once(",\"event\"").unwrap().1).collect();
        let id = Uuid::nil();
        assert_eq!(
            without_time,
            [
                format!(
                    r#":"started","run":"{id}","caller":"agent","skill":"gh","args":["a\n\"b","{}"],"arg_count":2}}"#,
                    "ä".repeat(128)
                ),
                format!(
                    r#":"finished","run":"{id}","caller":"agent","skill":"gh","outcome":"failed","exit_code":2,"ms":12,"stdout_bytes":9,"stderr_bytes":1,"truncated":true}}"#
                ),
                r#":"refused","caller":null,"method":"POST","path":"/skill/x","status":401,"reason":"no token"}"#
                    .to_owned(),
            ]
        );
        assert!(text.starts_with(r#"{"time":"20"#));
    }
}
