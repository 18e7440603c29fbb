//! What candies become: exactly this.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use charly_ir::facts::{Facts, Init, PackageManager};
use charly_ir::plan::{Action, BuilderKind, Content};
use charly_plans::compile::{Compiled, Options, compile};
use charly_plans::diagnostic::Diagnostics;
use charly_plans::load::{Settings, Workspace};
use charly_plans::resolve::LayerRef;

use crate::venues::{debian, distributions, facts};

/// Compiles one candy of these lines, beside the files named.
fn compiled(lines: &str, files: &[(&str, &str)], facts: &Facts, options: &Options) -> Result<Compiled, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("candy:\n  name: demo\n  version: 2026.165.0930\n  description: A demo\n{lines}");
    let home = folder.path().join("candy/demo");
    for (path, text) in [("charly.yml", text.as_str())].iter().chain(files) {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    compile_in(folder.path(), &["demo"], facts, options)
}

fn compile_in(folder: &Path, names: &[&str], facts: &Facts, options: &Options) -> Result<Compiled, Diagnostics> {
    let settings = Settings { folder: folder.to_owned(), ..Settings::default() };
    let (mut workspace, found) = Workspace::load(&settings);
    assert!(found.is_empty(), "{}", found.render(false));
    let layers: Vec<_> = names.iter().map(|name| LayerRef::parse(name).unwrap()).collect();
    compile(&workspace.resolve(&layers)?, facts, options)
}

#[test]
fn every_part_of_a_candy() {
    let lines = r#"
  package: [git, {name: curl, description: why}]
  distro:
    deb: {package: [family]}
    debian: {package: [distro], without: [git], option: [--a]}
    debian-13: {package: [version], option: [--b], repo: [{name: x, url: "https://r/d", key: "https://r/k", suite: s, components: c}]}
    fedora: {package: [other]}
  var: {V: v1.2}
  env: {DEMO_HOME: "~/.demo", LIBS: "/usr/lib:$HOME/lib"}
  path_append: ["~/.demo/bin"]
  shell: {init: 'eval "$(demo hook ${SHELL_NAME})"', fish: {init: "demo hook fish | source", path_append: ["~/it's"]}}
  service:
    - name: demo
      exec: "%(ENV_HOME)s/bin/demo --say 'a $HOME 100%' --"
      env: {A: "b c"}
      restart: unless-stopped
      after: [network-online.target, other]
      working_directory: ~/work
      stdout: file:/var/log/demo.log
      stop_timeout: 30
      stop_signal: int
      scope: user
    - {name: web, exec: /usr/bin/web}
    - {name: web, use_packaged: nginx, enable: true, overrides: {exec: "/usr/sbin/nginx -g 'daemon off;'", env: {X: 1}}}
  port: [8080, "udp:53"]
  volume: [{name: data, path: "~/.demo/data"}]
  secret_require: [{name: TOKEN, key: demo/token}]
  env_require: [{name: REGION, description: where}]
  env_accept: [{name: LEVEL, default: info}]
  hook: {post_enable: "echo enabled", pre_remove: "echo bye"}
  artifact: [{name: config, path: /etc/demo/out, retrieve_to: "~/.demo/out", wait_second: 5, rewrite: [{find: a, replace: b}]}]
  reboot: true
  plan:
    - {run: body, command: "echo ${V} ~ $HOME", env: {B: "${V}"}, uninstall: [~/made], creates: ["/opt/${V}"], timeout: 2m}
    - {run: as ann, command: "true", run_as: "${USER}"}
    - {run: as ann, command: "false", run_as: postgres}
    - {run: folder, mkdir: "/opt/${V}/"}
    - {run: folder at home, mkdir: "${HOME}/x", mode: "0700"}
    - {run: file, copy: conf, to: /etc/demo/, run_as: root}
    - {run: files, copy: tree, to: /etc/demo/tree}
    - {run: text, write: ~/.demorc, content: "home ${V} {{.Home}}\n"}
    - {run: secret, write: /etc/demo/token, secret: demo/token}
    - {run: link, link: /usr/bin/demo, target: "~/bin/demo"}
    - {run: get, download: "https://d/${V}/demo-${ARCH}-${BUILD_ARCH}.tgz?x=1", extract: tar.gz, to: /usr/local/bin, extract_include: ["demo-${V}"], strip_components: 1}
    - {run: get one, download: "https://d/demo", to: /usr/local/bin/, mode: "0755", sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}
    - {run: script, download: "https://d/install.sh", extract: sh, env: {DIR: ~/x}}
    - {run: caps, setcap: /usr/bin/demo, caps: cap_net_bind_service=+ep}
    - {run: more, package: extra, package_map: {"debian:13": extra-13}}
    - {run: unit, service: cron, enabled: false}
    - {run: not here, command: x, exclude_distros: [debian]}
    - {run: not now, command: x, context: [runtime]}
    - {check: file, file: "~/.demorc", mode: "0644", contains: [home, {not_contains: x}], id: rc}
    - {check: out, command: "demo ${V}", stdout: {matches: "^v[0-9]"}, exit_status: 0, context: [build, deploy]}
    - {check: up, service: demo, running: true, eventually: 30s, retry_interval: 500ms, timeout: 5s, context: [runtime]}
    - {check: up, service: web, running: true}
    - {check: net, addr: "127.0.0.1:${HOST_PORT:8080}", reachable: true}
    - {check: data, file: "${VOLUME_CONTAINER_PATH:data}/x", exists: true}
    - {check: elsewhere, http: "http://${K8S_NAME}/", status: 200}
    - {check: pkg, package: extra, package_map: {debian: extra-deb}, installed: true}
    - {check: live, mcp: ping, tool: x}
    - {agent-check: it feels right}
"#;
    let options = Options {
        env: BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]),
        secrets: BTreeSet::from(["demo/token".to_owned()]),
        ..Options::default()
    };
    let files = [("conf", "c\n"), ("tree/a", "a"), ("tree/b/c", "bc")];
    let compiled =
        compiled(lines, &files, &debian(), &options).unwrap_or_else(|found| panic!("{}", found.render(false)));
    insta::assert_json_snapshot!(compiled.plan);
    let blobs: BTreeSet<_> = compiled.blobs.keys().copied().collect();
    assert_eq!(blobs, compiled.plan.blobs().into_keys().collect());
    assert!(compiled.warnings.is_empty());
}

#[test]
fn repositories_by_manager() {
    let lines = r#"
  distro:
    deb: {repo: [{name: Flat Repo, url: "https://r/d", key: "https://r/k", suite: ./}]}
    rpm:
      repo: [{name: x, url: "https://r/x.repo"}, {name: y, url: "https://r/$basearch", gpgkey: "https://r/k"}, {name: some-release, rpm: "https://r/release.rpm"}]
      copr: [owner/project, "@group/tool"]
    pac: {repo: [{name: x, url: "https://r/x"}]}
    apk: {repo: [{name: x, url: "https://r/x", key: "https://r/x-1.rsa.pub"}]}
"#;
    let mut all = BTreeMap::new();
    for facts in distributions() {
        let compiled = compiled(lines, &[], &facts, &Options::default()).unwrap();
        let actions: Vec<_> = compiled.plan.candies[0].steps.iter().map(|step| step.action.clone()).collect();
        all.insert(facts.os.tag(), actions);
    }
    insta::assert_json_snapshot!(all);
}

#[test]
fn what_cannot_be_done_is_said_all_at_once() {
    let lines = r#"
  distro: {fedora: {package: [x]}, "arch,alpine": {package: [y]}}
  env_require: [{name: REGION, description: the region}]
  secret_require: [{name: TOKEN}]
  plan:
    - {run: file, copy: missing, to: /etc/x}
    - {run: where, download: "https://x/y"}
"#;
    let found = compiled(lines, &[], &debian(), &Options::default()).unwrap_err();
    let folder = "candy/demo/charly.yml";
    assert!(found.iter().all(|finding| finding.place.as_ref().unwrap().source.name() == folder));
    insta::assert_snapshot!(found.render(false));
}

#[test]
fn without_a_supervisor_services_are_carried() {
    let alpine = facts("ID=alpine\nVERSION_ID=3.22.1\n", PackageManager::Apk, Init::None);
    let compiled = compiled("  service: [{name: a, exec: /a}]\n", &[], &alpine, &Options::default()).unwrap();
    let [step] = compiled.plan.candies[0].steps.as_slice() else { panic!() };
    let want =
        Action::Unsupported { what: "service".into(), reason: "nothing here supervises services with units: a".into() };
    assert_eq!(step.action, want);
}

#[test]
fn builders_are_found_by_their_files() {
    let files = [("package.json", "{}"), ("Cargo.toml", ""), ("pyproject.toml", ""), ("uv.lock", "")];
    for (lines, phase) in [("", "builders"), ("  plan: [{run: now, build: all}]\n", "configure")] {
        let compiled = compiled(lines, &files, &debian(), &Options::default()).unwrap();
        let steps = &compiled.plan.candies[0].steps;
        let ids: Vec<_> = steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["builder:npm", "builder:cargo", "builder:uv", "env"]);
        assert_eq!(serde_json::to_value(steps[0].phase).unwrap(), phase);
        assert_eq!(compiled.blobs.len(), 2, "equal bytes are one blob");
    }
}

#[test]
fn builders_take_the_folder_and_bring_a_path() {
    let files = [("requirements.txt", "x==1\n"), ("src/x.py", "pass\n"), (".venv/bin/python", "")];
    let options = Options { builders: [(BuilderKind::Uv, "mine:1".to_owned())].into(), ..Options::default() };
    let built = compiled("  path_append: [\"~/bin\"]\n", &files, &debian(), &options).unwrap();
    insta::assert_json_snapshot!(built.plan.candies[0].steps);

    let arch = facts("ID=arch\n", PackageManager::Pacman, Init::Systemd);
    let lines = "  distro: {arch: {package: [git, old], aur: {package: [yay-bin], replace: [old]}}}\n";
    let aur = compiled(lines, &[], &arch, &Options::default()).unwrap();
    insta::assert_json_snapshot!(aur.plan.candies[0].steps);
}

#[test]
fn large_files_are_not_kept_in_memory() {
    let big = "x".repeat(300 << 10);
    let lines = "  plan: [{run: big, copy: big, to: /big}]\n";
    let compiled = compiled(lines, &[("big", &big)], &debian(), &Options::default()).unwrap();
    let Some(file) = compiled.plan.candies[0].steps[0].action.placement() else { panic!() };
    let Content::Blob { digest, size } = &file.content else { panic!() };
    assert_eq!(*size, 300 << 10);
    assert!(matches!(compiled.blobs[digest], charly_plans::load::Blob::File(..)));
}
