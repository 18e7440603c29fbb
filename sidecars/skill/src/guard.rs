//! Which requests are heard at all: checks of the head, before anything of the body is read.
//!
//! A loopback address is no authentication: every web page that a browser on this machine shows can send requests to
//! it, directly or through a name that its server rebinds to 127.0.0.1. A rebound request carries the attacker's name in
//! `Host`; a direct one carries `Origin` or `Sec-Fetch-Site`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, request::Parts, uri::Authority};

use crate::refusal::Refusal;

const TOKEN: HeaderName = HeaderName::from_static("x-skill-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Holds which hosts and origins are ours.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Whether only this machine can reach the server; then only its own addresses may be named.
    pub(crate) local: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
}

impl Guard {
    /// Checks where a request says it goes to and comes from.
    pub(crate) fn check(&self, head: &Parts) -> Result<(), Refusal> {
        self.check_host(&head.uri, &head.headers)?;
        self.check_origin(&head.headers)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let named = single(headers, &header::HOST)?;
        let in_header = named.map(|value| value.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@')));
        // `GET http://name/path` names the host twice.
        let all_ours = [in_header, uri.authority().cloned().map(Some)]
            .into_iter()
            .flatten()
            .map(|host| host.is_some_and(|host| has_plain_port(&host) && self.is_ours(host.host())))
            .reduce(|first, second| first && second);
        match all_ours {
            Some(true) => Ok(()),
            None => Err(Refusal::new(StatusCode::BAD_REQUEST, "the request has no `Host`")),
            Some(false) => Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "the request is for another host")
                .with_hint("start the server with `--allow-host` and this name, if it is the server's")),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            // An address cannot be rebound. Probes of a server that listens on every interface name the pod's.
            Ok(address) => !self.local || address.is_loopback(),
            Err(_) => {
                host.eq_ignore_ascii_case("localhost")
                    || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            }
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = || Err(Refusal::new(StatusCode::FORBIDDEN, "the request comes from a web page"));
        match single(headers, &header::ORIGIN)? {
            Some(origin) if self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin)) => Ok(()),
            Some(_) => forbidden(),
            None => match single(headers, &FETCH_SITE)? {
                None | Some("none") => Ok(()),
                Some(_) => forbidden(),
            },
        }
    }
}

/// Checks that what follows the host is a port, or nothing.
fn has_plain_port(host: &Authority) -> bool {
    match host.as_str().strip_prefix(host.host()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok() && !port.starts_with('+')),
        None => false,
    }
}

/// Returns the token a request carries.
pub(crate) fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    Ok(single(headers, &TOKEN)?.map(str::as_bytes))
}

/// Checks that the body is declared as JSON; no web form can do that.
pub(crate) fn check_json(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let declared = single(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if method != Method::POST || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not declared as JSON")
        .with_hint("send `Content-Type: application/json`"))
}

/// Returns the value of a header that may occur once; which of two counts is not ours to guess.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let refuse = |what: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the header `{name}` {what}")));
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return refuse("occurs twice");
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => refuse("is not ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn status(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(()).unwrap().into_parts().0).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts() {
        let local = Guard { local: true, hosts: vec!["skills.internal".into()], origins: vec![] };
        let open = Guard { local: false, ..Guard { local: true, hosts: vec![], origins: vec![] } };
        for (host, by_local, by_open) in [
            ("localhost", 200, 200),
            ("LOCALHOST:8080", 200, 200),
            ("127.0.0.1:8080", 200, 200),
            ("127.9.9.9", 200, 200),
            ("[::1]:8080", 200, 200),
            ("10.0.0.7:8080", 421, 200),
            ("skills.internal:80", 200, 421),
            ("evil.example", 421, 421),
            ("localhost.evil.example", 421, 421),
            ("127.0.0.1.nip.io", 421, 421),
            ("127.0.0.1@evil.example", 421, 421),
            ("evil@127.0.0.1", 421, 421),
            ("2130706433", 421, 421),
            ("localhost:99999", 421, 421),
            ("localhost:+80", 421, 421),
            ("localhost:", 421, 421),
            ("0x7f.1", 421, 421),
            ("localhost.", 421, 421),
            ("[::ffff:127.0.0.1]", 421, 200),
            ("0.0.0.0", 421, 200),
            ("", 421, 421),
            ("a b", 421, 421),
        ] {
            assert_eq!(status(&local, "/healthz", &[("host", host)]), by_local, "local {host:?}");
            assert_eq!(status(&open, "/healthz", &[("host", host)]), by_open, "open {host:?}");
        }
        assert_eq!(status(&local, "/", &[]), 400);
        assert_eq!(status(&local, "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&local, "http://evil.example/", &[("host", "localhost")]), 421);
        assert_eq!(status(&local, "http://localhost/", &[("host", "evil.example")]), 421);
        assert_eq!(status(&local, "http://localhost/", &[("host", "localhost")]), 200);
    }

    #[test]
    fn origins() {
        let guard = Guard { local: true, hosts: vec![], origins: vec!["http://localhost:3000".into()] };
        for (name, value, expected) in [
            ("origin", "http://localhost:3000", 200),
            ("origin", "http://localhost:3001", 403),
            ("origin", "null", 403),
            ("origin", "", 403),
            ("origin", "https://evil.example", 403),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-origin", 403),
            ("sec-fetch-site", "none", 200),
        ] {
            assert_eq!(status(&guard, "/skills", &[("host", "localhost"), (name, value)]), expected, "{name}: {value}");
        }
    }
}
