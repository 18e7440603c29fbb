//! Registries: the distribution API, spoken as a client.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::time::Duration;

use charly_ir::Digest;
use charly_ir::digest::Hasher;
use serde::Deserialize;
use ureq::AsSendBody;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use super::document::ACCEPT;
use super::{Access, Progress, Reference, SourceError, Stopped, copy};
use crate::store::{MAX_JSON, Store};

/// The pauses before a transfer that broke off is taken up again.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];
const MAX_REDIRECTS: usize = 6;
const MAX_TOKEN: u64 = 1 << 20;
const MAX_ANSWER: u64 = 64 << 10;

/// One name in one registry.
pub(super) struct Client {
    access: Access,
    /// Begins every URL: scheme, host and name.
    base: String,
    host: String,
    encrypted: bool,
    basic: Option<String>,
    /// What is asked for where the registry gives out tokens.
    scope: String,
    /// What to send once the registry said what it wants.
    authorization: RefCell<Option<String>>,
}

/// An answer that is not the one hoped for, or none.
enum Failure {
    Final(SourceError),
    Passing(SourceError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match &error {
            SourceError::Transfer { source, .. }
                if matches!(**source, ureq::Error::Io(_) | ureq::Error::Timeout(_)) =>
            {
                Self::Passing(error)
            }
            _ => Self::Final(error),
        }
    }
}

impl Client {
    pub(super) fn new(reference: &Reference, access: &Access, push: bool) -> Self {
        let encrypted = !access.insecure.contains(&reference.host) && !is_loopback(&reference.host);
        let scheme = if encrypted { "https" } else { "http" };
        let host = if reference.host == "docker.io" { "registry-1.docker.io" } else { &reference.host };
        let actions = if push { "pull,push" } else { "pull" };
        Self {
            access: access.clone(),
            base: format!("{scheme}://{host}/v2/{}", reference.repository),
            host: host.to_owned(),
            encrypted,
            basic: access.credentials.of(reference).map(|auth| format!("Basic {auth}")),
            scope: format!("repository:{}:{actions}", reference.repository),
            authorization: RefCell::new(None),
        }
    }

    /// Fetches a manifest or an index by tag or digest; whoever asked by digest checks it.
    pub(super) fn manifest(&self, wanted: &str) -> Result<Vec<u8>, SourceError> {
        let url = format!("{}/manifests/{wanted}", self.base);
        self.read(&url, &[("accept", ACCEPT)], MAX_JSON)
    }

    /// Fetches a small blob.
    pub(super) fn small(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, SourceError> {
        self.read(&self.blob(digest), &[], size)
    }

    /// Fetches a layer into the store, going on where an earlier attempt broke off.
    pub(super) fn fetch(
        &self,
        digest: &Digest,
        size: u64,
        store: &Store,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SourceError> {
        let path = store.partial().join(digest.to_string());
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open().map_err(SourceError::file(&path))?;
        // Another process may be fetching the same; what it has then is what is wanted.
        file.lock().map_err(SourceError::file(&path))?;
        if store.has(digest, size) {
            return Ok(());
        }
        self.patiently(|| self.attempt(digest, size, &mut file, progress))?;
        let blob = store.blob_path(*digest);
        let keep = || -> std::io::Result<()> {
            file.sync_all()?;
            std::fs::rename(&path, &blob)
        };
        keep().map_err(SourceError::file(&blob))
    }

    fn attempt(
        &self,
        digest: &Digest,
        size: u64,
        file: &mut File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let url = self.blob(digest);
        let unwritten = |source| SourceError::File { path: digest.to_string().into(), source };
        let mut hasher = Hasher::new();
        file.rewind().map_err(unwritten)?;
        let mut have = 0;
        let hashed = copy(&mut (&*file).take(size), &self.access, &mut |bytes| {
            hasher.update(bytes);
            have += bytes.len() as u64;
            Ok(())
        });
        hashed.map_err(|stopped| stopped.into_error(unwritten))?;
        if have < size {
            let range = format!("bytes={have}-");
            let headers: &[(&str, &str)] = if have > 0 { &[("range", &range)] } else { &[] };
            let response = self.send(&Method::GET, &url, headers, || ())?;
            match response.status() {
                StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), have) => {}
                StatusCode::OK => {
                    hasher = Hasher::new();
                    have = 0;
                }
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                    file.set_len(0).map_err(unwritten)?;
                    return Err(Failure::Passing(answer(&url, "a part of a blob that was not asked for")));
                }
                _ => return Err(refused(&url, response)),
            }
            file.set_len(have).map_err(unwritten)?;
            file.seek(SeekFrom::Start(have)).map_err(unwritten)?;
            // One byte more than there may be tells a registry that sends too much.
            let mut body = response.into_body().into_reader().take(size - have + 1);
            let mut writing = None;
            let received = copy(&mut body, &self.access, &mut |bytes| {
                hasher.update(bytes);
                have += bytes.len() as u64;
                progress(Progress { blob: *digest, done: have.min(size), total: size });
                (&*file).write_all(bytes).inspect_err(|error| writing = Some(error.kind()))
            });
            match received {
                Ok(()) if have < size => {
                    let cut = ureq::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
                    return Err(transfer(&url, cut).into());
                }
                Ok(()) => {}
                Err(Stopped::Interrupted) => return Err(SourceError::Interrupted.into()),
                Err(Stopped::Io(source)) if writing.is_some() => return Err(unwritten(source).into()),
                Err(Stopped::Io(source)) => return Err(transfer(&url, ureq::Error::Io(source)).into()),
            }
        }
        let got = hasher.finish();
        if have > size || got != *digest {
            // Nothing of it can be trusted to go on from.
            file.set_len(0).map_err(unwritten)?;
            return Err(Failure::Final(if have > size {
                SourceError::Size { digest: *digest, size }
            } else {
                SourceError::Digest { want: *digest, got }
            }));
        }
        Ok(())
    }

    /// Tells whether the registry has a blob.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool, SourceError> {
        let url = self.blob(digest);
        self.patiently(|| {
            let response = self.send(&Method::HEAD, &url, &[], || ())?;
            match response.status() {
                status if status.is_success() => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(refused(&url, response)),
            }
        })
    }

    /// Uploads a blob in one piece, unless the registry finds it under another name.
    pub(super) fn upload(&self, digest: &Digest, file: &File) -> Result<(), SourceError> {
        let url = format!("{}/blobs/uploads/?mount=sha256:{digest}", self.base);
        self.patiently(|| {
            let response = self.send(&Method::POST, &url, &[("content-length", "0")], || ())?;
            match response.status() {
                StatusCode::CREATED => return Ok(()),
                StatusCode::ACCEPTED => {}
                _ => return Err(refused(&url, response)),
            }
            let location = location(&url, response.headers()).ok_or_else(|| answer(&url, "no place to upload to"))?;
            let separator = if location.contains('?') { '&' } else { '?' };
            let url = format!("{location}{separator}digest=sha256:{digest}");
            let response = self.send(&Method::PUT, &url, &[("content-type", "application/octet-stream")], || {
                // Sent again, it is sent from its beginning; where that fails, the registry finds another digest.
                let mut start = file;
                start.rewind().ok();
                file
            })?;
            if response.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(&url, response)) }
        })
    }

    pub(super) fn put_manifest(&self, wanted: &str, media_type: &str, bytes: &[u8]) -> Result<(), SourceError> {
        let url = format!("{}/manifests/{wanted}", self.base);
        self.patiently(|| {
            let response = self.send(&Method::PUT, &url, &[("content-type", media_type)], || bytes)?;
            if response.status().is_success() { Ok(()) } else { Err(refused(&url, response)) }
        })
    }

    fn blob(&self, digest: &Digest) -> String {
        format!("{}/blobs/sha256:{digest}", self.base)
    }

    fn read(&self, url: &str, headers: &[(&str, &str)], limit: u64) -> Result<Vec<u8>, SourceError> {
        self.patiently(|| {
            let response = self.send(&Method::GET, url, headers, || ())?;
            if response.status() != StatusCode::OK {
                return Err(refused(url, response));
            }
            let mut bytes = Vec::new();
            let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
            read.map_err(|error| transfer(url, ureq::Error::Io(error)))?;
            if bytes.len() as u64 > limit {
                return Err(answer(url, "more bytes than it may").into());
            }
            Ok(bytes)
        })
    }

    /// Tries again what may pass.
    fn patiently<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, SourceError> {
        let mut pauses = PAUSES.iter();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => match pauses.next() {
                    Some(pause) if self.access.interrupts.count() == 0 => std::thread::sleep(*pause),
                    Some(_) => return Err(SourceError::Interrupted),
                    None => return Err(error),
                },
            }
        }
    }

    /// Sends a request where the registry wants it, and sends it again with what the registry wants to see first.
    fn send<'a, B: AsSendBody + 'a>(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Fn() -> B,
    ) -> Result<Response<ureq::Body>, SourceError> {
        let mut url = url.to_owned();
        let mut is_known = false;
        for _ in 0..MAX_REDIRECTS {
            let response = self.send_once(method, &url, headers, body())?;
            let status = response.status();
            if status.is_redirection() && matches!(*method, Method::GET | Method::HEAD) {
                let location = location(&url, response.headers());
                url = location.ok_or_else(|| answer(&url, "a redirection to nowhere"))?;
            } else if status == StatusCode::UNAUTHORIZED && !is_known && self.is_own(&url) {
                let Some(authorization) = self.authorize(response.headers())? else {
                    return Ok(response);
                };
                *self.authorization.borrow_mut() = Some(authorization);
                is_known = true;
            } else {
                return Ok(response);
            }
        }
        Err(answer(&url, "one redirection after the other"))
    }

    /// Returns what a registry wants to see, where it can be had.
    fn authorize(&self, headers: &HeaderMap) -> Result<Option<String>, SourceError> {
        let mut challenges = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        match challenges.find_map(Challenge::parse) {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()).map(Some),
            Some(Challenge::Basic) => Ok(self.basic.clone()),
            None => Ok(None),
        }
    }

    fn send_once(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Response<ureq::Body>, SourceError> {
        if self.access.interrupts.count() > 0 {
            return Err(SourceError::Interrupted);
        }
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Another host that the registry sends us to is no business of its passwords.
        if let Some(authorization) = self.authorization.borrow().as_ref().filter(|_| self.is_own(url)) {
            request = request.header("authorization", authorization);
        }
        self.run(request.body(body), url)
    }

    fn run(
        &self,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
        url: &str,
    ) -> Result<Response<ureq::Body>, SourceError> {
        let request = request.map_err(|error| transfer(url, error.into()))?;
        let request = self
            .access
            .agent
            .configure_request(request)
            .http_status_as_error(false)
            .https_only(self.encrypted)
            // Whoever follows has to know which host may see what.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        self.access.agent.run(request).map_err(|error| transfer(url, error))
    }

    /// Asks whoever the registry names for a token.
    fn token(&self, realm: &str, service: Option<&str>) -> Result<String, SourceError> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }

        let uri: Uri = realm.parse().map_err(|_| answer(realm, "a place for tokens that is no URL"))?;
        let host = uri.host().unwrap_or_default();
        if uri.scheme_str() != Some("https") && (self.encrypted || !self.is_own(realm) && !is_loopback(host)) {
            return Err(answer(realm, "a place for tokens that is not encrypted"));
        }
        let separator = if realm.contains('?') { '&' } else { '?' };
        let service = service.map(|service| format!("&service={}", encoded(service))).unwrap_or_default();
        let url = format!("{realm}{separator}scope={}{service}", encoded(&self.scope));
        let mut request = Request::builder().uri(&url);
        if let Some(basic) = &self.basic {
            request = request.header("authorization", basic);
        }
        let response = self.run(request.body(()), realm)?;
        if response.status() != StatusCode::OK {
            return Err(refused(realm, response).into());
        }
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(MAX_TOKEN).read_to_end(&mut bytes);
        read.map_err(|error| transfer(realm, ureq::Error::Io(error)))?;
        let token = serde_json::from_slice::<Token>(&bytes).ok().and_then(|token| token.token.or(token.access_token));
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| answer(realm, "no token"))
    }

    /// Tells whether a URL is on the registry itself.
    fn is_own(&self, url: &str) -> bool {
        let uri = url.parse::<Uri>().ok();
        uri.and_then(|uri| uri.authority().map(|authority| authority.as_str() == self.host)).unwrap_or(false)
    }
}

/// How a registry wants to be shown who asks.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Bearer { realm: String, service: Option<String> },
    Basic,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match key.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Final(error) | Failure::Passing(error) => error,
        }
    }
}

impl Stopped {
    fn into_error(self, io: impl FnOnce(std::io::Error) -> SourceError) -> SourceError {
        match self {
            Self::Interrupted => SourceError::Interrupted,
            Self::Io(error) => io(error),
        }
    }
}

/// Turns an answer into an error, with what the registry says of it; some are worth another attempt.
fn refused(url: &str, response: Response<ureq::Body>) -> Failure {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Told>,
    }

    #[derive(Deserialize)]
    struct Told {
        message: Option<String>,
        code: Option<String>,
    }

    let status = response.status();
    let mut bytes = Vec::new();
    response.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut bytes).ok();
    let told = serde_json::from_slice::<Errors>(&bytes).ok().and_then(|told| told.errors.into_iter().next());
    let message = told.and_then(|told| told.message.or(told.code)).unwrap_or_default();
    let message = message.chars().take(200).collect();
    let error = SourceError::Status { url: shown(url), status: status.as_u16(), message };
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Failure::Passing(error)
    } else {
        Failure::Final(error)
    }
}

fn transfer(url: &str, source: ureq::Error) -> SourceError {
    SourceError::Transfer { url: shown(url), source: Box::new(source) }
}

fn answer(url: &str, what: &'static str) -> SourceError {
    SourceError::Answer { url: shown(url), what }
}

/// Returns where an answer sends whoever asked.
fn location(url: &str, headers: &HeaderMap) -> Option<String> {
    let location = headers.get("location")?.to_str().ok()?;
    if location.starts_with('/') && !location.starts_with("//") {
        let uri: Uri = url.parse().ok()?;
        return Some(format!("{}://{}{location}", uri.scheme_str()?, uri.authority()?));
    }
    matches!(location.parse::<Uri>().ok()?.scheme_str()?, "http" | "https").then(|| location.to_owned())
}

/// What follows the path may be a secret.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().chars().take(300).collect()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                encoded.push(byte.into());
            }
            byte => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
                }
            }
        }
    }
    encoded
}

/// Tells whether a host is this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tells whether a partial answer continues where the file ends.
fn starts_at(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get("content-range").and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")).and_then(|range| range.split('-').next());
    start.and_then(|start| start.trim().parse().ok()) == Some(have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        for (text, want) in [
            (r#"Bearer realm="https://a/t",service="a",scope="x:y:z""#, bearer("https://a/t", Some("a"))),
            (r#"bearer service="a, b", Realm="https://a/t?x=1""#, bearer("https://a/t?x=1", Some("a, b"))),
            ("Bearer realm=https://a/t,service=a", bearer("https://a/t", Some("a"))),
            (r#"Bearer service="a""#, None),
            (r#"Bearer realm="https://a"#, None),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), want, "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, want) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.example:80", false),
        ] {
            assert_eq!(is_loopback(host), want, "{host}");
        }
    }
}
