//! What is said about documents that are wrong: exactly this.

use std::fmt::Write as _;

use charly_plans::source::Source;
use charly_plans::validate_text;

/// A candy with further lines.
fn candy(lines: &str) -> String {
    format!("candy:\n  name: demo\n  version: 2026.165.0930\n  description: A demo\n{lines}")
}

#[test]
fn messages() {
    let deep = "[".repeat(100_000);
    let cases: Vec<(&str, String)> = vec![
        ("syntax: tab", "candy:\n\tname: demo\n".into()),
        ("syntax: unclosed", "candy: {name: demo\n".into()),
        ("syntax: too deep", format!("candy: {deep}")),
        ("syntax: quote", candy("  env: {A: \"x}\n")),
        ("not a mapping", "- a\n- b\n".into()),
        ("nothing", String::new()),
        ("one key", "candy: demo\n".into()),
        ("missing keys", "candy:\n  name: demo\n".into()),
        ("unknown keys", candy("  pakage: [git]\n  discription: x\n  zzz: 1\n")),
        ("duplicate keys", candy("  env: {A: 1, A: 2}\n  name: other\n")),
        ("bad version", "candy: {name: demo, version: 2026.65.930, description: x}\n".into()),
        ("version as number", "candy: {name: demo, version: 2026.165, description: x}\n".into()),
        ("bad name", "candy: {name: My Demo, version: 2026.165.0930, description: x}\n".into()),
        (
            "wrong types",
            candy("  require: nodejs\n  port: [http, 0, 70000]\n  reboot: yes\n  env: [A]\n  service: {name: x}\n"),
        ),
        ("PATH", candy("  env: {PATH: /x, 1A: y}\n")),
        (
            "variables",
            candy(
                "  var: {lower: 1}\n  plan:\n    - {run: x, mkdir: \"/opt/${VERSON}\"}\n    - {run: y, mkdir: '/opt/${HOME'}\n",
            ),
        ),
        (
            "paths",
            candy(
                "  plan:\n    - {run: x, mkdir: opt/x}\n    - {run: x, mkdir: /opt/../etc}\n    - {run: x, copy: ../../etc/shadow, to: /x}\n    - {run: x, mkdir: ~/x, run_as: root}\n",
            ),
        ),
        (
            "modes",
            candy(
                "  plan:\n    - {run: x, mkdir: /x, mode: rwxr-xr-x}\n    - {run: x, write: /x, mode: \"0888\", content: ''}\n    - {run: x, write: /x, secret: token, mode: '0644'}\n",
            ),
        ),
        ("no intent", candy("  plan:\n    - {comand: ls}\n    - {runn: x, command: ls}\n    - {}\n")),
        ("two intents", candy("  plan:\n    - {run: x, check: y, command: ls}\n")),
        ("two verbs", candy("  plan:\n    - {run: x, command: ls, mkdir: /x}\n    - {check: x, file: /x, port: 80}\n")),
        (
            "no verb",
            candy(
                "  plan:\n    - {run: x}\n    - {run: x, comand: ls}\n    - {run: x, http: 'http://x'}\n    - {check: x}\n",
            ),
        ),
        (
            "unknown modifiers",
            candy(
                "  plan:\n    - {run: x, command: ls, mode: '0644'}\n    - {check: x, file: /x, exist: true}\n    - {check: x, fil: /x}\n",
            ),
        ),
        (
            "checks",
            candy(
                "  plan:\n    - {check: x, file: /x, filetype: folder}\n    - {check: x, command: ls, stdout: [{matches: '('}]}\n    - {check: x, port: http}\n    - {check: x, http: example.org}\n    - {check: x, addr: x, timeout: soon}\n",
            ),
        ),
        ("matchers", candy("  plan:\n    - {check: x, command: ls, stdout: [{contain: x}]}\n")),
        (
            "services",
            candy(
                "  service:\n    - {name: a, exec: /x, use_packaged: a}\n    - {name: b}\n    - {name: b, exec: 'x \"y'}\n    - {name: b, exec: '-/bin/x'}\n    - {name: 'c d', exec: /x, restart: sometimes}\n",
            ),
        ),
        ("references", candy("  require: [demo, a, a, 'github.com/x', '../ok', 'A b']\n")),
        (
            "repositories",
            candy(
                "  distro:\n    debian: {repo: [{name: a, url: 'https://x/y'}, {name: b}, {name: c, url: ftp://x, key: 'https://k'}]}\n    Fedora: {}\n",
            ),
        ),
        ("packages", candy("  package: ['-y', 'a b', {nam: x}]\n")),
        ("merge", candy("  env: {<<: 1}\n")),
        ("alias", candy("  env: *nothing\n")),
        ("tag", candy("  env: !secret {A: 1}\n")),
        ("two documents", candy("---\na: 1\n")),
        (
            "project",
            "version: 1\nimprt: []\nvm: {a: {source: {}}}\ndeploy: {a/b/c: {targt: vm}, d: {target: pods}}\n".into(),
        ),
        (
            "context",
            candy(
                "  plan:\n    - {run: x, command: ls, context: [runtme]}\n    - {run: x, command: ls, context: build}\n",
            ),
        ),
        ("unicode", candy("  env: {Ä: 1}\n  pläne: []\n")),
        ("fine", candy("")),
    ];
    let mut all = String::new();
    for (name, text) in cases {
        let found = validate_text(&Source::new("charly.yml", text));
        writeln!(all, "==== {name}\n{}\n", found.render(false)).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn bytes_that_are_no_document() {
    let program = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat();
    let utf16: Vec<u8> = "candy:\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let huge = vec![b'#'; 10 << 20];
    let mut all = String::new();
    for (name, bytes) in
        [("program", program), ("UTF-16", utf16), ("10 MB", huge), ("Latin-1", b"candy: caf\xe9\n".to_vec())]
    {
        let finding = Source::from_bytes("charly.yml", bytes).unwrap_err();
        writeln!(all, "==== {name}\n{}\n", finding.render(false)).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_machine_readable_form_says_the_same() {
    let found = validate_text(&Source::new("charly.yml", candy("  pakage: [git]\n  env: {A: 1, A: 2}\n")));
    insta::assert_json_snapshot!(found.iter().collect::<Vec<_>>());
}

/// Nobody reads thousands of findings, and finding them must not take longer than reading the document.
#[test]
fn a_document_that_is_all_mistakes_gives_a_list_that_can_be_read() {
    let steps = |step: &str| candy(&format!("  plan:\n{}", step.repeat(4000)));
    let keys = (0..4000).map(|key| format!("  unknown_key_{key}: 1")).collect::<Vec<_>>().join("\n");
    for (name, text, count) in [
        ("steps alike", steps("    - {run: x, mkdir: /x}\n"), 0),
        ("no verb", steps("    - {run: x}\n"), 201),
        ("bad paths", steps("    - {run: x, mkdir: x}\n"), 201),
        ("unknown modifiers", steps("    - {check: x, file: /x, exsts: true}\n"), 201),
        ("required twice", candy(&format!("  require: [{}]\n", "a, ".repeat(4000))), 201),
        ("unknown keys", candy(&keys), 201),
        ("long key", candy(&format!("  {}: 1\n", "k".repeat(1000))), 1),
    ] {
        let found = validate_text(&Source::new("charly.yml", text));
        assert_eq!(found.iter().count(), count, "{name}");
        let last = found.iter().last().map(ToString::to_string).unwrap_or_default();
        assert_eq!(last.ends_with("more in this document"), count > 200, "{name}: {last}");
    }
}
