//! Makes an HTTP request with the venue's own client, whose certificates and name service are those of its programs.

use charly_ir::check::Matcher;

use super::findings::{Findings, Halt, quote};
use super::{Probe, matcher};
use crate::process::Exit;

/// A request, and the status asked for.
pub(super) struct Request<'a> {
    pub(super) url: String,
    pub(super) method: &'a str,
    pub(super) status: Option<u16>,
    pub(super) insecure: bool,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    headers: String,
    body: String,
}

pub(super) fn evaluate(
    probe: &Probe<'_>,
    request: &Request<'_>,
    body: &[Matcher],
    headers: &[Matcher],
) -> Result<Findings, Halt> {
    probe.needs_live("an HTTP request")?;
    let scheme = request.url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) || request.url.contains(char::is_control) {
        return Err(Halt::Fail(format!("{} is not an http or https URL", quote(&request.url))));
    }
    if request.method.is_empty() || !request.method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(Halt::Fail(format!("{} is not an HTTP method", quote(request.method))));
    }
    let response = match curl(probe, request)? {
        Some(response) => response,
        None => wget(probe, request)?,
    };
    let mut findings = Findings::default();
    match request.status {
        Some(wanted) => findings.equal("status", Some(wanted), &response.status),
        None if response.status >= 400 => {
            findings.add(format!("status: wanted any below `400`, found `{}`", response.status));
        }
        None => {}
    }
    matcher::compare(&mut findings, "headers", &response.headers, headers, &probe.tokens());
    matcher::compare(&mut findings, "body", &response.body, body, &probe.tokens());
    Ok(findings)
}

impl Request<'_> {
    /// Tells whether to go where a redirection leads, which an author who asks for one does not want.
    fn follows(&self) -> bool {
        !self.status.is_some_and(|status| (300..400).contains(&status))
    }
}

/// Asks with curl; nothing where there is none.
fn curl(probe: &Probe<'_>, request: &Request<'_>) -> Result<Option<Response>, Halt> {
    let seconds = format!("{:.3}", probe.left().as_secs_f64());
    // `--disable` comes first: no configuration file of anybody's is read.
    let mut argv = vec!["curl", "--disable", "--silent", "--show-error", "--globoff", "--max-time", &seconds];
    argv.extend(["--proto", "=http,https", "--proto-redir", "=http,https"]);
    // Headers and body on one stream, then how long the headers were, redirections' included.
    argv.extend(["--include", "--write-out", "%{stderr}\n%{http_code} %{size_header}"]);
    match request.method {
        "HEAD" => argv.push("--head"),
        method => argv.extend(["--request", method]),
    }
    if request.follows() {
        argv.extend(["--location", "--max-redirs", "10"]);
    }
    if request.insecure {
        argv.push("--insecure");
    }
    argv.extend(["--url", &request.url]);
    let Some(captured) = probe.tool(&argv)? else { return Ok(None) };
    let said = captured.stderr.text();
    let (said, numbers) = said.rsplit_once('\n').unwrap_or(("", &said));
    if captured.exit != Exit::Status(0) {
        return Err(no_answer(request, captured.exit, said));
    }
    let numbers: Vec<usize> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [status, length] = numbers[..] else { return Err(no_answer(request, captured.exit, "no status")) };
    let bytes = &captured.stdout.bytes;
    let (head, body) = bytes.split_at(length.min(bytes.len()));
    Ok(Some(Response {
        status: u16::try_from(status).unwrap_or_default(),
        headers: last_head(&String::from_utf8_lossy(head)),
        body: String::from_utf8_lossy(body).into_owned(),
    }))
}

/// Asks with wget, GNU's or busybox's: only what both know.
fn wget(probe: &Probe<'_>, request: &Request<'_>) -> Result<Response, Halt> {
    if request.method != "GET" || !request.follows() {
        return Err(Halt::Skip(format!(
            "`curl` is not on the venue, and `wget` makes no such request ({})",
            request.method
        )));
    }
    let seconds = probe.left().as_secs().max(1).to_string();
    let mut argv = vec!["wget", "-q", "-S", "-O", "-", "-T", &seconds];
    if request.insecure {
        argv.push("--no-check-certificate");
    }
    argv.push(&request.url);
    let Some(captured) = probe.tool(&argv)? else {
        return Err(Halt::Skip("neither `curl` nor `wget` is on the venue".to_owned()));
    };
    let said = captured.stderr.text();
    // An error status is an answer too; wget then keeps the body to itself.
    match wget_head(&said) {
        Some((status, headers)) => Ok(Response { status, headers, body: captured.stdout.text().into_owned() }),
        None => Err(no_answer(request, captured.exit, &said)),
    }
}

fn no_answer(request: &Request<'_>, exit: Exit, said: &str) -> Halt {
    Halt::Fail(format!("{} gave no answer ({exit}): {}", quote(&request.url), quote(said.trim())))
}

/// Returns the headers of the last of several answers, one a line, its status line left out.
fn last_head(heads: &str) -> String {
    let heads = heads.replace("\r\n", "\n");
    let last = heads.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.split_once('\n').map_or("", |(_, headers)| headers).to_owned()
}

/// Reads the last status and its headers from what wget says, each on an indented line.
fn wget_head(said: &str) -> Option<(u16, String)> {
    let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  ")).map(str::trim).collect();
    let at = lines.iter().rposition(|line| line.starts_with("HTTP/"))?;
    let status = lines[at].split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((status, lines[at + 1..].join("\n")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Venue, serve};
    use super::*;

    #[test]
    fn the_last_answers_headers_are_taken() {
        let heads = "HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\nHTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\n\r\n";
        assert_eq!(last_head(heads), "a: 1\nb: 2");
        assert_eq!(last_head("HTTP/2 204\r\n\r\n"), "");
        let said =
            "  HTTP/1.1 302 Found\n  location: /x\n  HTTP/1.1 404 Not Found\n  a: 1\nwget: server returned error\n";
        assert_eq!(wget_head(said), Some((404, "a: 1".to_owned())));
        assert_eq!(wget_head("wget: cannot connect"), None);
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
    fn both_clients_tell_the_same() {
        let (venue, port) = (Venue::live(), serve());
        for (path, status) in [("/x", 200), ("/away", 200), ("/missing", 404)] {
            let request =
                Request { url: format!("http://127.0.0.1:{port}{path}"), method: "GET", status: None, insecure: false };
            let (curl, wget) = venue.attempt(|probe| (curl(probe, &request), wget(probe, &request)));
            let (Ok(Some(curl)), Ok(wget)) = (curl, wget) else {
                println!("not run: curl or wget is not here");
                return;
            };
            assert_eq!((curl.status, wget.status), (status, status));
            assert_eq!(curl.headers, wget.headers);
            // wget keeps the body of an error to itself.
            let body = if status == 200 { curl.body } else { String::new() };
            assert_eq!(body, wget.body);
        }
    }
}
