//! Boxes: what they start from, and what candies become in an image.

use std::fs;

use charly_ir::facts::User;
use charly_plans::compile::{Options, Supervisor, compile};
use charly_plans::image::{Base, ImagePlan, for_image};
use charly_plans::load::{Settings, Workspace};
use charly_plans::resolve::LayerRef;

use crate::venues::debian;

const DEMO: &str = r#"candy:
  name: demo
  version: 2026.165.0930
  description: A demo
  package: [git]
  env: {DEMO_HOME: "~/.demo"}
  path_append: ["~/.demo/bin"]
  shell: {init: 'eval "$(demo hook ${SHELL_NAME})"'}
  reboot: true
  hook: {post_enable: "echo enabled", pre_remove: "echo bye"}
  port: [8080]
  service:
    - {name: mine, exec: "%(ENV_HOME)s/bin/demo --say 'a 100%' --", env: {A: "b\"c"}, restart: always, scope: user, stdout: "file:/var/log/mine"}
    - {name: web, use_packaged: nginx, enable: true}
    - {name: web, exec: /usr/bin/web, priority: 5, stop_signal: sigint, stop_timeout: 30, enable: false}
  plan:
    - {run: body, command: "echo $HOME", env: {X: "~/x"}, uninstall: ["~/made"]}
    - {run: home, write: "~/.demorc", content: "home = {{.Home}}\n"}
    - {run: link, link: ~/bin/demo, target: ~/.demo/bin/demo}
"#;

fn project(text: &str) -> (tempfile::TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("candy/demo")).unwrap();
    fs::write(folder.path().join("candy/demo/charly.yml"), DEMO).unwrap();
    fs::write(folder.path().join("charly.yml"), text).unwrap();
    let (workspace, found) = Workspace::load(&Settings { folder: folder.path().to_owned(), ..Settings::default() });
    assert!(found.is_empty(), "{}", found.render(false));
    (folder, workspace)
}

fn image(user: &User, supervisor: Supervisor) -> ImagePlan {
    let (_folder, mut workspace) = project("version: 2026.001.0000\n");
    let resolved = workspace.resolve(&[LayerRef::parse("demo").unwrap()]).unwrap();
    let options = Options { supervisor, ..Options::default() };
    let compiled = compile(&resolved, &debian(), &options).unwrap_or_else(|found| panic!("{}", found.render(false)));
    for_image(compiled.plan, user, supervisor, vec!["/opt/base".into()])
        .unwrap_or_else(|found| panic!("{}", found.render(false)))
}

fn shown(image: &ImagePlan) -> serde_json::Value {
    let ImagePlan { plan, env, path, notes } = image;
    let text = serde_json::to_string(plan).unwrap();
    assert!(!text.replace("home = {{.Home}}", "").contains("{{."), "{text}");
    serde_json::json!({ "plan": plan, "env": env, "path": path, "notes": notes })
}

#[test]
fn a_user_of_an_image_owns_what_is_in_the_home() {
    let user = debian().user;
    insta::assert_json_snapshot!(shown(&image(&user, Supervisor::Systemd)));
}

#[test]
fn supervisord_runs_what_has_a_command() {
    let root = User { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: "/bin/bash".into() };
    insta::assert_json_snapshot!(shown(&image(&root, Supervisor::Supervisord)));
}

#[test]
fn a_chain_ends_where_no_box_is() {
    let boxes = "box:\n  base: {base: 'bootstrap:debian-13'}\n  web: {base: base, candy: [demo]}\n  app: {from: web}\n";
    let (_folder, workspace) = project(boxes);
    let chain = workspace.chain("app").unwrap();
    let names: Vec<_> = chain.boxes.iter().map(|layer| (layer.name.as_str(), layer.base.clone())).collect();
    let want = [
        ("base", Base::Bootstrap("debian-13".into())),
        ("web", Base::Box("base".into())),
        ("app", Base::Box("web".into())),
    ];
    assert_eq!(names, want);
}

#[test]
fn a_base_that_is_none_is_named() {
    let boxes = "box:\n  a: {base: b}\n  b: {base: a}\n  c: {candy: [demo]}\n  d: {base: debian}\n";
    let (_folder, workspace) = project(boxes);
    let said: Vec<_> = ["a", "c", "d", "e"].map(|name| workspace.chain(name).unwrap_err().render(false)).into();
    insta::assert_snapshot!(said.join("\n"));
}
