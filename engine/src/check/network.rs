//! Judges names, addresses and interfaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::Probe;
use super::findings::{Findings, Halt, quote};
use crate::process::Exit;

/// How long one connection may take to be accepted; a cancel waits for it.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) fn addr(probe: &Probe<'_>, address: &str, reachable: Option<bool>) -> Result<Findings, Halt> {
    probe.needs_live("an address")?;
    let Some((host, port)) = split(address) else {
        return Err(Halt::Fail(format!("{} is not `host:port`", quote(address))));
    };
    let addresses = resolve(probe, host)?;
    let mut refusals = Vec::new();
    let accepted = addresses.iter().find(|address| {
        let address = SocketAddr::new(**address, port);
        let attempt = TcpStream::connect_timeout(&address, probe.left().min(CONNECT));
        attempt.map_err(|error| refusals.push(format!("`{address}`: {error}"))).is_ok()
    });
    let mut findings = Findings::default();
    match (accepted, reachable.unwrap_or(true)) {
        (None, true) if addresses.is_empty() => findings.add(format!("{} does not resolve", quote(host))),
        (None, true) => {
            findings.add(format!("wanted a connection to {}, found {}", quote(address), refusals.join(", ")));
        }
        (Some(found), false) => {
            findings.add(format!("wanted no connection to {}, `{found}` accepted one", quote(address)));
        }
        _ => {}
    }
    Ok(findings)
}

/// Splits `host:port`; an IPv6 address stands in brackets.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':'))?,
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    (!host.is_empty() && digits).then(|| Some((host, port.parse().ok()?)))?
}

pub(super) fn dns(
    probe: &Probe<'_>,
    name: &str,
    resolvable: Option<bool>,
    addresses: &[String],
) -> Result<Findings, Halt> {
    probe.needs_live("a name")?;
    let found = resolve(probe, name)?;
    let list = || found.iter().map(|address| format!("`{address}`")).collect::<Vec<_>>().join(", ");
    let mut findings = Findings::default();
    match (found.is_empty(), resolvable.unwrap_or(true)) {
        (true, true) => findings.add(format!("{} does not resolve", quote(name))),
        (false, false) => findings.add(format!("wanted {} not to resolve, found {}", quote(name), list())),
        (true, false) => {}
        (false, true) => {
            let missing: Vec<_> =
                addresses.iter().filter(|wanted| !has_address(&found, wanted)).map(|a| quote(a)).collect();
            if !missing.is_empty() {
                findings.add(format!(
                    "{}: wanted {} among its addresses, found {}",
                    quote(name),
                    missing.join(", "),
                    list()
                ));
            }
        }
    }
    Ok(findings)
}

fn has_address(found: &BTreeSet<IpAddr>, wanted: &str) -> bool {
    wanted.parse::<IpAddr>().is_ok_and(|wanted| found.contains(&wanted.to_canonical()))
}

/// Returns the addresses of a name, as the venue's own programs would see them.
fn resolve(probe: &Probe<'_>, name: &str) -> Result<BTreeSet<IpAddr>, Halt> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok([address.to_canonical()].into());
    }
    if name.is_empty() || name.starts_with('-') || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Halt::Fail(format!("{} is not a name", quote(name))));
    }
    let Some(captured) = probe.tool(&["getent", "ahosts", name])? else {
        return Err(Halt::Skip("`getent` is not on the venue".to_owned()));
    };
    match captured.exit {
        Exit::Status(0) => Ok(parse_ahosts(&captured.stdout.text())),
        Exit::Status(2) => Ok(BTreeSet::new()),
        exit => Err(Halt::Fail(format!("`getent` ended with {exit} for {}", quote(name)))),
    }
}

/// Reads lines of an address, a socket type and perhaps a name. A zone such as `%eth0` is left out.
fn parse_ahosts(text: &str) -> BTreeSet<IpAddr> {
    let first = text.lines().filter_map(|line| line.split_ascii_whitespace().next());
    first.filter_map(|address| address.split('%').next()?.parse::<IpAddr>().ok()).map(|a| a.to_canonical()).collect()
}

pub(super) fn interface(
    probe: &Probe<'_>,
    name: &str,
    exists: Option<bool>,
    addresses: &[String],
    mtu: Option<u32>,
) -> Result<Findings, Halt> {
    probe.needs_live("a network interface")?;
    if name.is_empty()
        || name.len() > 15
        || matches!(name, "." | "..")
        || name.contains(|c: char| c == '/' || c.is_whitespace())
    {
        return Err(Halt::Fail(format!("{} is not an interface's name", quote(name))));
    }
    let folder = PathBuf::from("/sys/class/net").join(name);
    let mut findings = Findings::default();
    match (folder.exists(), exists.unwrap_or(true)) {
        (false, false) => return Ok(findings),
        (true, false) => findings.add(format!("wanted no interface `{name}`, found one")),
        (false, true) => findings.add(format!("wanted an interface `{name}`, found none")),
        (true, true) => {
            if mtu.is_some() {
                let found = std::fs::read_to_string(folder.join("mtu")).ok().and_then(|mtu| mtu.trim().parse().ok());
                findings.equal("mtu", mtu, &found.unwrap_or(0_u32));
            }
            if !addresses.is_empty() {
                judge_addresses(probe, &mut findings, name, addresses)?;
            }
        }
    }
    Ok(findings)
}

fn judge_addresses(probe: &Probe<'_>, findings: &mut Findings, name: &str, wanted: &[String]) -> Result<(), Halt> {
    let Some(captured) = probe.tool(&["ip", "-o", "addr", "show", "dev", name])? else {
        return Err(Halt::Skip(format!("the addresses of `{name}` cannot be told: `ip` is not on the venue")));
    };
    if captured.exit != Exit::Status(0) {
        return Err(Halt::Fail(format!("`ip` ended with {}: {}", captured.exit, quote(captured.stderr.text().trim()))));
    }
    let found = parse_ip(&captured.stdout.text());
    let missing: Vec<_> =
        wanted.iter().filter(|wanted| !is_among(&found, wanted)).map(|wanted| quote(wanted)).collect();
    if !missing.is_empty() {
        findings.add(format!(
            "`{name}`: wanted {} among its addresses, found {}",
            missing.join(", "),
            quote(&found.join(" "))
        ));
    }
    Ok(())
}

/// Reads the addresses, such as `10.0.0.1/24`, from one line for each of them.
fn parse_ip(text: &str) -> Vec<String> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip_while(|word| !matches!(*word, "inet" | "inet6"));
        words.nth(1)
    });
    addresses.map(str::to_owned).collect()
}

/// Tells whether an address is there. Without a prefix length any will do.
fn is_among(found: &[String], wanted: &str) -> bool {
    let parse = |text: &str| {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        Some((address.parse::<IpAddr>().ok()?, length.map(str::to_owned)))
    };
    let Some((address, length)) = parse(wanted) else { return false };
    let mut found = found.iter().filter_map(|found| parse(found));
    found.any(|(found, of)| found == address && (length.is_none() || length == of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, want) in [
            ("127.0.0.1:80", Some(("127.0.0.1", 80))),
            ("[::1]:22", Some(("::1", 22))),
            ("example.org:443", Some(("example.org", 443))),
            ("", None),
            (":80", None),
            ("::1:22", None),
            ("[::1]", None),
            ("[host]:1", None),
            ("h:", None),
            ("h:+1", None),
            ("h:65536", None),
        ] {
            assert_eq!(split(text), want, "{text}");
        }
    }

    #[test]
    fn getents_addresses_are_read() {
        let text = "::1             STREAM localhost\n::1             DGRAM\nfe80::1%2 STREAM\n127.0.0.1 RAW\njunk\n";
        let found = parse_ahosts(text);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1", "::1", "fe80::1"]);
        for (wanted, want) in
            [("127.0.0.1", true), ("::ffff:127.0.0.1", true), ("0:0:0:0:0:0:0:1", true), ("::2", false)]
        {
            assert_eq!(has_address(&found, wanted), want, "{wanted}");
        }
    }

    #[test]
    fn ips_addresses_are_read() {
        let text = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n1: lo    inet6 ::1/128 scope host \\  x\n9: x  link\n";
        let found = parse_ip(text);
        assert_eq!(found, ["127.0.0.1/8", "::1/128"]);
        for (wanted, want) in [
            ("127.0.0.1", true),
            ("127.0.0.1/8", true),
            ("127.0.0.1/16", false),
            ("::1/128", true),
            ("::2", false),
            ("x", false),
        ] {
            assert_eq!(is_among(&found, wanted), want, "{wanted}");
        }
    }
}
