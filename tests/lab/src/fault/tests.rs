//! A server that answers, and what a network in between does to it.

use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use std::io::Read;

/// Starts a server that sends back what it gets, and that tells how each connection ended for it.
fn echo() -> (SocketAddr, mpsc::Receiver<io::Result<u64>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let tell = tell.clone();
            thread::spawn(move || {
                let ended = io::copy(&mut socket.try_clone().unwrap(), &mut socket);
                let _ = tell.send(ended);
            });
        }
    });
    (address, told)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).unwrap();
    // No test waits so long; one that goes wrong shall end.
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// Sends bytes from beside the reading and returns what comes back until the end, and the end.
fn exchange(socket: &mut TcpStream, bytes: Vec<u8>) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut sender = socket.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let _ = sender.write_all(&bytes);
        let _ = sender.shutdown(std::net::Shutdown::Write);
    });
    let mut back = Vec::new();
    let end = socket.read_to_end(&mut back).err().map(|error| error.kind());
    sending.join().unwrap();
    (back, end)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250u8).cycle().take(length).collect()
}

fn fault(direction: Direction, at: u64, act: Act) -> Fault {
    Fault { direction, at, act }
}

#[test]
fn bytes_pass_unharmed_and_counted() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let bytes = pattern(3_000_000);
    assert_eq!(exchange(&mut connect(&proxy), bytes.clone()), (bytes, None));
    assert_eq!(told.recv().unwrap().unwrap(), 3_000_000);
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.to_server, counts.to_client), (1, 3_000_000, 3_000_000));
}

#[test]
fn questions_wait_for_their_answers() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap().with_rtt_ms(20);
    let mut socket = connect(&proxy);
    let start = Instant::now();
    for _ in 0..5 {
        socket.write_all(b"question").unwrap();
        socket.read_exact(&mut [0; 8]).unwrap();
    }
    // Five questions, and the connection itself.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(120), "{took:?}");
    assert_eq!(proxy.counts(), Counts { connections: 1, to_server: 40, to_client: 40, round_trips: 5 });
    assert_eq!(proxy.counts().to_string(), "1 connections, 40 bytes to the server, 40 to the client, 5 round trips");
}

#[test]
fn bandwidth_is_limited() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap().with_bandwidth(1_000_000);
    let start = Instant::now();
    let bytes = pattern(200_000);
    assert_eq!(exchange(&mut connect(&proxy), bytes.clone()), (bytes, None));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
}

#[test]
fn connections_end_at_the_byte_that_was_asked_for() {
    for (direction, at, act, expected) in [
        (Direction::ToClient, 0, Act::Close, None),
        (Direction::ToClient, 70_001, Act::Close, None),
        (Direction::ToClient, 70_001, Act::Reset, Some(io::ErrorKind::ConnectionReset)),
        (Direction::ToClient, 100_000, Act::Close, None),
    ] {
        let (server, _told) = echo();
        let proxy = Proxy::start(server).unwrap().with_fault(fault(direction, at, act));
        let (back, end) = exchange(&mut connect(&proxy), pattern(100_000));
        assert_eq!((back.len() as u64, end), (at, expected), "{direction:?} {at} {act:?}");
        assert_eq!(back, pattern(back.len()));
        assert_eq!(proxy.pending(), []);
        // The harm is done; the next connection is whole.
        assert_eq!(exchange(&mut connect(&proxy), pattern(100_000)), (pattern(100_000), None));
    }
}

#[test]
fn the_server_hears_of_the_end_as_well() {
    for (act, expected) in [(Act::Close, Ok(10)), (Act::Reset, Err(io::ErrorKind::ConnectionReset))] {
        let (server, told) = echo();
        let proxy = Proxy::start(server).unwrap().with_fault(fault(Direction::ToServer, 10, act));
        let mut socket = connect(&proxy);
        socket.write_all(&pattern(20)).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
        assert_eq!(told.recv().unwrap().map_err(|error| error.kind()), expected, "{act:?}");
        assert_eq!(proxy.counts().to_server, 10);
    }
}

#[test]
fn a_client_that_breaks_off_breaks_the_servers_connection() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut socket = connect(&proxy);
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
    assert_eq!(told.recv().unwrap().map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_stalled_connection_says_nothing_until_it_is_healed() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap().with_fault(fault(Direction::ToClient, 1_000, Act::Stall));
    let mut socket = connect(&proxy);
    socket.write_all(&pattern(3_000)).unwrap();
    let mut back = vec![0; 1_000];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(back, pattern(1_000));
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(socket.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    // Another connection is not concerned.
    assert_eq!(exchange(&mut connect(&proxy), pattern(9)), (pattern(9), None));
    proxy.heal();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = vec![0; 2_000];
    socket.read_exact(&mut rest).unwrap();
    assert_eq!([back, rest].concat(), pattern(3_000));
}

#[test]
fn harm_comes_to_connections_that_are_there() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut socket = connect(&proxy);
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    proxy.harm(fault(Direction::ToServer, 0, Act::Reset));
    assert_eq!(socket.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn one_byte_is_corrupted() {
    let (server, _told) = echo();
    let proxy = Proxy::start(server).unwrap().with_fault(fault(Direction::ToServer, 70_000, Act::Corrupt));
    let (back, end) = exchange(&mut connect(&proxy), pattern(100_000));
    let differing: Vec<_> =
        back.iter().zip(pattern(100_000)).enumerate().filter(|(_, (is, was))| *is != was).map(|(at, _)| at).collect();
    assert_eq!((back.len(), end, differing), (100_000, None, vec![70_000]));
}

#[test]
fn nobody_behind_the_proxy_is_a_broken_connection() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(closed).unwrap();
    let mut socket = connect(&proxy);
    assert_eq!(socket.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn the_end_of_the_proxy_ends_its_connections() {
    let (server, told) = echo();
    let proxy = Proxy::start(server).unwrap();
    let mut socket = connect(&proxy);
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    drop(proxy);
    assert_eq!(socket.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    assert!(told.recv().unwrap().is_err());
}

#[test]
fn faults_are_written_as_text() {
    assert_eq!("to-client:reset@1000".parse(), Ok(fault(Direction::ToClient, 1000, Act::Reset)));
    assert_eq!("to-server:stall@0".parse(), Ok(fault(Direction::ToServer, 0, Act::Stall)));
    for text in ["", "reset@1", "to-client:reset", "to-client:burn@1", "to-nobody:reset@1", "to-client:reset@-1"] {
        assert!(text.parse::<Fault>().is_err(), "{text}");
    }
}
