//! The little of HTTP that podman speaks to a registry.

use std::io::{self, Read, Write};

/// The longest head of a request.
const HEAD: usize = 8 << 10;

/// The most header lines of a request.
const HEADERS: usize = 32;

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether only the head of the answer is wanted.
    pub head_only: bool,
    /// The path, as it was written.
    pub path: String,
}

/// Why a request is not answered with what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be understood, or brings a body.
    Nonsense,
    /// There is no such thing.
    NotFound,
    /// Nothing can be changed here.
    Method,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Nonsense => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method => "405 Method Not Allowed",
        }
    }
}

/// Reads one request; `None` where the connection ends before one. What follows it stays in `held`.
pub(super) fn read(stream: &mut impl Read, held: &mut Vec<u8>) -> io::Result<Option<Result<Asked, Refusal>>> {
    let mut buffer = [0; 2048];
    loop {
        match parse(held) {
            Ok(Some((asked, length))) => {
                held.drain(..length);
                return Ok(Some(asked));
            }
            Ok(None) if held.len() < HEAD => {}
            Ok(None) | Err(_) => return Ok(Some(Err(Refusal::Nonsense))),
        }
        match stream.read(&mut buffer) {
            Ok(0) if held.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => held.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What was asked, and how many bytes the asking took.
type Parsed = (Result<Asked, Refusal>, usize);

fn parse(bytes: &[u8]) -> Result<Option<Parsed>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes)? else { return Ok(None) };
    // Nobody has a body to send here; what followed one that is not read would be taken for a request.
    let brings_body = request.headers.iter().any(|header| {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        is("transfer-encoding") || is("content-length") && header.value != b"0"
    });
    let asked = match (request.method, request.path) {
        _ if brings_body => Err(Refusal::Nonsense),
        (Some(method @ ("GET" | "HEAD")), Some(path)) => {
            Ok(Asked { head_only: method == "HEAD", path: path.to_owned() })
        }
        (Some(_), Some(_)) => Err(Refusal::Method),
        _ => Err(Refusal::Nonsense),
    };
    Ok(Some((asked, length)))
}

/// Writes the head of an answer with a body of `length` bytes.
pub(super) fn write_head(stream: &mut impl Write, kind: &str, digest: Option<&str>, length: u64) -> io::Result<()> {
    let digest = digest.map(|digest| format!("Docker-Content-Digest: sha256:{digest}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: {kind}\r\n{digest}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

/// Says no.
pub(super) fn refuse(stream: &mut impl Write, refusal: Refusal) -> io::Result<()> {
    let end = if refusal == Refusal::NotFound { "" } else { "Connection: close\r\n" };
    stream.write_all(format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n{end}\r\n", refusal.status()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Result<Asked, Refusal>> {
        let (mut stream, mut held, mut found) = (bytes, Vec::new(), Vec::new());
        while let Ok(Some(asked)) = read(&mut stream, &mut held) {
            let end = asked.is_err();
            found.push(asked);
            if end {
                break;
            }
        }
        found
    }

    #[test]
    fn requests_follow_one_another() {
        let found = all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nHEAD /v2/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        let want = [(false, "/v2/"), (true, "/v2/a")];
        assert_eq!(found, want.map(|(head_only, path)| Ok(Asked { head_only, path: path.to_owned() })));
    }

    #[test]
    fn what_is_no_plain_question_is_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        for (request, why) in [
            (&b"PUT /v2/x HTTP/1.1\r\n\r\n"[..], Refusal::Method),
            (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Refusal::Nonsense),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Nonsense),
            (b"\x16\x03\x01\x02\x00\x01\x00", Refusal::Nonsense),
            (b"GET / HTTP/9\r\n\r\n", Refusal::Nonsense),
            (long.as_bytes(), Refusal::Nonsense),
            (many.as_bytes(), Refusal::Nonsense),
        ] {
            assert_eq!(all(request), [Err(why)], "{}", String::from_utf8_lossy(&request[..request.len().min(60)]));
        }
        assert!(all(b"GET / HT").is_empty(), "a request that is cut off is none");
    }
}
