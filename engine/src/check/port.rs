//! Looks for listeners in the kernel's tables.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use charly_ir::check::Protocol;

use super::Probe;
use super::findings::{Findings, Halt, quote};

pub(super) fn evaluate(
    probe: &Probe<'_>,
    port: u16,
    protocol: Protocol,
    listening: Option<bool>,
    address: Option<&str>,
) -> Result<Findings, Halt> {
    probe.needs_live("a port")?;
    let wanted = address.map(Address::parse).transpose()?;
    let name = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let found: Vec<IpAddr> = listeners(name)
        .map_err(|error| Halt::Fail(format!("cannot read the kernel's table of {name} sockets: {error}")))?
        .into_iter()
        .filter(|listener| listener.port() == port)
        .map(|listener| listener.ip())
        .collect();
    let fits = found.iter().any(|found| wanted.as_ref().is_none_or(|wanted| wanted.fits(*found)));
    let mut findings = Findings::default();
    if fits != listening.unwrap_or(true) {
        let place = address.map(|address| format!(" on {}", quote(address))).unwrap_or_default();
        let wanted = if fits { "nothing listening" } else { "something listening" };
        findings.add(format!("wanted {wanted} at {name} port {port}{place}, found {}", list(&found)));
    }
    Ok(findings)
}

fn list(found: &[IpAddr]) -> String {
    let all: Vec<_> = found.iter().map(|address| format!("`{address}`")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A local address as authors write it.
enum Address {
    Any,
    Loopback,
    Exactly(IpAddr),
}

impl Address {
    fn parse(text: &str) -> Result<Self, Halt> {
        match text {
            "*" => Ok(Self::Any),
            "localhost" => Ok(Self::Loopback),
            text => match text.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(address) => Ok(Self::Exactly(address)),
                Err(_) => Err(Halt::Fail(format!("{} is not a local address", quote(text)))),
            },
        }
    }

    fn fits(&self, found: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => found.is_loopback(),
            // A listener on all IPv6 addresses takes IPv4 as well, unless told otherwise, which the table does not say.
            Self::Exactly(wanted) if *wanted == Ipv4Addr::UNSPECIFIED => found.is_unspecified(),
            Self::Exactly(wanted) => found == *wanted,
        }
    }
}

/// Returns the addresses on which something listens.
fn listeners(protocol: &str) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for family in ["", "6"] {
        match fs::read_to_string(format!("/proc/net/{protocol}{family}")) {
            Ok(table) => found.extend(parse_table(&table, protocol == "tcp")),
            // A kernel without IPv6.
            Err(error) if family == "6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads a table. A TCP socket listens in state 0A; a UDP socket takes from anybody in state 07.
fn parse_table(table: &str, tcp: bool) -> impl Iterator<Item = SocketAddr> {
    let listening = if tcp { "0A" } else { "07" };
    table.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        (state == listening).then(|| parse_address(local)).flatten()
    })
}

/// Reads an address such as `0100007F:1F90`: words of four bytes, each in the machine's own order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
             2: 0100007F:0035 0100007F:9999 01 00000000:00000000\n\
             3: 00000000000000000000000001000000:0050 0:0 0A x\n\
             4: 0000000000000000FFFF00000100007F:0051 0:0 0A x\n\
             5: 00000000:0044 00000000:0000 07 x\n junk\n";
        let show = |tcp| parse_table(table, tcp).map(|found| found.to_string()).collect::<Vec<_>>();
        assert_eq!(show(true), ["127.0.0.1:8080", "0.0.0.0:22", "[::1]:80", "127.0.0.1:81"]);
        assert_eq!(show(false), ["0.0.0.0:68"]);
        for text in ["", ":", "0100007F", "0100007F:", "1:1", "0100007é:0050", "zz00007F:0050"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_fits_itself_and_what_includes_it() {
        for (wanted, found, want) in [
            ("*", "10.0.0.1", true),
            ("localhost", "::1", true),
            ("localhost", "0.0.0.0", false),
            ("0.0.0.0", "::", true),
            ("0.0.0.0", "127.0.0.1", false),
            ("127.0.0.1", "0.0.0.0", false),
            ("[::1]", "::1", true),
        ] {
            let Ok(address) = Address::parse(wanted) else { panic!("{wanted}") };
            assert_eq!(address.fits(found.parse().unwrap()), want, "{wanted} {found}");
        }
        assert!(Address::parse("example.org").is_err());
    }
}
