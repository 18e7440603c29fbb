//! What files come to, as a table.

use super::*;

/// Resolves a user's configuration for `HOST` or `USER@HOST:PORT`.
fn config(text: &str, asked: &str) -> Result<HostConfig, ConfigError> {
    with_files(text, asked, &|_| Ok(Vec::new()))
}

fn with_files(text: &str, asked: &str, read: Reader<'_>) -> Result<HostConfig, ConfigError> {
    let address: Address = asked.parse().expect("an address");
    let variable = |name: &str| (name == "AGENT").then(|| "/run/agent".to_owned());
    let surroundings = Surroundings { user: "me", uid: 1000, home: Path::new("/home/me"), variable: &variable, read };
    let file = ConfigFile { path: Path::new("/home/me/.ssh/config"), text, scope: Scope::User };
    resolve(&[file], Asked { host: &address.host, user: address.user.as_deref(), port: address.port }, surroundings)
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

/// The names and numbers that a case compares: `user@host:port via jumps`.
fn way(config: &HostConfig) -> String {
    let jumps: Vec<_> = config.jumps.iter().map(ToString::to_string).collect();
    let via = if jumps.is_empty() { String::new() } else { format!(" via {}", jumps.join(" ")) };
    format!("{}@{}:{}{via}", config.user, config.host, config.port)
}

#[test]
fn without_a_word_the_defaults_hold() {
    assert_eq!(
        config("", "Web").expect("a configuration"),
        HostConfig {
            host: "web".to_owned(),
            port: 22,
            user: "me".to_owned(),
            identity_files: None,
            identities_only: false,
            identity_agent: None,
            certificate_files: Vec::new(),
            jumps: Vec::new(),
            proxy_command: None,
            user_known_hosts: paths(&["/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts2"]),
            global_known_hosts: paths(&["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]),
            host_key_alias: None,
            connect_timeout: None,
            notes: Vec::new(),
        }
    );
}

#[test]
fn the_way_to_a_host() {
    for (text, asked, expected) in [
        // The first value wins, and what the user asked for wins over it.
        ("Port 1\nPort 2", "web", "me@web:1"),
        ("Port 1\nUser a", "b@web:3", "b@web:3"),
        ("Host web\nPort 1\nHost *\nPort 2\nUser a", "web", "a@web:1"),
        ("Host web\nPort 1\nHost *\nPort 2\nUser a", "db", "a@db:2"),
        ("hOsT web\n  pOrT=1\n\tUser = \"a b\"", "web", "a b@web:1"),
        ("Port 1 # the usual", "web", "me@web:1"),
        // Patterns.
        ("Host *.org !*.example.org\nPort 1", "a.org", "me@a.org:1"),
        ("Host *.org !*.example.org\nPort 1", "a.example.org", "me@a.example.org:22"),
        ("Host !a\nPort 1", "b", "me@b:22"),
        ("Host web\nPort 1", "WEB", "me@web:22"),
        ("Host db we?\nPort 1", "web", "me@web:1"),
        // Names.
        ("HostName %h.example.org", "web", "me@web.example.org:22"),
        ("HostName 2001:db8::1", "web", "me@2001:db8::1:22"),
        ("HostName 100%%25", "web", "me@100%25:22"),
        // `Match`.
        ("Match host web\nPort 1", "web", "me@web:1"),
        ("HostName b\nMatch host web\nPort 1\nMatch host b originalhost web\nPort 2", "web", "me@b:2"),
        ("Match user root\nPort 1\nMatch all\nUser root\nMatch user root\nPort 2", "web", "root@web:2"),
        ("Match user root\nPort 1", "root@web", "root@web:1"),
        ("Match localuser me\nPort 1", "web", "me@web:1"),
        ("Match exec true\nPort 1\nMatch all\nPort 2", "web", "me@web:2"),
        ("Match canonical\nPort 1", "web", "me@web:22"),
        ("Match final\nPort 1\nHost *\nHostName b", "web", "me@b:1"),
        ("Host web\nHostName b\nHost b\nPort 1", "web", "me@b:22"),
        ("Host web\nHostName b\nHost b\nPort 1\nHostName c\nMatch final all\nUser a", "web", "a@b:1"),
        // Jumps.
        ("ProxyJump a,b@c:3,[::1]:4", "web", "me@web:22 via a b@c:3 [::1]:4"),
        ("ProxyJump ssh://b@c:3/", "web", "me@web:22 via b@c:3"),
        ("ProxyJump none\nProxyJump a", "web", "me@web:22"),
        ("ProxyJump %r@gate-%n", "web", "me@web:22 via me@gate-web"),
        ("ProxyCommand none\nProxyJump a", "web", "me@web:22"),
        // What does not concern us may be anything.
        ("ForwardAgent maybe\nSomething new\nHashKnownHosts\nPort 1", "web", "me@web:1"),
        ("Host db\nPort nonsense\nUser \"", "web", "me@web:22"),
    ] {
        assert_eq!(way(&config(text, asked).unwrap_or_else(|error| panic!("{text:?}: {error}"))), expected, "{text:?}");
    }
}

#[test]
fn files_are_expanded() {
    for (line, expected) in [
        ("IdentityFile ~/.ssh/a", "/home/me/.ssh/a"),
        ("IdentityFile ~me/a", "/home/me/a"),
        ("IdentityFile ~", "/home/me"),
        ("IdentityFile %d/%h-%n-%p-%r-%u-%i-%k-%%", "/home/me/b-web-2-root-me-1000-web-%"),
        ("IdentityFile \"a b\"", "a b"),
        ("IdentityFile ${AGENT}.key", "/run/agent.key"),
    ] {
        let config = config(&format!("{line}\nHostName b\nPort 2\nUser root"), "web").expect(line);
        assert_eq!(config.identity_files, Some(paths(&[expected])), "{line}");
    }
}

#[test]
fn key_files_add_up() {
    let text = "IdentityFile a\nHost web\nIdentityFile b\nIdentityFile a\nCertificateFile c\nHost db\nIdentityFile d\nHost *\nIdentitiesOnly yes";
    let config = config(text, "web").expect("a configuration");
    assert_eq!(config.identity_files, Some(paths(&["a", "b"])));
    assert_eq!(config.certificate_files, paths(&["c"]));
    assert!(config.identities_only);
    assert_eq!(
        with_files("IdentityFile none", "web", &|_| Ok(Vec::new())).expect("a configuration").identity_files,
        Some(Vec::new())
    );
}

#[test]
fn agents() {
    for (line, expected) in [
        ("none", Agent::Off),
        ("~/a.sock", Agent::Socket("/home/me/a.sock".into())),
        ("$AGENT", Agent::Socket("/run/agent".into())),
        ("${AGENT}/s", Agent::Socket("/run/agent/s".into())),
        ("$OTHER", Agent::Off),
        ("SSH_AUTH_SOCK", Agent::Off),
    ] {
        assert_eq!(
            config(&format!("IdentityAgent {line}"), "web").expect(line).identity_agent,
            Some(expected),
            "{line}"
        );
    }
}

#[test]
fn host_keys_and_times() {
    let text = "UserKnownHostsFile ~/a /b\nGlobalKnownHostsFile none\nHostKeyAlias Box\nConnectTimeout 1m30";
    let found = config(text, "web").expect("a configuration");
    assert_eq!(found.user_known_hosts, paths(&["/home/me/a", "/b"]));
    assert_eq!(found.global_known_hosts, paths(&[]));
    assert_eq!(found.host_key_alias.as_deref(), Some("box"));
    assert_eq!(found.connect_timeout, Some(Duration::from_secs(90)));
    assert_eq!(config("ConnectTimeout none\nConnectTimeout 5", "web").expect("a configuration").connect_timeout, None);
}

#[test]
fn commands_stand_as_they_are_written() {
    let found = config("ProxyCommand nc -X \"5\" %h %p # x\nProxyJump a", "web").expect("a configuration");
    let place = Place { file: "/home/me/.ssh/config".into(), line: 1 };
    assert_eq!(found.proxy_command, Some(("nc -X \"5\" %h %p # x".to_owned(), place)));
    assert!(found.jumps.is_empty());
}

#[test]
fn what_is_not_taken_as_written_is_told() {
    let text = "Match exec \"rm -r /\"\nPort 1\nMatch all\nStrictHostKeyChecking accept-new\nStrictHostKeyChecking no\nMatch final\nPort 2";
    let notes: Vec<_> = config(text, "web").expect("a configuration").notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "/home/me/.ssh/config:1: charly does not judge `exec`, so this block does not apply",
            "/home/me/.ssh/config:4: charly takes no unknown host key, whatever `accept-new` says",
        ]
    );
    assert_eq!(
        config("StrictHostKeyChecking yes\nStrictHostKeyChecking no", "web").expect("a configuration").notes,
        []
    );
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    for (text, expected) in [
        ("\nPort ssh", "2: `ssh` is no value of `port`"),
        ("Port 0", "1: `0` is no value of `port`"),
        ("Port", "1: `port` has no value"),
        ("User \"\"", "1: `user` has no value"),
        ("User a b", "1: `user` has more than one value"),
        ("User \"a", "1: a quote that is not closed"),
        ("HostName -oX", "1: `-oX` names no host"),
        ("HostName a\\'b", "1: `a\\'b` names no host"),
        ("HostName %p", "1: `%p` has no meaning here"),
        ("IdentityFile %", "1: `%` has no meaning here"),
        ("IdentityFile ~other/a", "1: the home folder of `other` is not looked up"),
        ("IdentityFile ${NONE}", "1: the variable `NONE` is not set"),
        ("IdentityFile ${NONE", "1: a `${` without its `}`"),
        ("IdentitiesOnly maybe", "1: `maybe` is no value of `identitiesonly`"),
        ("ConnectTimeout soon", "1: `soon` is no value of `connecttimeout`"),
        ("StrictHostKeyChecking maybe", "1: `maybe` is no value of `stricthostkeychecking`"),
        ("ProxyJump a,-b", "1: `proxyjump` names a host that cannot be"),
        ("Match host", "1: `host` has no value"),
    ] {
        let error = config(text, "web").expect_err(text);
        assert_eq!(error.to_string(), format!("/home/me/.ssh/config:{expected}"), "{text:?}");
        assert!(!error.hint.is_empty(), "{text:?}");
    }
}

#[test]
fn files_are_included_where_they_stand() {
    let read = |pattern: &Path| {
        Ok(match pattern.to_str() {
            Some("/home/me/.ssh/conf.d/*") => {
                vec![("a".into(), "Host web\nPort 1\nHost db\nPort 2".to_owned()), ("b".into(), "User b".to_owned())]
            }
            Some("/home/me/x") => vec![("x".into(), "User x".to_owned())],
            _ => Vec::new(),
        })
    };
    for (text, asked, expected) in [
        ("Include conf.d/*\nUser c\nPort 3", "web", "b@web:1"),
        ("Include conf.d/*\nUser c\nPort 3", "other", "b@other:3"),
        ("Host db\nInclude conf.d/*\nHost *\nPort 3", "web", "me@web:3"),
        // A block of an included file ends with the file.
        ("Host web\nInclude conf.d/*\nHostName h", "web", "b@h:1"),
        ("Include nothing ~/x", "web", "x@web:22"),
    ] {
        assert_eq!(way(&with_files(text, asked, &read).expect(text)), expected, "{text:?}");
    }
}

#[test]
fn files_that_include_each_other_or_cannot_be_read_are_refused() {
    let circle = |_: &Path| Ok(vec![("circle".into(), "Include circle".to_owned())]);
    let error = with_files("Include circle", "web", &circle).expect_err("a circle");
    assert_eq!(error.to_string(), "circle:1: files include each other too deeply");
    let closed = |_: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let error = with_files("Include closed", "web", &closed).expect_err("a closed file");
    assert_eq!(error.to_string(), "/home/me/.ssh/config:1: `/home/me/.ssh/closed` cannot be read");
    assert!(std::error::Error::source(&error).is_some());
}
