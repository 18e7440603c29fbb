//! One file by HTTP, resumed where it broke off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};

use super::error::FetchError;
use crate::Interrupts;

/// The most that is ever taken from one URL.
const MAX_SIZE: u64 = 16 << 30;

/// The pauses before a transfer that broke off is taken up again.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

/// A file that is arriving.
pub(super) struct Partial {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether its beginning came from an earlier answer.
    pub(super) resumed: bool,
}

/// What a server gave.
pub(super) enum Got {
    /// All of it, in the partial file.
    Whole {
        /// The server's name for this version, where it is one that promises equal bytes.
        etag: Option<String>,
        /// Whether part of it came from an earlier answer.
        resumed: bool,
    },
    /// The version asked about is still the newest.
    Unchanged,
}

/// One attempt's failure: for good, or worth another attempt.
enum Failure {
    Final(FetchError),
    Passing(ureq::Error),
}

/// Fetches `url` into a partial file, unless it is still the version `known`. Without `patience` a server that does not
/// answer is asked once.
pub(super) fn get(
    agent: &ureq::Agent,
    url: &str,
    known: Option<&str>,
    mut partial: Partial,
    patience: bool,
    interrupts: &Interrupts,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Got, FetchError> {
    let mut pauses = PAUSES.iter().filter(|_| patience);
    loop {
        match attempt(agent, url, known, &mut partial, interrupts, progress) {
            Ok(got) => return Ok(got),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error)) => match pauses.next() {
                Some(pause) if interrupts.count() == 0 => std::thread::sleep(*pause),
                Some(_) => return Err(FetchError::Interrupted),
                None => return Err(FetchError::Transfer { url: url.to_owned(), source: Box::new(error) }),
            },
        }
    }
}

fn attempt(
    agent: &ureq::Agent,
    url: &str,
    known: Option<&str>,
    partial: &mut Partial,
    interrupts: &Interrupts,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Got, Failure> {
    let mut file = open(&partial.path).map_err(FetchError::file(&partial.path))?;
    let validator = std::fs::read_to_string(validator_of(&partial.path)).ok();
    let have = match validator {
        Some(_) => file.seek(SeekFrom::End(0)).map_err(FetchError::file(&partial.path))?,
        None => 0,
    };

    let mut request = agent.get(url).config().http_status_as_error(false).build();
    if let (1.., Some(validator)) = (have, &validator) {
        request = request.header("range", format!("bytes={have}-")).header("if-range", validator);
    } else if let Some(known) = known {
        request = request.header("if-none-match", known);
    }
    let response = request.call().map_err(|error| match error {
        ureq::Error::Io(_) | ureq::Error::Timeout(_) => Failure::Passing(error),
        // A name that does not resolve will not do so in a second.
        error => FetchError::Transfer { url: url.to_owned(), source: Box::new(error) }.into(),
    })?;
    let status = response.status();
    let start = match status {
        StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Got::Unchanged),
        StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), have) => have,
        StatusCode::OK => 0,
        // What is there does not belong to this file any more.
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            remember(&partial.path, None)?;
            return Err(Failure::Passing(ureq::Error::StatusCode(status.as_u16())));
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Passing(ureq::Error::StatusCode(status.as_u16())));
        }
        _ => return Err(FetchError::Status { url: url.to_owned(), status: status.as_u16() }.into()),
    };
    partial.resumed = start > 0;
    file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(FetchError::file(&partial.path))?;
    let etag = strong_etag(response.headers());
    remember(&partial.path, etag.as_deref())?;
    receive(url, response, start, &mut file, &partial.path, interrupts, progress)?;
    remember(&partial.path, None)?;
    Ok(Got::Whole { etag, resumed: partial.resumed })
}

fn receive(
    url: &str,
    response: Response<ureq::Body>,
    start: u64,
    file: &mut File,
    path: &Path,
    interrupts: &Interrupts,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Failure> {
    let length = response.body().content_length();
    let total = length.map_or(0, |length| start.saturating_add(length));
    let too_large = || FetchError::TooLarge { url: url.to_owned(), limit: MAX_SIZE };
    if total > MAX_SIZE {
        return Err(too_large().into());
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 64 << 10];
    let mut done = start;
    progress(done, total);
    loop {
        if interrupts.count() > 0 {
            return Err(FetchError::Interrupted.into());
        }
        let n = match body.read(&mut buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Passing(ureq::Error::Io(error))),
        };
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).map_err(FetchError::file(path))?;
        done += n as u64;
        progress(done, total);
        if done > MAX_SIZE {
            return Err(too_large().into());
        }
    }
    if length.is_some() && done < total {
        return Err(Failure::Passing(ureq::Error::Io(io::ErrorKind::UnexpectedEof.into())));
    }
    Ok(())
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn validator_of(part: &Path) -> PathBuf {
    part.with_extension("etag")
}

/// Remembers which version a partial file is of; without a strong name it cannot be resumed.
fn remember(part: &Path, etag: Option<&str>) -> Result<(), FetchError> {
    let path = validator_of(part);
    let done = match etag {
        Some(etag) => std::fs::write(&path, etag),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
    };
    done.map_err(FetchError::file(&path))
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get("etag")?.to_str().ok()?;
    etag.starts_with('"').then(|| etag.to_owned())
}

/// Tells whether a partial answer continues where the file ends.
fn starts_at(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get("content-range").and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")).and_then(|range| range.split('-').next());
    start.and_then(|start| start.trim().parse().ok()) == Some(have)
}
