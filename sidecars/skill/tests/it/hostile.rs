//! A corpus of hostile requests. None of them may start a run, and the server has to be well after all of them.

use std::{fmt::Write as _, thread, time::Duration};

use crate::support::{Answer, LONG, Server, TOKEN, print};

/// What a good request says in its head, besides the length of its body.
const HEAD: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

/// A request as bytes, and what it tries.
struct Attack {
    what: String,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Corpus(Vec<Attack>);

impl Corpus {
    fn raw(&mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push(Attack { what: what.into(), bytes: bytes.into() });
    }

    /// A good request, but for its path.
    fn path(&mut self, path: &str) {
        self.raw(
            format!("path {path:?}"),
            format!("POST {path} HTTP/1.1\r\n{HEAD}X-Skill-Token: {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}"),
        );
    }

    /// A good request, but for its body.
    fn body(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let length = body.len();
        let head =
            format!("POST /skill/canary HTTP/1.1\r\n{HEAD}X-Skill-Token: {TOKEN}\r\nContent-Length: {length}\r\n\r\n");
        self.raw(format!("body {shown:?}"), [head.as_bytes(), body].concat());
    }

    /// A good request, but for its head.
    fn head(&mut self, head: &str) {
        self.raw(format!("head {head:?}"), format!("POST /skill/canary HTTP/1.1\r\n{head}\r\n\r\n{{}}"));
    }
}

fn paths(corpus: &mut Corpus) {
    let up = ["..", "%2e%2e", ".%2e", "%2e.", "%252e%252e", "..%00", "%c0%ae%c0%ae", "..;", "．．"];
    let slash = ["/", "%2f", "%2F", "%5c", "\\", "%252f", "%c0%af", "／", "%e2%88%95"];
    for up in up {
        for slash in slash {
            corpus.path(&format!("/skill/{up}{slash}{up}{slash}bin{slash}sh"));
        }
    }
    for name in [
        "",
        ".",
        "..",
        "%2e",
        "/",
        "%2f",
        "%2fbin%2fsh",
        "//bin/sh",
        "canary%00",
        "canary%0a",
        "canary%20",
        "%20canary",
        "canary/",
        "canary%2f",
        "canary%2f..",
        "canary/..",
        "./canary",
        "%2e%2fcanary",
        "canary;",
        "canary;id",
        "canary%3bid",
        "canary|id",
        "canary%7cid",
        "$(id)",
        "%24%28id%29",
        "`id`",
        "%60id%60",
        "canary%26",
        "-canary",
        "--help",
        ".canary",
        ".hidden",
        "_canary",
        "~",
        "~root",
        "*",
        "canary*",
        "?",
        "can%61ry%00",
        "CANARY",
        "canary.sh",
        "CaNaRy",
        "%ff",
        "%ff%fe",
        "%c3%28",
        "%e9",
        "%u002e",
        "%",
        "%2",
        "%zz",
        "canary%",
        "ｃanary",
        "canary%e2%80%8b",
        "%e2%80%aecanary",
        "canary%ef%bb%bf",
        "sub",
        "sub/deep",
        "sub%2fdeep",
        "link-out",
        "link-absolute",
        "plain",
        "fifo",
        "charly-skill",
        "charly",
        "con",
        "nul",
        "proc",
        "/proc/self/exe",
        "%2fproc%2fself%2fexe",
        "canary%09",
        "%7f",
        "canary%c2%a0",
        "canary%0d%0aX-Skill-Token:%20x",
        "{}",
        "{name}",
        "%7bname%7d",
        "canary%23",
        "canary:80",
        "file:%2f%2fbin%2fsh",
        "http:%2f%2fx%2f",
    ] {
        corpus.path(&format!("/skill/{name}"));
    }
    corpus.path(&format!("/skill/{}", "a".repeat(129)));
    corpus.path(&format!("/skill/{}", "a".repeat(5000)));
    corpus.path(&format!("/skill/{}", "%61".repeat(9000)));
    corpus.path(&format!("/skill/{}canary", "../".repeat(2000)));
    for path in [
        "",
        "/skill",
        "/skills",
        "/SKILL/canary",
        "/Skill/canary",
        "//skill/canary",
        "/skill//canary",
        "/./skill/canary",
        "/x/../skill/canary",
        "/skill/canary/canary",
        "/%73kill/canary/",
        "skill/canary",
        "/skill\\canary",
        "/task/canary",
        "/healthz",
        "/healthz/../skill/canary",
        "/healthz/skill/canary",
        "/skill/canary\0",
        "/skill/can ary",
        "*",
        "/skill/canary\u{1}",
    ] {
        corpus.path(path);
    }
}

fn heads(corpus: &mut Corpus) {
    let good = format!("X-Skill-Token: {TOKEN}\r\nContent-Length: 2");
    for host in [
        "attacker.example",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "attacker.example:80",
        "10.0.0.1",
        "0.0.0.0",
        "[::]",
        "127.0.0.1@attacker.example",
        "attacker@localhost",
        "localhost attacker.example",
        "localhost,attacker.example",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "",
        "localhost.",
        "localhost\t.x",
        "%6cocalhost",
        "ⅼocalhost",
        "localhost/",
        "localhost?",
        "localhost#",
        "http://localhost",
        "[::1",
        "::1",
        "[localhost]",
        "localhost:99999",
        "localhost:-1",
    ] {
        corpus.head(&format!("Host: {host}\r\nContent-Type: application/json\r\n{good}"));
    }
    corpus.head(&format!("Content-Type: application/json\r\n{good}"));
    corpus.head(&format!("Host: localhost\r\n{HEAD}{good}"));
    corpus.head(&format!("{HEAD}Host: attacker.example\r\n{good}"));
    corpus.head(&format!(
        "X-Forwarded-Host: localhost\r\nHost: attacker.example\r\nContent-Type: application/json\r\n{good}"
    ));
    for origin in [
        "null",
        "http://localhost",
        "http://127.0.0.1:8080",
        "https://attacker.example",
        "",
        "file://",
        "chrome-extension://x",
    ] {
        corpus.head(&format!("{HEAD}Origin: {origin}\r\n{good}"));
    }
    for site in ["cross-site", "same-site", "same-origin", "", "NONE"] {
        corpus.head(&format!("{HEAD}Sec-Fetch-Site: {site}\r\n{good}"));
    }
    for token in [
        "",
        " ",
        "x",
        &TOKEN[1..],
        &TOKEN[..31],
        &format!("{TOKEN}x"),
        &TOKEN.to_uppercase(),
        "null",
        "undefined",
        "Bearer",
        "*",
        "%00",
        "\u{0}",
        &format!("\"{TOKEN}\""),
        &format!("{TOKEN},{TOKEN}"),
        &format!("{TOKEN} {TOKEN}"),
        "é",
        &"a".repeat(20_000),
    ] {
        corpus.head(&format!("{HEAD}X-Skill-Token: {token}\r\nContent-Length: 2"));
    }
    corpus.head(&format!("{HEAD}Content-Length: 2"));
    corpus.head(&format!("{HEAD}X-Skill-Token: wrong\r\n{good}"));
    corpus.head(&format!("{HEAD}{good}\r\nX-Skill-Token: wrong"));
    corpus.head(&format!("{HEAD}{good}\r\nX-Skill-Token: {TOKEN}"));
    corpus.head(&format!("{HEAD}X_Skill_Token: {TOKEN}\r\nContent-Length: 2"));
    corpus.head(&format!("{HEAD}Authorization: Bearer {TOKEN}\r\nContent-Length: 2"));
    corpus.head(&format!("{HEAD}Cookie: X-Skill-Token={TOKEN}\r\nContent-Length: 2"));
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json-seq",
        "json",
        "",
        "text/plain; application/json",
        "application/xml",
        "*/*",
        "application/json,text/plain",
    ] {
        corpus.head(&format!("Host: localhost\r\nContent-Type: {kind}\r\n{good}"));
    }
    corpus.head(&format!("Host: localhost\r\n{good}"));
    corpus.head(&format!("Host: localhost\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\n{good}"));
}

fn protocol(corpus: &mut Corpus) {
    let token = format!("X-Skill-Token: {TOKEN}\r\n");
    for length in ["-1", "+2", "2,2", "2, 3", "0x2", "99999999999999999999", "1048577", "two", "2 2", ""] {
        corpus.head(&format!("{HEAD}{token}Content-Length: {length}"));
    }
    corpus.head(&format!("{HEAD}{token}Content-Length: 2\r\nContent-Length: 3"));
    corpus.head(&format!("{HEAD}{token}Content-Length: 2\r\nTransfer-Encoding: chunked"));
    for coding in ["gzip", "chunked, gzip", "identity", "xchunked", "chunked\r\nTransfer-Encoding: gzip"] {
        corpus.head(&format!("{HEAD}{token}Transfer-Encoding: {coding}"));
    }
    let chunked = format!("POST /skill/canary HTTP/1.1\r\n{HEAD}{token}Transfer-Encoding: chunked\r\n\r\n");
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}",
        "2\r\n{}0\r\n\r\n",
        "2;\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\nA\0: b\r\n\r\n",
    ] {
        corpus.raw(format!("chunks {chunks:?}"), format!("{chunked}{chunks}"));
    }
    let mut flood = chunked.clone();
    for _ in 0..1100 {
        let _ = write!(flood, "400\r\n{}\r\n", " ".repeat(1024));
    }
    corpus.raw("more than a mebibyte in chunks", flood + "2\r\n{}\r\n0\r\n\r\n");
    for line in [
        "POST /skill/canary HTTP/0.9",
        "POST /skill/canary HTTP/2.0",
        "POST /skill/canary HTTP/1.1 x",
        "POST /skill/canary",
        "POST  /skill/canary HTTP/1.1",
        " POST /skill/canary HTTP/1.1",
        "POST\t/skill/canary\tHTTP/1.1",
        "PO ST /skill/canary HTTP/1.1",
        "POST /skill/canary http/1.1",
        "POST /skill/canary HTTP/1.10",
        "GET /skill/canary HTTP/1.1",
        "PUT /skill/canary HTTP/1.1",
        "PATCH /skill/canary HTTP/1.1",
        "DELETE /skill/canary HTTP/1.1",
        "HEAD /skill/canary HTTP/1.1",
        "OPTIONS /skill/canary HTTP/1.1",
        "TRACE /skill/canary HTTP/1.1",
        "CONNECT localhost:80 HTTP/1.1",
        "CONNECT /skill/canary HTTP/1.1",
        "post /skill/canary HTTP/1.1",
        "POST http://attacker.example/skill/canary HTTP/1.1",
        "POST //attacker.example/skill/canary HTTP/1.1",
        "\0POST /skill/canary HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        corpus.raw(format!("line {line:?}"), format!("{line}\r\n{HEAD}{token}Content-Length: 2\r\n\r\n{{}}"));
    }
    for header in
        ["A\0: b", "A: b\0", " A: b", "A : b", ": b", "A", "A: b\r\n c", "A\u{e9}: b", "A: b\nX: y\0", "A: b\rc"]
    {
        corpus.head(&format!("{HEAD}{token}{header}\r\nContent-Length: 2"));
    }
    let many: String = (0..200).fold(String::new(), |mut text, at| {
        let _ = write!(text, "X-{at}: y\r\n");
        text
    });
    corpus.head(&format!("{HEAD}{token}{many}Content-Length: 2"));
    corpus.head(&format!("{HEAD}{token}X-Long: {}\r\nContent-Length: 2", "y".repeat(100_000)));
    corpus.raw("a long line", format!("POST /skill/{} HTTP/1.1\r\n{HEAD}{token}\r\n", "a".repeat(100_000)));
    corpus.raw("nothing", "");
    corpus.raw("newlines", "\r\n\r\n\r\n\r\n");
    corpus.raw("a TLS hello", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]);
    corpus.raw(
        "random bytes",
        (0..4096_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<u8>>(),
    );
    corpus.raw("half a head", format!("POST /skill/canary HTTP/1.1\r\n{HEAD}"));
    corpus.raw("half a body", format!("POST /skill/canary HTTP/1.1\r\n{HEAD}{token}Content-Length: 9\r\n\r\n{{}}"));
    corpus.raw("a smuggled request", format!("POST /skill/absent HTTP/1.1\r\n{HEAD}{token}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /skill/canary HTTP/1.1\r\n{HEAD}{token}Content-Length: 2\r\n\r\n{{}}"));
}

fn bodies(corpus: &mut Corpus) {
    for body in [
        "",
        " ",
        "null",
        "true",
        "0",
        "\"x\"",
        "[]",
        "[{}]",
        "{",
        "}",
        "{}}",
        "{}{}",
        "{},",
        "{'args':[]}",
        "{args:[]}",
        "{\"args\":[}",
        "{\"args\":[\"a\"",
        "{\"args\":[\"a\",]}",
        "{\"args\":null}",
        "{\"args\":\"x\"}",
        "{\"args\":{}}",
        "{\"args\":{\"0\":\"a\"}}",
        "{\"args\":[1]}",
        "{\"args\":[null]}",
        "{\"args\":[[]]}",
        "{\"args\":[{}]}",
        "{\"args\":[true]}",
        "{\"args\":[\"a\\u0000b\"]}",
        "{\"args\":[\"\\u0000\"]}",
        "{\"args\":[\"\\ud800\"]}",
        "{\"args\":[\"\\udc00\\ud800\"]}",
        "{\"args\":[\"\\x41\"]}",
        "{\"args\":[\"a\nb\"]}",
        "{\"args\":[],\"args\":[\"x\"]}",
        "{\"timeout\":0}",
        "{\"timeout\":-1}",
        "{\"timeout\":1.5}",
        "{\"timeout\":1e3}",
        "{\"timeout\":\"30\"}",
        "{\"timeout\":null}",
        "{\"timeout\":[]}",
        "{\"timeout\":99999999999999999999}",
        "{\"timeout\":NaN}",
        "{\"timeout\":Infinity}",
        "{\"timeout\":0x10}",
        "{\"timeout\":true}",
        "{\"timeout\":1,\"timeout\":2}",
        "{\"stdin\":1}",
        "{\"stdin\":[]}",
        "{\"stdin\":{}}",
        "{\"stdin\":\"a\",\"stdin\":\"b\"}",
        "{\"encoding\":\"latin1\"}",
        "{\"encoding\":1}",
        "{\"encoding\":\"BASE64\"}",
        "{\"env\":[]}",
        "{\"env\":null}",
        "{\"env\":\"PATH=x\"}",
        "{\"env\":{\"SKILL_A\":1}}",
        "{\"env\":{\"SKILL_A\":null}}",
        "{\"env\":{\"SKILL_A\":[]}}",
        "{\"env\":{\"SKILL_A\":\"1\",\"SKILL_A\":\"2\"}}",
        "{\"env\":{\"SKILL_A\":\"a\\u0000b\"}}",
        "\u{feff}{}",
        "{} //x",
        "/**/{}",
        "<xml/>",
        "args=x",
        "{\"\\ud800\":1}",
    ] {
        corpus.body(body);
    }
    for name in [
        "",
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "HOME",
        "SHELL",
        "IFS",
        "ENV",
        "BASH_ENV",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "GIT_SSH_COMMAND",
        "AWS_SECRET_ACCESS_KEY",
        "GH_TOKEN",
        "http_proxy",
        "SKILL",
        "SKILL_",
        "SKILL_TOKEN",
        "skill_a",
        "Skill_A",
        "XSKILL_A",
        " SKILL_A",
        "SKILL_A ",
        "SKILL_A=B",
        "SKILL_A=",
        "=SKILL_A",
        "SKILL_A\\u0000",
        "SKILL_A\\u0000=PATH",
        "SKILL_\\u0000",
        "SKILL_A\\n",
        "SKILL_A\\nPATH",
        "SKILL_A-B",
        "SKILL_A.B",
        "SKILL_A B",
        "SKILL_Ä",
        "ＳKILL_A",
        "SKILL_\\u202e",
        "BASH_FUNC_x%%",
        "SKILL_A%%",
        "SKILL_A()",
        "SKILL_$(id)",
        "SKILL_`id`",
        "SKILL_*",
        "SKILL_[",
        "SKILL_/",
        "SKILL_\\\\",
        "SKILL_'",
        "GCONV_PATH",
        "LC_ALL",
        "TMPDIR",
        "SKILL_TOKEN=x",
    ] {
        corpus.body(format!("{{\"env\":{{\"{name}\":\"x\"}}}}"));
    }
    corpus.body(b"{\"args\":[\"\xff\"]}");
    corpus.body(b"{\"env\":{\"SKILL_\xc0\x80\":\"x\"}}");
    corpus.body(b"{\"stdin\":\"\xed\xa0\x80\"}");
    corpus.body(b"\xff\xfe{\x00}\x00");
    corpus.body(b"{}\0");
    corpus.body(b"\x1f\x8b\x08\x00");
    corpus.body("[".repeat(100_000));
    corpus.body("{\"a\":".repeat(100_000));
    corpus.body(format!("{{\"args\":{}1{}}}", "[".repeat(500), "]".repeat(500)));
    corpus.body(format!("{{\"args\":[\"{}\"]}}", "x".repeat(128 * 1024)));
    corpus.body(format!("{{\"args\":[{}\"\"]}}", "\"\",".repeat(4096)));
    corpus.body(format!("{{\"args\":[{}\"\"]}}", "\"\",".repeat(300_000)));
    corpus.body(format!("{{\"env\":{{\"SKILL_A\":\"{}\"}}}}", "x".repeat(128 * 1024)));
    corpus.body(format!("{{\"env\":{{\"SKILL_{}\":\"x\"}}}}", "A".repeat(128 * 1024)));
    corpus.body(format!("{{\"stdin\":\"{}\"}}", "x".repeat(1 << 20)));
    corpus.body(" ".repeat((1 << 20) + 1));
}

/// Whether the server turned the request down: with a 4xx, or by closing the connection.
fn is_turned_down(answers: &[Answer]) -> bool {
    answers.iter().all(|answer| (400..500).contains(&answer.status))
}

#[test]
fn no_hostile_request_starts_a_run() {
    let server =
        Server::builder().script("canary", "echo ran").script("canary2", "true").file("skills/plain", "x", 0o644);
    std::fs::create_dir(server.root().join("skills/sub")).unwrap();
    std::fs::copy("/bin/true", server.root().join("skills/sub/deep")).unwrap();
    for (link, target) in [("link-out", "../../bin/sh"), ("link-absolute", "/bin/sh")] {
        std::os::unix::fs::symlink(target, server.root().join("skills").join(link)).unwrap();
    }
    let server = server.flags(&["--patience", "1"]).start();
    assert_eq!(server.run("canary", "{}").json()["stdout"], "ran\n");

    let mut corpus = Corpus::default();
    paths(&mut corpus);
    heads(&mut corpus);
    protocol(&mut corpus);
    bodies(&mut corpus);
    let count = corpus.0.len();
    assert!(count >= 300, "{count} requests");
    let mut accepted = Vec::new();
    for Attack { what, bytes } in &corpus.0 {
        let mut connection = server.connect();
        connection.write(bytes);
        // The first answer is awaited, however long the server wants to see more; then there is no more.
        let first = connection.answer();
        connection.end_writing();
        let answers: Vec<Answer> = first.into_iter().chain(std::iter::from_fn(|| connection.answer())).collect();
        if !is_turned_down(&answers) {
            accepted.push(format!(
                "{what}: {:?}",
                answers.iter().map(|answer| (answer.status, answer.text())).collect::<Vec<_>>()
            ));
        }
        assert!(connection.rest().is_empty());
    }
    print(&format!("{count} hostile requests"));
    assert_eq!(accepted, Vec::<String>::new());
    assert_eq!(server.audit().matches(r#""event":"started""#).count(), 1, "only the good one ran");
    assert_eq!(server.run("canary", "{}").json()["stdout"], "ran\n");
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn slow_requests_hold_nobody_up() {
    let server = Server::builder()
        .script("canary", "echo ran")
        .flags(&["--patience", "1", "--queue", "4", "--runs", "2"])
        .start();
    let good = format!("{HEAD}X-Skill-Token: {TOKEN}\r\n");
    let mut slow = Vec::new();
    for beginning in [
        "P".to_owned(),
        "POST /skill/canary HTTP/1.1\r\nHost: local".to_owned(),
        format!("POST /skill/canary HTTP/1.1\r\n{good}"),
        format!("POST /skill/canary HTTP/1.1\r\n{good}Content-Length: 100\r\n\r\n{{\"args\":"),
        format!("POST /skill/canary HTTP/1.1\r\n{good}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"),
    ] {
        let mut connection = server.connect();
        connection.write(beginning.as_bytes());
        slow.push(connection);
    }
    assert_eq!(server.run("canary", "{}").json()["stdout"], "ran\n");
    for mut connection in slow {
        // One more byte now and then does not help.
        connection.write(b"x");
        let answer = connection.answer();
        assert!(answer.is_none_or(|answer| answer.status == 408));
    }
    assert_eq!(server.audit().matches(r#""event":"started""#).count(), 1);
}

#[test]
fn a_reader_that_does_not_read_is_dropped() {
    let server = Server::builder()
        .script("big", "head -c 900000 /dev/zero | tr '\\0' x")
        .flags(&["--patience", "1", "--connections", "1"])
        .start();
    let mut deaf = server.connect();
    let request = format!("POST /skill/big HTTP/1.1\r\n{HEAD}X-Skill-Token: {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}");
    // More answers than the buffers of both ends hold.
    for _ in 0..40 {
        deaf.write(request.as_bytes());
    }
    // There is room for one connection, so this one is heard when the deaf one is gone.
    let (sender, receiver) = std::sync::mpsc::channel();
    let place = server.place().clone();
    thread::spawn(move || {
        sender.send(crate::support::Connection::open(&place).request("GET", "/healthz", &[], "").status)
    });
    assert_eq!(receiver.recv_timeout(LONG + Duration::from_secs(10)).unwrap(), 200);
}

/// One connection is all there is room for, so the next is heard when this one is gone.
#[test]
fn connections_that_say_nothing_give_way() {
    let request = format!("GET /skills HTTP/1.1\r\nHost: localhost\r\nX-Skill-Token: {TOKEN}\r\n\r\n");
    for (what, said, answers) in [
        ("nothing at all", String::new(), 0),
        ("nothing after an answer", request.clone(), 1),
        ("an empty line", "\r\n".to_owned(), 0),
        ("a part of a second request", format!("{request}GET /ski"), 1),
    ] {
        let server = Server::builder().flags(&["--patience", "1", "--connections", "1"]).start();
        let mut idle = server.connect();
        idle.write(said.as_bytes());
        for _ in 0..answers {
            assert_eq!(idle.answer().unwrap().status, 200, "{what}");
        }
        let began = std::time::Instant::now();
        let (sender, receiver) = std::sync::mpsc::channel();
        let place = server.place().clone();
        thread::spawn(move || {
            sender.send(crate::support::Connection::open(&place).request("GET", "/healthz", &[], "").status)
        });
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), 200, "{what}");
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
    }
}
