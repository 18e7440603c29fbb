//! The proxy's thread: one loop carries all connections, so that a connection's end is one thread's decision and in order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Act, Direction, Due, Shared, lock};

/// How many bytes may be on their way in one direction; what a fast network with a long way holds.
const IN_FLIGHT: usize = 16 << 20;
const CHUNK: usize = 64 << 10;
/// How long a server may take to answer a connection. It is near: the network between is ours to make.
const CONNECT: Duration = Duration::from_secs(5);

/// Carries connections until the proxy is over.
pub(super) fn run(listener: &TcpListener, woken: &UnixStream, to: SocketAddr, shared: &Mutex<Shared>) {
    let mut connections: Vec<Connection> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let now = Instant::now();
        {
            let mut shared = lock(shared);
            if shared.over {
                connections.iter().for_each(Connection::reset_on_close);
                return;
            }
            let healed = std::mem::take(&mut shared.healed);
            for connection in &mut connections {
                connection.stalled &= !healed;
                connection.advance(now, to, &mut shared);
            }
        }
        connections.retain(|connection| !connection.over);

        let mut asked = vec![PollFd::new(woken, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        let mut whose = Vec::new();
        for (index, connection) in connections.iter().enumerate() {
            for (direction, events) in connection.interests(now) {
                if let Some(socket) = connection.source(direction).filter(|_| !events.is_empty()) {
                    asked.push(PollFd::new(socket, events));
                    whose.push((index, direction, events.contains(PollFlags::IN)));
                }
            }
        }
        let until = connections.iter().filter_map(|connection| connection.next_event(now)).min();
        let wait = until.map(|until| until.saturating_duration_since(now)).map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        if poll(&mut asked, wait.as_ref()).is_err() {
            continue;
        }
        let [is_woken, is_asked] = [0, 1].map(|index: usize| !asked[index].revents().is_empty());
        let ready: Vec<_> = asked[2..].iter().zip(whose).map(|(asked, whose)| (asked.revents(), whose)).collect();
        if is_woken {
            let _ = (&*woken).read(&mut [0; 64]);
        }
        let now = Instant::now();
        let mut shared = lock(shared);
        for (events, (index, direction, to_read)) in ready {
            // A hang-up shows whatever was asked for; who is not read from yet is found gone when it is.
            if to_read && events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                connections[index].receive(direction, now, &mut shared, &mut buffer);
            }
        }
        if is_asked && let Ok((client, _)) = listener.accept() {
            shared.counts.connections += 1;
            connections.extend(Connection::new(client, now + shared.rtt));
        }
    }
}

/// A connection, and the one to the server that continues it.
struct Connection {
    client: TcpStream,
    server: Option<TcpStream>,
    /// When the server hears of the connection.
    begins: Instant,
    ways: [Way; 2],
    last: Option<Direction>,
    stalled: bool,
    cut: Option<(Instant, Act)>,
    /// Whether both sides were told that no more comes; what they still say is read and dropped, or closing would reset.
    closed: bool,
    over: bool,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    /// What is on its way, and when it arrives.
    queue: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    /// When the line can take more.
    free: Option<Instant>,
    /// When the sender's end arrives.
    end: Option<Instant>,
    ended: bool,
    blocked: bool,
}

impl Connection {
    fn new(client: TcpStream, begins: Instant) -> io::Result<Self> {
        prepare(&client)?;
        Ok(Self {
            client,
            server: None,
            begins,
            ways: <[Way; 2]>::default(),
            last: None,
            stalled: false,
            cut: None,
            closed: false,
            over: false,
        })
    }

    /// Does what is due.
    fn advance(&mut self, now: Instant, to: SocketAddr, shared: &mut Shared) {
        if self.server.is_none() {
            if now < self.begins {
                return;
            }
            let server = TcpStream::connect_timeout(&to, CONNECT).and_then(|server| prepare(&server).map(|()| server));
            match server {
                Ok(server) => self.server = Some(server),
                Err(_) => return self.reset(),
            }
        }
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.harm(direction, now, shared);
            if self.deliver(direction, now).is_err() {
                return self.reset();
            }
        }
        match self.cut {
            Some((due, Act::Reset)) if due <= now => self.reset(),
            Some((due, _)) if due <= now && !self.closed && self.ways.iter().all(|way| way.queue.is_empty()) => {
                self.closed = true;
                for socket in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            _ => {}
        }
        self.over |= self.ways.iter().all(|way| way.ended);
    }

    /// Does the harm that is due after the bytes that have passed.
    fn harm(&mut self, direction: Direction, now: Instant, shared: &mut Shared) {
        let passed = shared.counts.of(direction);
        let due =
            |Due { fault, after }: &Due| fault.direction == direction && *after <= passed && fault.act != Act::Corrupt;
        while self.cut.is_none()
            && !self.stalled
            && let Some(index) = shared.faults.iter().position(due)
        {
            match shared.faults.remove(index).fault.act {
                Act::Stall => self.stalled = true,
                act => self.cut = Some((now + shared.rtt / 2, act)),
            }
        }
    }

    /// Hands over what has arrived.
    fn deliver(&mut self, direction: Direction, now: Instant) -> io::Result<()> {
        let Some(mut to) = self.target(direction).map(TcpStream::try_clone).transpose()? else { return Ok(()) };
        let way = &mut self.ways[direction as usize];
        way.blocked = false;
        while let Some((_, bytes)) = way.queue.front_mut().filter(|(due, _)| *due <= now) {
            match to.write(bytes) {
                Ok(written) => {
                    way.in_flight -= written;
                    bytes.drain(..written);
                    if bytes.is_empty() {
                        way.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    way.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if way.queue.is_empty() && !way.ended && way.end.is_some_and(|end| end <= now) {
            way.ended = true;
            // Who is gone already needs no telling.
            let _ = to.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Takes what a side has sent.
    fn receive(&mut self, direction: Direction, now: Instant, shared: &mut Shared, buffer: &mut [u8]) {
        let arrives = now + shared.rtt / 2;
        let passed = shared.counts.of(direction);
        let next =
            |Due { fault, after }: &Due| fault.direction == direction && *after > passed && fault.act != Act::Corrupt;
        let mut most = buffer.len() as u64;
        if let Some(bandwidth) = shared.bandwidth {
            // A hundredth of a second at once looks like a steady flow.
            most = most.min((bandwidth / 100).max(1));
        }
        if let Some(after) = shared.faults.iter().copied().filter(next).map(|due| due.after).min() {
            most = most.min(after - passed);
        }
        let buffer = &mut buffer[..usize::try_from(most).unwrap_or(CHUNK)];
        let Some(mut source) = self.source(direction) else { return };
        let read = source.read(buffer);
        let way = &mut self.ways[direction as usize];
        let count = match read {
            Ok(0) => {
                way.end = Some(arrives);
                way.ended |= self.closed;
                return;
            }
            Ok(_) if self.closed => return,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => {
                // The other side hears of a broken connection as late as of anything else.
                self.cut = Some((if self.closed { now } else { arrives }, Act::Reset));
                return;
            }
        };
        let bytes = &mut buffer[..count];
        shared.faults.retain(|Due { fault, after }| {
            let index = after.checked_sub(passed).and_then(|index| usize::try_from(index).ok());
            let hit = (fault.act == Act::Corrupt && fault.direction == direction).then_some(index).flatten();
            let Some(byte) = hit.and_then(|index| bytes.get_mut(index)) else { return true };
            *byte = !*byte;
            false
        });
        let count = count as u64;
        let mut free = now;
        if let Some(bandwidth) = shared.bandwidth {
            let takes = Duration::from_nanos(count.saturating_mul(1_000_000_000) / bandwidth);
            free = way.free.unwrap_or(now).max(now) + takes;
            way.free = Some(free);
        }
        way.in_flight += bytes.len();
        way.queue.push_back((free + shared.rtt / 2, bytes.to_vec()));
        match direction {
            Direction::ToServer => shared.counts.to_server += count,
            Direction::ToClient => shared.counts.to_client += count,
        }
        shared.counts.round_trips +=
            u64::from(self.last == Some(Direction::ToServer) && direction == Direction::ToClient);
        self.last = Some(direction);
        self.harm(direction, now, shared);
    }

    /// Returns, by the direction whose source it is, what a socket is waited for.
    fn interests(&self, now: Instant) -> [(Direction, PollFlags); 2] {
        let readable = |direction: Direction| {
            let way = &self.ways[direction as usize];
            let open = self.server.is_some() && way.end.is_none() && !self.stalled;
            let room = way.in_flight < IN_FLIGHT && way.free.is_none_or(|free| free <= now);
            if open && (self.closed || room && self.cut.is_none()) { PollFlags::IN } else { PollFlags::empty() }
        };
        let writable = |direction: Direction| {
            if self.ways[direction as usize].blocked { PollFlags::OUT } else { PollFlags::empty() }
        };
        [
            (Direction::ToServer, readable(Direction::ToServer) | writable(Direction::ToClient)),
            (Direction::ToClient, readable(Direction::ToClient) | writable(Direction::ToServer)),
        ]
    }

    /// Returns when something is due that no socket tells of.
    fn next_event(&self, now: Instant) -> Option<Instant> {
        let begins = self.server.is_none().then_some(self.begins);
        let cut = self.cut.filter(|_| !self.closed).map(|(due, _)| due);
        let of_ways = self.ways.iter().flat_map(|way| {
            let first = way.queue.front().map(|(due, _)| *due).filter(|_| !way.blocked);
            let end = way.end.filter(|_| !way.ended && way.queue.is_empty());
            [first, end, way.free.filter(|free| *free > now)]
        });
        // A cut that is due waits for a blocked reader, of whom the socket tells.
        let cut = cut.filter(|due| *due > now || self.ways.iter().all(|way| way.queue.is_empty()));
        of_ways.chain([begins, cut]).flatten().min()
    }

    fn source(&self, direction: Direction) -> Option<&TcpStream> {
        match direction {
            Direction::ToServer => Some(&self.client),
            Direction::ToClient => self.server.as_ref(),
        }
    }

    fn target(&self, direction: Direction) -> Option<&TcpStream> {
        match direction {
            Direction::ToServer => self.server.as_ref(),
            Direction::ToClient => Some(&self.client),
        }
    }

    fn reset(&mut self) {
        self.reset_on_close();
        self.over = true;
    }

    /// Sees to it that closing tells both sides of a broken connection.
    fn reset_on_close(&self) {
        for socket in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)
}
