//! Whatever answers at a port, a connection to it comes about or ends in an error, in time.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, Auth, VerifiedPublicKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::ssh::{IdentityFile, Limits, Wishes};

/// How long anything is waited for in these tests.
const PATIENCE: Duration = Duration::from_millis(400);

fn settings() -> Settings {
    let nothing = std::collections::BTreeMap::new;
    Settings {
        local_user: "me".into(),
        local_uid: 1000,
        home: "/nonexistent".into(),
        environment: nothing(),
        config_files: Vec::new(),
        agent: None,
        asker: Arc::new(Nobody),
        unlocked: Unlocked::default(),
        wishes: Wishes::default(),
        limits: Limits { connect: PATIENCE, answer: PATIENCE, ..Limits::default() },
    }
}

fn hop(at: SocketAddr, identity: Option<PathBuf>, known_hosts: Option<PathBuf>) -> Hop {
    Hop {
        host: at.ip().to_string(),
        port: at.port(),
        user: "me".into(),
        alias: None,
        identities: identity.into_iter().map(|file| IdentityFile { file, required: true }).collect(),
        identities_only: true,
        agent: None,
        known_hosts: known_hosts.into_iter().collect(),
        known_hosts_required: false,
        connect_timeout: None,
        behind: None,
    }
}

/// Connects to a server that says something once, and perhaps no more.
fn connect_to(says: Vec<u8>, then: Then) -> ConnectError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            loop {
                if socket.write_all(&says).await.is_err() {
                    return;
                }
                match then {
                    Then::Again => {}
                    Then::Silence => {
                        // What is said to it is read, as by somebody who thinks about it.
                        while socket.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
                        return;
                    }
                    Then::End => return,
                }
            }
        });
        let began = Instant::now();
        let error = Connection::open(&[hop(at, None, None)], &settings()).await.unwrap_err();
        assert!(began.elapsed() < PATIENCE * 20, "{error} after {:?}", began.elapsed());
        error
    })
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Again,
    Silence,
    End,
}

#[test]
fn whoever_is_no_ssh_server_is_left_in_time() {
    let greeting = |rest: &[u8]| [b"SSH-2.0-x\r\n".as_slice(), rest].concat();
    for (says, then) in [
        (Vec::new(), Then::Silence),
        (Vec::new(), Then::End),
        (b"welcome\r\n".to_vec(), Then::Again),
        (vec![b'x'; 70_000], Then::Again),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Then::End),
        (greeting(b""), Then::Silence),
        (greeting(&[0xff; 4]), Then::Silence),
        (greeting(&[0xff; 64]), Then::Again),
        (greeting(&[0, 0, 0, 1, 0]), Then::Silence),
        (greeting(&[0, 0, 0, 12, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Then::Silence),
    ] {
        let error = connect_to(says.clone(), then);
        let is_fit =
            matches!(error, ConnectError::Slow { .. } | ConnectError::Handshake { .. } | ConnectError::Connect { .. });
        assert!(is_fit, "{:?} {then:?}: {error:?}", &says[..says.len().min(40)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_bring_the_library_down(rest in proptest::collection::vec(any::<u8>(), 0..600)) {
        connect_to([b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), &rest].concat(), Then::End);
    }
}

/// A server that proves to be the right machine, and never says whether it lets anybody in.
struct Undecided;

impl server::Handler for Undecided {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        pending().await
    }
}

#[test]
fn whoever_never_decides_is_left_in_time() {
    let key = |seed: u8| PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    let folder = tempfile::tempdir().unwrap();
    let (identity, known) = (folder.path().join("id"), folder.path().join("known"));
    let line_ending = russh::keys::ssh_key::LineEnding::LF;
    std::fs::write(&identity, key(1).to_openssh(line_ending).unwrap().as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let line = format!("[127.0.0.1]:{} {}\n", at.port(), key(2).public_key().to_openssh().unwrap());
        std::fs::write(&known, line).unwrap();
        let config = Arc::new(server::Config { keys: vec![key(2)], ..server::Config::default() });
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let session = server::run_stream(config, socket, Undecided).await.unwrap();
            session.await.ok();
        });
        Connection::open(&[hop(at, Some(identity), Some(known))], &settings()).await.unwrap_err()
    });
    assert!(matches!(&error, ConnectError::Slow { what: "say whether it lets us in", .. }), "{error:?}");
}
