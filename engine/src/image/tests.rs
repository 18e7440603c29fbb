//! The registry, asked by whoever can reach it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use charly_ir::Digest;

use super::registry::{Ask, Held, Registry};

const LAYER: &[u8] = b"all of a layer";

struct Stand {
    registry: Option<Registry>,
    asks: Receiver<Ask>,
    address: String,
    secret: String,
}

fn stand() -> Stand {
    let held = Held {
        manifest: (b"{manifest}".to_vec(), "application/manifest".to_owned()),
        config: b"{config}".to_vec(),
        layers: [(Digest::of(LAYER), LAYER.len() as u64)].into(),
    };
    let (sender, asks) = channel();
    let registry = Registry::start(held, sender).unwrap();
    let location = registry.location();
    let (address, rest) = location.split_once('/').unwrap();
    let secret = rest.strip_suffix("/image").unwrap().to_owned();
    assert_eq!(secret.len(), 32);
    assert!(address.starts_with("127.0.0.1:"));
    Stand { address: address.to_owned(), secret, registry: Some(registry), asks }
}

impl Stand {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// Says something, and hears all of the answer.
    fn say(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut heard = Vec::new();
        // What is refused before all of it was read ends in a reset.
        let _ = stream.read_to_end(&mut heard);
        String::from_utf8(heard).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }
}

#[test]
fn it_holds_one_image() {
    let stand = stand();
    let (secret, manifest, config) = (&stand.secret, Digest::of(b"{manifest}"), Digest::of(b"{config}"));
    assert!(stand.get("/v2/").starts_with("HTTP/1.1 200 "));
    let found = stand.get(&format!("/v2/{secret}/image/manifests/sha256:{manifest}"));
    assert!(
        found.contains("Content-Type: application/manifest\r\n") && found.ends_with("\r\n\r\n{manifest}"),
        "{found}"
    );
    let found = stand.get(&format!("/v2/{secret}/image/blobs/sha256:{config}"));
    assert!(found.ends_with("\r\n\r\n{config}"), "{found}");
    let head = stand.say(&format!("HEAD /v2/{secret}/image/blobs/sha256:{} HTTP/1.1\r\n\r\n", Digest::of(LAYER)));
    assert!(head.contains("Content-Length: 14\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(stand.asks.try_recv().is_err(), "a head needs no bytes");
}

#[test]
fn it_says_nothing_to_whoever_does_not_know_where() {
    let stand = stand();
    let (secret, manifest) = (&stand.secret, Digest::of(b"{manifest}"));
    let guess = "0".repeat(32);
    for path in [
        format!("/v2/{guess}/image/manifests/sha256:{manifest}"),
        format!("/v2//image/manifests/sha256:{manifest}"),
        format!("/v2/image/manifests/sha256:{manifest}"),
        format!("/v2/{secret}/image/manifests/latest"),
        format!("/v2/{secret}/image/manifests/sha256:{}", Digest::of(b"other")),
        format!("/v2/{secret}/image/blobs/sha256:{manifest}"),
        format!("/v2/{secret}/image/blobs/sha256:{}/../x", Digest::of(LAYER)),
        format!("/v2/{secret}/image/tags/list"),
        format!("/v2/{secret}/other/blobs/sha256:{}", Digest::of(LAYER)),
        "/v2/_catalog".to_owned(),
        "/".to_owned(),
        "/v2".to_owned(),
        "http://elsewhere/v2/".to_owned(),
    ] {
        let found = stand.get(&path);
        assert!(found.starts_with("HTTP/1.1 404 ") && !found.contains("manifest"), "{path}: {found}");
    }
    for (said, want) in [
        (format!("PUT /v2/{secret}/image/manifests/x HTTP/1.1\r\n\r\n"), "405"),
        (format!("DELETE /v2/{secret}/image/manifests/sha256:{manifest} HTTP/1.1\r\n\r\n"), "405"),
        (format!("POST /v2/{secret}/image/blobs/uploads/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let found = stand.say(&said);
        assert!(found.starts_with(&format!("HTTP/1.1 {want} ")), "{said:.60}: {found}");
    }
    let found = stand.say(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)));
    assert!(found.is_empty() || found.starts_with("HTTP/1.1 400 "), "{found}");
    assert!(stand.asks.try_recv().is_err());
}

#[test]
fn a_layer_comes_from_whoever_is_asked_for_it() {
    let stand = stand();
    let layer = Digest::of(LAYER);
    let mut stream = stand.connect();
    let ask = format!("GET /v2/{}/image/blobs/sha256:{layer} HTTP/1.1\r\n\r\n", stand.secret);
    stream.write_all(ask.as_bytes()).unwrap();
    let asked = stand.asks.recv().unwrap();
    assert_eq!(asked.layer, layer);
    for piece in LAYER.chunks(4) {
        asked.sink.send(piece.to_vec()).unwrap();
    }
    drop(asked);
    // The same connection takes the next question.
    stream.write_all(ask.as_bytes()).unwrap();
    let asked = stand.asks.recv().unwrap();
    asked.sink.send(LAYER[..3].to_vec()).unwrap();
    drop(asked);
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    let bodies: Vec<_> = heard.split("\r\n\r\n").collect();
    assert!(bodies[1].starts_with("all of a layerHTTP/1.1 200 OK"), "{heard}");
    assert_eq!(bodies[2], "all", "what breaks off ends the connection");
}

#[test]
fn it_ends_with_its_owner_whatever_is_under_way() {
    let mut stand = stand();
    let mut idle = stand.connect();
    let mut waiting = stand.connect();
    let ask = format!("GET /v2/{}/image/blobs/sha256:{} HTTP/1.1\r\n\r\n", stand.secret, Digest::of(LAYER));
    waiting.write_all(ask.as_bytes()).unwrap();
    let asked = stand.asks.recv().unwrap();
    drop(stand.registry.take());
    assert_eq!(idle.read(&mut [0; 10]).unwrap_or(0), 0);
    let _ = waiting.read_to_end(&mut Vec::new());
    assert!(TcpStream::connect(&stand.address).is_err());
    drop(asked);
}
