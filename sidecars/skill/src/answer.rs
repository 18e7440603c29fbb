//! What a caller gets back from a run.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    request::Encoding,
    run::{Ending, Outcome, Stream},
};

/// The exit code of a run that ended otherwise than by exiting.
const NO_EXIT: i32 = -1;

/// What is said of a run that waited for as long as it may run.
pub(crate) const NO_TURN: &str = "the run did not get its turn in its time";

/// Writes the answer to a run as JSON: `status`, `stdout`, `stderr`, `exit_code`, and further fields only where they
/// say something.
pub(crate) fn render(outcome: &Outcome, encoding: Encoding) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        status: &'static str,
        stdout: Cow<'a, str>,
        stderr: Cow<'a, str>,
        exit_code: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        stdout_encoding: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stderr_encoding: Option<&'static str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        timed_out: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cancelled: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    }

    let Outcome { ending, stdout, stderr } = outcome;
    let note = match ending {
        // The word stands where it always stood, after what the program wrote.
        Ending::TimedOut => Some(Cow::Borrowed("timeout")),
        Ending::Cancelled => Some(Cow::Borrowed("cancelled")),
        Ending::NoTurn => Some(Cow::Borrowed(NO_TURN)),
        Ending::NotStarted(why) => Some(Cow::Borrowed(why.as_str())),
        Ending::Exited(_) | Ending::Signalled(_) => None,
    };
    let (exit_code, signal) = match ending {
        Ending::Exited(code) => (*code, None),
        Ending::Signalled(signal) => (NO_EXIT, Some(*signal)),
        Ending::TimedOut | Ending::Cancelled | Ending::NoTurn | Ending::NotStarted(_) => (NO_EXIT, None),
    };
    let (stdout_text, stdout_encoding) = encode(Cow::Borrowed(stdout.visible()), encoding);
    let (stderr_text, stderr_encoding) = encode(with_note(stderr, note.as_deref()), encoding);
    let body = Body {
        status: if exit_code == 0 { "ok" } else { "error" },
        stdout: stdout_text,
        stderr: stderr_text,
        exit_code,
        stdout_encoding,
        stderr_encoding,
        truncated: stdout.truncated || stderr.truncated,
        timed_out: matches!(ending, Ending::TimedOut),
        cancelled: matches!(ending, Ending::Cancelled),
        signal,
    };
    serde_json::to_vec(&body).unwrap_or_else(|_| unreachable!("strings and numbers are always JSON"))
}

/// Writes the answer in at most `most` bytes, by leaving out the end of what the program wrote.
///
/// A byte takes up to six in the answer and most take one, so streams are only cut when the answer is too long.
pub(crate) fn render_within(most: usize, mut outcome: Outcome, encoding: Encoding) -> Vec<u8> {
    loop {
        let answer = render(&outcome, encoding);
        if answer.len() <= most || (outcome.stdout.kept.is_empty() && outcome.stderr.kept.is_empty()) {
            return answer;
        }
        for stream in [&mut outcome.stdout, &mut outcome.stderr] {
            // By as much as the answer is too long, and a little more: not every byte takes the same room.
            let part = stream.kept.len() as u128 * most as u128 / answer.len() as u128;
            stream.cut(usize::try_from(part).unwrap_or(0) * 15 / 16);
        }
    }
}

fn with_note<'a>(stderr: &'a Stream, note: Option<&str>) -> Cow<'a, [u8]> {
    let Some(note) = note else { return Cow::Borrowed(stderr.visible()) };
    let mut bytes = stderr.visible().to_vec();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(note.as_bytes());
    Cow::Owned(bytes)
}

/// Turns a stream into text, and says how where it is not the text itself.
fn encode(bytes: Cow<'_, [u8]>, encoding: Encoding) -> (Cow<'_, str>, Option<&'static str>) {
    let text = match bytes {
        Cow::Borrowed(bytes) => str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Cow::Borrowed(bytes)),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|error| Cow::Owned(error.into_bytes())),
    };
    match (text, encoding) {
        (Ok(text), _) => (text, None),
        (Err(bytes), Encoding::Base64) => (STANDARD.encode(bytes).into(), Some("base64")),
        (Err(bytes), Encoding::Utf8) => (String::from_utf8_lossy(&bytes).into_owned().into(), Some("lossy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ending: Ending, stdout: &[u8], stderr: &[u8], encoding: Encoding) -> String {
        let stream = |bytes: &[u8]| Stream { kept: bytes.to_vec(), truncated: false };
        let outcome = Outcome { ending, stdout: stream(stdout), stderr: stream(stderr) };
        String::from_utf8(render(&outcome, encoding)).unwrap()
    }

    #[test]
    fn plain_answers_have_the_four_fields_alone() {
        assert_eq!(
            answer(Ending::Exited(0), b"out\n", b"", Encoding::Utf8),
            r#"{"status":"ok","stdout":"out\n","stderr":"","exit_code":0}"#
        );
        assert_eq!(
            answer(Ending::Exited(3), b"", "ä".as_bytes(), Encoding::Base64),
            r#"{"status":"error","stdout":"","stderr":"ä","exit_code":3}"#
        );
    }

    #[test]
    fn other_endings_are_marked() {
        for (ending, expected) in [
            (Ending::Signalled(9), r#"{"status":"error","stdout":"","stderr":"x","exit_code":-1,"signal":9}"#),
            (
                Ending::TimedOut,
                r#"{"status":"error","stdout":"","stderr":"x\ntimeout","exit_code":-1,"timed_out":true}"#,
            ),
            (
                Ending::Cancelled,
                r#"{"status":"error","stdout":"","stderr":"x\ncancelled","exit_code":-1,"cancelled":true}"#,
            ),
            (Ending::NotStarted("no".into()), r#"{"status":"error","stdout":"","stderr":"x\nno","exit_code":-1}"#),
        ] {
            assert_eq!(answer(ending, b"", b"x", Encoding::Utf8), expected);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        assert_eq!(
            answer(Ending::Exited(0), b"\xff\x00", b"", Encoding::Utf8),
            "{\"status\":\"ok\",\"stdout\":\"\u{fffd}\\u0000\",\"stderr\":\"\",\"exit_code\":0,\"stdout_encoding\":\"lossy\"}"
        );
        assert_eq!(
            answer(Ending::Exited(0), b"text", b"\xff\x00", Encoding::Base64),
            r#"{"status":"ok","stdout":"text","stderr":"/wA=","exit_code":0,"stderr_encoding":"base64"}"#
        );
    }

    #[test]
    fn an_answer_fits_its_bound() {
        let stream = |bytes: Vec<u8>| Stream { kept: bytes, truncated: false };
        for (stdout, stderr) in [
            (vec![0; 100_000], vec![]),
            ([vec![b'x'; 90_000], vec![0; 10_000]].concat(), vec![0; 3]),
            ("ä\"日".repeat(9_000).into_bytes(), vec![0xff; 50_000]),
        ] {
            for encoding in [Encoding::Utf8, Encoding::Base64] {
                for most in [200, 5_000, 50_000] {
                    let outcome = Outcome {
                        ending: Ending::Exited(0),
                        stdout: stream(stdout.clone()),
                        stderr: stream(stderr.clone()),
                    };
                    let answer = render_within(most, outcome, encoding);
                    assert!(answer.len() <= most && answer.len() > most / 3, "{} of {most}", answer.len());
                    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                    assert_eq!(answer["truncated"], true);
                }
            }
        }
        let whole = Outcome { ending: Ending::Exited(0), stdout: stream(vec![b'x'; 50]), stderr: stream(vec![]) };
        let expected = render(&whole, Encoding::Utf8);
        assert_eq!(render_within(expected.len(), whole, Encoding::Utf8), expected);
    }

    #[test]
    fn truncation_leaves_whole_characters() {
        let stream = Stream { kept: "aä".as_bytes()[..2].to_vec(), truncated: true };
        assert_eq!(stream.visible(), b"a");
        let binary = Stream { kept: b"a\xff\xfe".to_vec(), truncated: true };
        assert_eq!(binary.visible(), b"a\xff\xfe");
    }
}
