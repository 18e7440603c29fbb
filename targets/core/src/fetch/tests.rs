//! Fetching from a small server that misbehaves on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use charly_ir::Digest;

use super::{FetchError, Fetched, Fetcher};
use crate::Interrupts;

/// Answers one request after the other from a list, and remembers what was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Status and headers, body.
type Answer = (&'static str, Vec<u8>);

impl Server {
    fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (head, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(&stream).lines();
                let request: Vec<_> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let telling = ["range:", "if-range:", "if-none-match:"];
                let told = request.iter().map(|line| line.to_lowercase());
                let told: Vec<_> = told.filter(|line| telling.iter().any(|name| line.starts_with(name))).collect();
                log.lock().unwrap().push(told.join(" "));
                write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn fetcher(folder: &Path) -> Fetcher {
    let agent = ureq::Agent::config_builder().proxy(None).build().into();
    Fetcher::new(folder.to_path_buf(), agent, Interrupts::default(), |_, _| {})
}

fn bytes(fetched: &Fetched) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(&fetched.path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_transfer_that_breaks_off_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![
        ("200 OK\r\nContent-Length: 10\r\nETag: \"one\"", b"01234".to_vec()),
        ("206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/10\r\nETag: \"one\"", b"56789".to_vec()),
    ]);
    let want = Digest::of(b"0123456789");
    let fetched = fetcher(folder.path()).fetch(&server.url, Some(want)).unwrap();
    assert_eq!(bytes(&fetched), b"0123456789");
    assert_eq!(server.asked(), ["", "range: bytes=5- if-range: \"one\""]);
    // Nobody is asked again: the server has no further answer.
    assert_eq!(fetcher(folder.path()).fetch(&server.url, Some(want)).unwrap(), fetched);
}

#[test]
fn a_beginning_of_another_version_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![
        ("200 OK\r\nContent-Length: 10\r\nETag: \"one\"", b"01234".to_vec()),
        ("200 OK\r\nContent-Length: 3\r\nETag: \"two\"", b"abc".to_vec()),
    ]);
    let fetched = fetcher(folder.path()).fetch(&server.url, None).unwrap();
    assert_eq!(bytes(&fetched), b"abc");

    // A server that continues with other bytes than it began with is asked once more, from the first byte.
    let server = Server::new(vec![
        ("200 OK\r\nContent-Length: 6\r\nETag: \"same\"", b"abc".to_vec()),
        ("206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 3-5/6\r\nETag: \"same\"", b"xyz".to_vec()),
        ("200 OK\r\nContent-Length: 6\r\nETag: \"same\"", b"uvwxyz".to_vec()),
    ]);
    let fetched = fetcher(folder.path()).fetch(&server.url, Some(Digest::of(b"uvwxyz"))).unwrap();
    assert_eq!(bytes(&fetched), b"uvwxyz");
}

#[test]
fn without_a_digest_the_server_is_asked_whether_there_is_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![
        ("200 OK\r\nContent-Length: 3\r\nETag: \"one\"", b"old".to_vec()),
        ("304 Not Modified", vec![]),
        ("200 OK\r\nContent-Length: 3\r\nETag: \"two\"", b"new".to_vec()),
    ]);
    for want in [b"old", b"old", b"new"] {
        assert_eq!(bytes(&fetcher(folder.path()).fetch(&server.url, None).unwrap()), want);
    }
    assert_eq!(server.asked(), ["", "if-none-match: \"one\"", "if-none-match: \"one\""]);
}

#[test]
fn where_the_server_is_gone_the_copy_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![("200 OK\r\nContent-Length: 3", b"abc".to_vec())]);
    let fetched = fetcher(folder.path()).fetch(&server.url, None).unwrap();
    assert_eq!(fetcher(folder.path()).fetch(&server.url, None).unwrap(), fetched);
    assert_eq!(server.asked(), [""]);
}

#[test]
fn other_bytes_than_asked_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![("200 OK\r\nContent-Length: 3", b"abc".to_vec()); 1]);
    let error = fetcher(folder.path()).fetch(&server.url, Some(Digest::of(b"xyz"))).unwrap_err();
    assert!(matches!(error, FetchError::Digest { got, .. } if got == Digest::of(b"abc")), "{error}");
    let server = Server::new(vec![("404 Not Found\r\nContent-Length: 0", vec![])]);
    let error = fetcher(folder.path()).fetch(&server.url, None).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` answers with status 404", server.url));
    let error = fetcher(folder.path()).fetch("ftp://x/y", None).unwrap_err();
    assert_eq!(error.to_string(), "`ftp://x/y` is no http, https or file URL");
}

#[test]
fn a_damaged_cache_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::write(&source, "content").unwrap();
    let url = format!("file://{}", source.display());
    let want = Some(Digest::of(b"content"));
    let fetched = fetcher(folder.path()).fetch(&url, want).unwrap();
    std::fs::write(&fetched.path, "tampered").unwrap();
    assert_eq!(bytes(&fetcher(folder.path()).fetch(&url, want).unwrap()), b"content");
}

#[test]
fn an_interrupt_ends_a_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(vec![("200 OK\r\nContent-Length: 3", b"abc".to_vec())]);
    let interrupts = Interrupts::default();
    interrupts.raise();
    let agent = ureq::Agent::config_builder().proxy(None).build().into();
    let mut fetcher = Fetcher::new(folder.path().to_path_buf(), agent, interrupts, |_, _| {});
    assert!(matches!(fetcher.fetch(&server.url, None), Err(FetchError::Interrupted)));
}
