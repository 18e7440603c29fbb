//! Generated configurations, as OpenSSH's own client and we read them.

use std::fmt::Write as _;
use std::process::Command;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// One line of a configuration.
fn line() -> impl Strategy<Value = String> {
    let pattern =
        || select(vec!["a", "web", "Web", "w*", "?eb", "*", "!web", "!a", "b.example.org", "*.org", "!*.org"]);
    let patterns = || proptest::collection::vec(pattern(), 1..4);
    let user = || select(vec!["me", "root", "deploy"]);
    prop_oneof![
        3 => patterns().prop_map(|patterns| format!("Host {}", patterns.join(" "))),
        2 => (select(vec!["host", "originalhost", "!host", "!originalhost"]), patterns())
            .prop_map(|(criterion, patterns)| format!("Match {criterion} {}", patterns.join(","))),
        1 => (select(vec!["user", "!user"]), user(), select(vec!["", " host=web", " originalhost \"a,web\""]))
            .prop_map(|(criterion, user, rest)| format!("Match {criterion} {user}{rest}")),
        1 => select(vec!["Match all", "Match final", "Match !final", "Match canonical", "Match final host *.org", "Match final all"])
            .prop_map(str::to_owned),
        3 => select(vec!["HostName %h.example.org", "hostname=b.example.org", "HOSTNAME 192.0.2.1", "HostName \"web\"", "HostName 2001:db8::1"])
            .prop_map(str::to_owned),
        3 => (1u16.., select(vec!["Port ", "port=", "Port = ", "\tPort\t"])).prop_map(|(port, keyword)| format!("{keyword}{port}")),
        3 => (user(), select(vec!["", " # as usual", "\t"])).prop_map(|(user, rest)| format!("User {user}{rest}")),
        3 => select(vec!["/k/one", "/k/two", "'/k/with blank'", "/k/with\\ blank", "\"/k/#three\"", "/k/four#", "none"])
            .prop_map(|file| format!("IdentityFile {file}")),
        2 => select(vec!["j1", "root@j1", "j1:2222,j2", "me@j1:1,you@j2:2,j3", "none", "ssh://me@j1:22"])
            .prop_map(|jump| format!("ProxyJump {jump}")),
        1 => select(vec!["ProxyCommand none", "ProxyCommand nc %h %p", "ForwardAgent yes", "", "# Port 1", "   "]).prop_map(str::to_owned),
    ]
}

/// What both must agree on.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    host: String,
    port: String,
    user: String,
    identity_files: Vec<String>,
    jumps: Vec<Address>,
}

/// Returns what `ssh -G` says, or nothing where there is no `ssh`.
fn theirs(file: &Path, asked: Asked<'_>) -> Option<Result<Seen, String>> {
    let mut command = Command::new("ssh");
    command.arg("-G").arg("-F").arg(file);
    asked.user.map(|user| command.args(["-l", user]));
    asked.port.map(|port| command.args(["-p", &port.to_string()]));
    let output = command.args(["--", asked.host]).output().ok()?;
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mut seen = Seen::default();
    for (keyword, value) in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.split_once(' ')) {
        match keyword {
            "hostname" => value.clone_into(&mut seen.host),
            "port" => value.clone_into(&mut seen.port),
            "user" => value.clone_into(&mut seen.user),
            // The default ones are named by `~`, the generated ones are not.
            "identityfile" if !value.starts_with('~') && value != "none" => seen.identity_files.push(value.to_owned()),
            "proxyjump" if value != "none" => {
                seen.jumps =
                    value.split(',').map(|jump| jump.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
            }
            _ => {}
        }
    }
    Some(Ok(seen))
}

fn ours(file: &Path, text: &str, asked: Asked<'_>, user: &str) -> Seen {
    let surroundings =
        Surroundings { user, uid: 0, home: Path::new("/home/me"), variable: &|_| None, read: &|_| Ok(Vec::new()) };
    let config = resolve(&[ConfigFile { path: file, text, scope: Scope::User }], asked, surroundings)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    Seen {
        host: config.host,
        port: config.port.to_string(),
        user: config.user,
        identity_files: config
            .identity_files
            .unwrap_or_default()
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        jumps: config.jumps,
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn generated_configurations_are_read_as_openssh_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    std::fs::write(&file, "").expect("a file");
    let nobody = Asked { host: "web", user: None, port: None };
    let Some(seen) = theirs(&file, nobody) else {
        eprintln!("skipped: `ssh` is not installed");
        return;
    };
    let user = seen.expect("an empty configuration is one").user;
    let cases = (
        proptest::collection::vec(line(), 0..14),
        select(vec!["web", "Web", "a", "b.example.org"]),
        proptest::option::weighted(0.2, Just("deploy")),
        proptest::option::weighted(0.2, Just(4022)),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&cases, |(lines, host, asked_user, port)| {
        let text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        });
        std::fs::write(&file, &text).expect("a file");
        let asked = Asked { host, user: asked_user, port };
        let theirs = theirs(&file, asked).expect("ssh was there").map_err(TestCaseError::fail)?;
        prop_assert_eq!(ours(&file, &text, asked, &user), theirs, "{}", text);
        Ok(())
    });
    assert!(result.is_ok(), "{}", result.err().map_or_else(String::new, |error| error.to_string()));
}
