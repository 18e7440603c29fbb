//! Projects: what is found, what stands over what, and what is said when something is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use charly_plans::diagnostic::Diagnostics;
use charly_plans::load::{Origin, Settings, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::validate_documents;

/// A folder of files.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    /// Adds a candy with further lines.
    fn candy(self, folder: &str, lines: &str) -> Self {
        let name = folder.rsplit('/').next().unwrap();
        self.named(folder, name, lines)
    }

    fn named(self, folder: &str, name: &str, lines: &str) -> Self {
        let text = format!("candy:\n  name: {name}\n  version: 2026.165.0930\n  description: A {name}\n{lines}");
        self.write(&format!("{folder}/charly.yml"), &text);
        self
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            folder: self.0.path().to_owned(),
            machine_file: Some(self.0.path().join("machine.yml")),
            cache: self.0.path().join("cache"),
            ..Settings::default()
        }
    }

    fn load(&self) -> Workspace {
        let (workspace, found) = Workspace::load(&self.settings());
        assert!(found.is_empty(), "{}", found.render(false));
        workspace
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn order(workspace: &mut Workspace, names: &[&str]) -> Result<Vec<String>, Diagnostics> {
    let layers: Vec<_> = names.iter().map(|name| LayerRef::parse(name).unwrap()).collect();
    let resolved = workspace.resolve(&layers)?;
    Ok(resolved.candies.iter().map(|candy| candy.loaded.name().to_owned()).collect())
}

#[test]
fn candies_are_found_where_the_project_says() {
    let tree = Tree::new(&[("charly.yml", "discover: [{path: layers, recursive: true}, {path: flat}]\n")])
        .candy("layers/deep/er/a", "")
        .candy("layers/b", "")
        .candy("layers/b/inner", "")
        .candy("layers/.hidden", "")
        .candy("flat/c", "")
        .candy("flat/deep/d", "")
        .candy("candy/e", "");
    let workspace = tree.load();
    let all = workspace.candies();
    let found: Vec<_> =
        all.iter().filter(|(_, candy)| candy.origin == Origin::Project).map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, ["a", "b", "c"]);
}

#[test]
fn references_are_names_paths_and_imports() {
    let tree = Tree::new(&[("charly.yml", "import: [lib, {team: ../team/charly.yml}]\ncandy: {own: {name: own, version: 2026.165.0930, description: x, require: [liba]}}\n")])
        .candy("candy/top", "  require: [own, team.t, ./sub, hello]\n")
        .candy("candy/top/sub", "")
        .candy("lib/candy/liba", "  require: [libb]\n")
        .candy("lib/candy/libb", "");
    // The imported project lies beside this one.
    let outer = Tree::new(&[]).candy("team/candy/t", "  require: [u]\n").candy("team/candy/u", "");
    fs::rename(tree.path(), outer.path().join("project")).unwrap();
    let settings = Settings { folder: outer.path().join("project"), ..Settings::default() };
    let (mut workspace, found) = Workspace::load(&settings);
    assert!(found.is_empty(), "{}", found.render(false));
    assert_eq!(order(&mut workspace, &["top"]).unwrap(), ["hello", "libb", "liba", "own", "sub", "u", "t", "top"]);
    assert_eq!(order(&mut workspace, &["./candy/top/sub", "sub"]).unwrap_err().iter().count(), 1);
    assert!(workspace.validate().is_empty());
}

#[test]
fn a_project_stands_over_shipped_candies() {
    let tree = Tree::new(&[]).candy("candy/hello", "");
    let workspace = tree.load();
    assert_eq!(workspace.candies()["hello"].candy.summary(), "A hello");
}

#[test]
fn the_machine_stands_over_the_project() {
    let project = "
local: {base: {candy: [hello]}}
deploy:
  web: {target: local, local: base, candy: [ripgrep], env: {A: project, B: project}, port: ['80']}
  other: {target: vm, vm: m}
vm: {m: {source: {cloud_image: {url: 'https://x'}}, ram: 2G}}
";
    let machine =
        "deploy: {web: {env: {B: machine}, candy: [tmux]}, mine: {candy: [hello]}}\nvm: {m: {source: {}, ram: 8G}}\n";
    let tree = Tree::new(&[("charly.yml", project), ("machine.yml", machine)]);
    let (workspace, _) = Workspace::load(&tree.settings());
    let web = &workspace.deploys()["web"];
    let env: Vec<_> = web.deploy.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "project"), ("B", "machine")]);
    assert_eq!(web.deploy.port.len(), 1);
    let candies: Vec<_> = web.candies.iter().map(|(reference, place)| format!("{reference} {place}")).collect();
    assert_eq!(candies, ["hello charly.yml:2:24", "tmux machine.yml:1:43"]);
    assert!(web.place.to_string().starts_with("machine.yml:1:"));
    assert_eq!(workspace.vms()["m"].value.ram.as_ref().unwrap().value, "8G");
    assert!(workspace.vms()["m"].value.source.cloud_image.is_some());
}

#[test]
fn what_is_wrong_with_a_project() {
    let tree = Tree::new(&[(
        "charly.yml",
        "import: [nowhere]\ndiscover: [{path: candy}, {path: gone}]\ndeploy:\n  web: {target: vm, vm: machin, candy: [helo, a]}\nvm: {machine: {source: {bootc: {box: x}}}}\n",
    )])
    .candy("candy/a", "  require:\n    - b\n    - postgres\n    - ./sub\n")
    .candy("candy/b", "  candy: [c]\n")
    .candy("candy/c", "  require: [a]\n")
    .named("candy/d", "a", "")
    .candy("candy/e", "  plan:\n    - {run: x, copy: gone, to: x/y}\n");
    let (mut workspace, mut all) = Workspace::load(&tree.settings());
    let text = all.render(false);
    all = workspace.validate();
    insta::assert_snapshot!(format!("==== load\n{text}\n==== validate\n{}", all.render(false)));
}

#[test]
fn a_cycle_is_shown_whole() {
    let tree = Tree::new(&[])
        .candy("candy/a", "  require: [z, b]\n")
        .candy("candy/b", "  candy: [c]\n")
        .candy("candy/c", "  require: [a]\n")
        .candy("candy/z", "");
    insta::assert_snapshot!(order(&mut tree.load(), &["b"]).unwrap_err().render(false));
}

#[test]
fn documents_are_judged_by_themselves() {
    let tree = Tree::new(&[("stray.yml", "candy: {name: x}\n")])
        .candy("a", "  require: [nowhere]\n  plan:\n    - {run: x, copy: gone, to: x/y}\n    - {run: y, command: z, run_as: 'a b'}\n");
    let paths = ["a", "stray.yml", "gone"].map(PathBuf::from);
    insta::assert_snapshot!(validate_documents(&paths, tree.path()).render(false));
}

#[test]
fn a_repository_is_fetched_once_and_uses_its_own_names() {
    let tree = Tree::new(&[]).candy("candy/top", "  require: [example.org/o/r/candy/x@main]\n");
    let origin = Tree::new(&[]).candy("o/r/candy/x", "  require: [y]\n").candy("o/r/candy/y", "");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(origin.path().join("o/r")).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = git.args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let mirror = ("https://example.org/".to_owned(), format!("file://{}/", origin.path().display()));
    let settings = Settings { mirrors: vec![mirror], ..tree.settings() };
    let (mut workspace, _) = Workspace::load(&settings);
    assert_eq!(order(&mut workspace, &["top"]).unwrap(), ["y", "x", "top"]);
    let resolved = workspace.resolve(&[LayerRef::parse("top").unwrap()]).unwrap();
    let want = Origin::Repository { url: "https://example.org/o/r".into(), commit };
    assert_eq!(resolved.candies[0].loaded.origin, want);

    drop(origin);
    let (mut workspace, _) = Workspace::load(&Settings { offline: true, ..settings });
    assert_eq!(order(&mut workspace, &["top"]).unwrap(), ["y", "x", "top"]);
}
