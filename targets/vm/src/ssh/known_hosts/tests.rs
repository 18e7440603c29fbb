//! Verdicts as a table, and what OpenSSH's own program writes and finds.

use std::fs;
use std::process::Command;

use super::*;

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDegZoEDtEli+1gIQ9Vd4vI9YuZkthD96jiGfdl53JopdTkZ7RwsoRJOzbB/ug4P+6wz3YcL4VBL6ZhxbOMo5D1PJiy7ZoMcInxIfB7MeNty0BlRzCZLwgedd797yDWivQc2XWX40pn0C+5FkFymeBtxtIfaNp5si6SXEwR59RBGQ==";
const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPUkXgImiy+Dqih50yHMyE+4zvA+aa+DeNVtf9XiOiASs6RX9THDN3ogU15dpoozXq3TUveeQR1jtCYHr2NQxZQ=";

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).expect("a key")
}

fn hosts(text: &str) -> KnownHosts {
    KnownHosts::parse([(Path::new("file"), text)])
}

/// A verdict in a few words.
fn told(verdict: &Verdict) -> String {
    let places = |places: Vec<&Place>| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match verdict {
        Verdict::Known => "known".to_owned(),
        Verdict::Unknown { files: _, others, authorities } => {
            format!(
                "unknown {}|{}",
                places(others.iter().map(|known| &known.place).collect()),
                places(authorities.iter().collect())
            )
        }
        Verdict::Changed { known, .. } => format!("changed {}", known.place),
        Verdict::Revoked { place } => format!("revoked {place}"),
    }
}

#[test]
fn verdicts_on_one_key() {
    for (text, host, port, expected) in [
        (format!("web {ONE}"), "web", 22, "known"),
        (format!("web {ONE} a comment"), "WEB", 22, "known"),
        (format!("  a,Web,b\t{ONE}\r"), "web", 22, "known"),
        (format!("web {TWO}"), "web", 22, "changed file:1"),
        (format!("web {TWO}\nweb {ONE}"), "web", 22, "known"),
        (format!("web {RSA}\nweb {ECDSA}"), "web", 22, "unknown file:1 file:2|"),
        (format!("# web {ONE}\n\n"), "web", 22, "unknown |"),
        (format!("db {ONE}"), "web", 22, "unknown |"),
        // Ports.
        (format!("[web]:2222 {ONE}"), "web", 2222, "known"),
        (format!("[web]:2222 {ONE}"), "web", 22, "unknown |"),
        (format!("[web]:22 {ONE}"), "web", 22, "unknown |"),
        (format!("web {ONE}"), "web", 2222, "known"),
        (format!("web {TWO}"), "web", 2222, "unknown |"),
        (format!("web {ONE}\n[web]:2222 {TWO}"), "web", 2222, "changed file:2"),
        (format!("2001:db8::1 {ONE}"), "2001:db8::1", 22, "known"),
        (format!("[2001:db8::1]:2222 {ONE}"), "2001:DB8::1", 2222, "known"),
        // Patterns.
        (format!("*.org,!b.org {ONE}"), "a.org", 22, "known"),
        (format!("*.org,!b.org {ONE}"), "b.org", 22, "unknown |"),
        (format!("!b.org {ONE}"), "a.org", 22, "unknown |"),
        (format!("we? {ONE}"), "web", 22, "known"),
        (format!("[web]:* {ONE}"), "web", 2222, "known"),
        // What is revoked is so wherever it stands.
        (format!("web {ONE}\n@revoked * {ONE}"), "web", 22, "revoked file:2"),
        (format!("@revoked web {ONE}\nweb {ONE}"), "web", 2222, "revoked file:1"),
        (format!("@revoked web {TWO}\nweb {ONE}"), "web", 22, "known"),
        (format!("@revoked db {ONE}\nweb {ONE}"), "web", 22, "known"),
        (format!("@revoked web {TWO}"), "web", 22, "unknown |"),
        (format!("@cert-authority * {ONE}"), "web", 22, "unknown |file:1"),
        (format!("@cert-authority * {TWO}\nweb {ONE}"), "web", 22, "known"),
    ] {
        let hosts = hosts(&text);
        assert_eq!(told(&hosts.judge(host, port, &key(ONE))), expected, "{text}");
        assert_eq!(hosts.notes(), [], "{text}");
    }
}

#[test]
fn a_changed_key_is_shown_beside_the_known_one() {
    let hosts = KnownHosts::parse([(Path::new("a"), "\n"), (Path::new("b"), format!("\nweb {TWO}").as_str())]);
    let expected = Verdict::Changed {
        known: KnownKey {
            place: Place { file: "b".into(), line: 2 },
            algorithm: Algorithm::Ed25519,
            fingerprint: key(TWO).fingerprint(HashAlg::Sha256),
        },
        theirs: key(ONE).fingerprint(HashAlg::Sha256),
    };
    assert_eq!(hosts.judge("web", 22, &key(ONE)), expected);
    let Verdict::Unknown { files, .. } = hosts.judge("db", 22, &key(ONE)) else { panic!("the host is unknown") };
    assert_eq!(files, [Path::new("a"), Path::new("b")]);
}

#[test]
fn broken_lines_are_passed_over_and_noted() {
    let text = format!(
        "web\nweb ssh-ed25519\nweb ssh-ed25519 AAAA\n@other web {ONE}\n|1|x {ONE}\n|2|a|b {ONE}\nweb 1024 35 123\nweb {ONE}"
    );
    let hosts = hosts(&text);
    let notes: Vec<_> =
        hosts.notes().iter().map(|note| note.to_string().split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        notes,
        [
            "file:1: a line without names, a key's kind and the key",
            "file:2: a line without names, a key's kind and the key",
            "file:3: no key",
            "file:4: the marker `@other` is not known",
            "file:5: a hashed name that is none",
            "file:6: a hashed name that is none",
            "file:7: no key",
        ]
    );
    assert_eq!(hosts.judge("web", 22, &key(ONE)), Verdict::Known);
}

#[test]
fn algorithms_are_those_of_known_keys() {
    let rsa = [Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }];
    let text = format!(
        "web {ONE}\nweb {TWO}\nweb {RSA}\n[web]:2222 {ECDSA}\n@revoked web {ECDSA}\n@cert-authority web {ECDSA}"
    );
    let hosts = hosts(&text);
    let [sha512, sha256] = rsa;
    assert_eq!(hosts.algorithms_known("web", 22), [Algorithm::Ed25519, sha512.clone(), sha256.clone()]);
    assert_eq!(hosts.algorithms_known("web", 2222), [Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 }]);
    assert_eq!(hosts.algorithms_known("web", 3333), [Algorithm::Ed25519, sha512, sha256]);
    assert_eq!(hosts.algorithms_known("db", 22), []);
}

#[test]
fn cures_are_safe_to_paste() {
    for (cure, expected) in [
        (
            cure_unknown("web", 22, None, None, Path::new("/home/me/.ssh/known_hosts")),
            "ssh-keyscan web >> /home/me/.ssh/known_hosts",
        ),
        (cure_unknown("web", 2222, None, None, Path::new("/a b/$(id)")), "ssh-keyscan -p 2222 web >> '/a b/$(id)'"),
        (cure_changed("web", 22, Path::new("/k")), "ssh-keygen -R web -f /k"),
        (cure_changed("Web", 2222, Path::new("/it's")), "ssh-keygen -R '[web]:2222' -f \"/it's\""),
    ] {
        assert_eq!(cure, expected);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn what_ssh_keygen_hashes_and_finds_we_find() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known_hosts");
    let names = ["web", "db.example.org,192.0.2.1", "[web]:2222", "2001:db8::1", "[2001:db8::1]:2222", "old"];
    let lines: Vec<_> =
        names.iter().zip([ONE, RSA, ECDSA, TWO, ONE, TWO]).map(|(name, key)| format!("{name} {key}\n")).collect();
    fs::write(&file, lines.concat()).expect("a file");
    let plain = KnownHosts::parse([(file.as_path(), fs::read_to_string(&file).expect("a text").as_str())]);
    let Ok(done) = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output() else {
        eprintln!("skipped: `ssh-keygen` is not installed");
        return;
    };
    assert!(done.status.success(), "{done:?}");
    let text = fs::read_to_string(&file).expect("a text");
    assert_eq!(text.lines().filter(|line| line.starts_with("|1|")).count(), 7, "{text}");
    let hashed = KnownHosts::parse([(file.as_path(), text.as_str())]);
    assert_eq!(hashed.notes(), []);
    for (host, port) in [
        ("web", 22),
        ("web", 2222),
        ("db.example.org", 22),
        ("192.0.2.1", 22),
        ("2001:db8::1", 22),
        ("2001:db8::1", 2222),
        ("old", 22),
        ("other", 22),
        ("192.0.2.2", 22),
    ] {
        let [name, _] = names_of(host, port);
        let found = Command::new("ssh-keygen")
            .args(["-F", &name, "-f"])
            .arg(&file)
            .output()
            .expect("ssh-keygen")
            .status
            .success();
        assert_eq!(!hashed.algorithms_known(host, port).is_empty(), found, "{name}");
        for key in [ONE, TWO, RSA, ECDSA].map(key) {
            let [of_hashed, of_plain] =
                [&hashed, &plain].map(|hosts| std::mem::discriminant(&hosts.judge(host, port, &key)));
            assert_eq!(of_hashed, of_plain, "{name} {key:?}");
        }
    }
}

fn names_of(host: &str, port: u16) -> [String; 2] {
    super::names(host, port)
}
