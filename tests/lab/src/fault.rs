//! A TCP proxy that makes a network of loopback: it delays, counts, limits, and does the harm that networks do.
//!
//! ```no_run
//! use charly_lab::fault::{Act, Direction, Fault, Proxy};
//! # fn main() -> std::io::Result<()> {
//! let harm = Fault { direction: Direction::ToClient, at: 1_000, act: Act::Reset };
//! let proxy = Proxy::start("127.0.0.1:22".parse().unwrap())?.with_rtt_ms(50).with_fault(harm);
//! println!("connect to {}", proxy.address());
//! # Ok(())
//! # }
//! ```

mod carry;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A proxy that runs until it is dropped, which resets the connections through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What the proxy's owner and its thread share.
#[derive(Debug, Default)]
struct Shared {
    rtt: Duration,
    /// Bytes a second in each direction.
    bandwidth: Option<u64>,
    faults: Vec<Due>,
    counts: Counts,
    healed: bool,
    over: bool,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who connected.
    ToServer,
    /// To who connected.
    ToClient,
}

/// A fault, and how many bytes of its direction have passed in all when it is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    fault: Fault,
    after: u64,
}

/// Harm that is done once, to the connection that passes the byte it is due at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Whose bytes count.
    pub direction: Direction,
    /// How many bytes pass unharmed from when it is asked for, over all connections together.
    pub at: u64,
    /// What is done.
    pub act: Act,
}

/// What is done to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Both sides are told in good order that no more will come.
    Close,
    /// Both sides are told that the connection is broken.
    Reset,
    /// Nothing passes any more, either way, and nobody is told.
    Stall,
    /// The next byte arrives as another.
    Corrupt,
}

/// What has passed, of all connections together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The connections.
    pub connections: u64,
    /// The bytes to the server.
    pub to_server: u64,
    /// The bytes to the client.
    pub to_client: u64,
    /// How often bytes to the client followed bytes to the server: what an exchange of questions and answers waits for. Streams in both
    /// directions at once count far more than anybody waits.
    pub round_trips: u64,
}

impl Proxy {
    /// Listens on a port of loopback for connections to an address.
    pub fn start(to: SocketAddr) -> io::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), to)
    }

    /// Listens on one address for connections to another.
    pub fn listen(on: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(on)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("fault-proxy".to_owned())
            .spawn(move || carry::run(&listener, &woken, to, &of_thread))?;
        Ok(Self { address, shared, wake, thread: Some(thread) })
    }

    /// Delays bytes by half of so many milliseconds in each direction, and a connection's beginning by all of them.
    #[must_use]
    pub fn with_rtt_ms(self, ms: u32) -> Self {
        self.change(|shared| shared.rtt = Duration::from_millis(ms.into()));
        self
    }

    /// Lets so many bytes a second pass in each direction.
    #[must_use]
    pub fn with_bandwidth(self, bytes: u64) -> Self {
        self.change(|shared| shared.bandwidth = Some(bytes.max(1)));
        self
    }

    /// Does harm, as [`Proxy::harm`] does.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        self.harm(fault);
        self
    }

    /// Does harm once, so many bytes from now; with none to wait for, to a connection that is there.
    pub fn harm(&self, fault: Fault) {
        self.change(|shared| {
            let after = shared.counts.of(fault.direction) + fault.at;
            shared.faults.push(Due { fault, after });
        });
    }

    /// Forgets the harm that was not done yet and lets stalled connections go on.
    pub fn heal(&self) {
        self.change(|shared| {
            shared.faults.clear();
            shared.healed = true;
        });
    }

    /// Returns where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what has passed so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared).counts
    }

    /// Returns the harm that was not done yet.
    pub fn pending(&self) -> Vec<Fault> {
        lock(&self.shared).faults.iter().map(|due| due.fault).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut lock(&self.shared));
        // A full pipe has woken the thread already.
        let _ = (&self.wake).write(&[0]);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|shared| shared.over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// Reads `to-client:reset@1000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no fault such as `to-client:reset@1000`");
        let (direction, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (act, at) = rest.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            direction: match direction {
                "to-server" => Direction::ToServer,
                "to-client" => Direction::ToClient,
                _ => return Err(wrong()),
            },
            act: match act {
                "close" => Act::Close,
                "reset" => Act::Reset,
                "stall" => Act::Stall,
                "corrupt" => Act::Corrupt,
                _ => return Err(wrong()),
            },
            at: at.parse().map_err(|_| wrong())?,
        })
    }
}

impl Counts {
    /// Returns the bytes of one direction.
    fn of(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, to_server, to_client, round_trips } = self;
        write!(
            f,
            "{connections} connections, {to_server} bytes to the server, {to_client} to the client, {round_trips} round trips"
        )
    }
}

/// Locks what is shared. It is whole even if a holder panicked: every change is a single assignment.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
