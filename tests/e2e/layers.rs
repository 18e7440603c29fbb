//! Boxes of files alone, which need no guest: an image depends on its recipe, what changed is built, and nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// The files of a project with a box of three layers, and one upon it.
const FILES: [(&str, &str); 7] = [
    (
        "charly.yml",
        "version: 2026.001.0000\nbox:\n  three: {base: scratch, candy: [one, two, last], label: {org.example.x: y}}\n  top: {base: three, candy: [over]}\n",
    ),
    (
        "candy/one/charly.yml",
        "candy: {name: one, version: 2026.001.0000, description: Files, plan: [{run: f, copy: files, to: /opt/one}]}\n",
    ),
    ("candy/one/files/a", "a"),
    ("candy/one/files/deep/b", "b"),
    (
        "candy/two/charly.yml",
        "candy: {name: two, version: 2026.002.0000, description: A file, require: [one], plan: [{run: f, write: /opt/two, content: two}]}\n",
    ),
    (
        "candy/last/charly.yml",
        "candy: {name: last, version: 2026.003.0000, description: A file, require: [two], plan: [{run: f, write: /opt/last, content: x}]}\n",
    ),
    (
        "candy/over/charly.yml",
        "candy: {name: over, version: 2026.004.0000, description: A file, plan: [{run: f, write: /opt/over, content: x}]}\n",
    ),
];

/// What somebody does to a project, with what writes a file of it.
type Change = fn(&mut Place, &dyn Fn(&mut Place, &str, &str));

/// A project, and somebody who builds in it.
struct Place {
    project: TempDir,
    home: TempDir,
    env: BTreeMap<&'static str, String>,
}

impl Place {
    fn new<'a>(files: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Self {
        let (project, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = Self { project, home, env: BTreeMap::new() };
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    /// The same project, built in by somebody who never has.
    fn anew(&self) -> Self {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(self.project.path().join(".")).arg(project.path()).status();
        assert!(copied.unwrap().success());
        let machine = self.home.path().join(".config");
        if machine.exists() {
            assert!(Command::new("cp").arg("-r").arg(machine).arg(home.path()).status().unwrap().success());
        }
        Self { project, home, env: self.env.clone() }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.project.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.home.path().join(".local/share/charly")
    }

    fn run(&self, umask: &str, arguments: &str) -> Output {
        let script = format!("umask {umask} && exec \"$0\" {arguments}");
        let mut shell = Command::new("/bin/sh");
        // Nothing is run: there is nothing that could be.
        shell.env_clear().env("HOME", self.home.path()).env("PATH", "").envs(&self.env);
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_charly")]).current_dir(self.project.path());
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Builds a box, and returns its id and what was said.
    fn build(&self, arguments: &str) -> (String, String) {
        let output = self.run("022", &format!("box build {arguments}"));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        (id, String::from_utf8(output.stderr).unwrap())
    }

    fn inspect(&self, name: &str) -> Value {
        serde_json::from_slice(&self.run("022", &format!("box inspect {name}")).stdout).unwrap()
    }

    /// Waits until no file of the project can change any more and look as if it had not.
    fn settle(&self) {
        let newest = newest(self.project.path());
        while SystemTime::now().duration_since(UNIX_EPOCH).unwrap() < newest + Duration::from_millis(150) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn newest(folder: &Path) -> Duration {
    let changed = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        Duration::new(found.ctime().unsigned_abs(), u32::try_from(found.ctime_nsec()).unwrap())
    };
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { newest(&path) } else { changed(&path) })
        .chain([changed(folder)])
        .max()
        .unwrap()
}

#[test]
fn an_image_depends_on_its_recipe_alone() {
    let one = Place::new(FILES.iter());
    let other = Place::new(FILES.iter().rev());
    let file = other.project.path().join("candy/one/files/a");
    fs::File::open(&file).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    one.run("022", "box build top --threads 1");
    other.run("077", "box build top --threads 4");
    let (first, second) = (one.inspect("top"), other.inspect("top"));
    assert_eq!(first["id"], second["id"]);
    assert_eq!(first["layers"], second["layers"]);
    assert_eq!(first["layers"].as_array().unwrap().len(), 4, "one a candy");

    // Nothing is later than somebody says.
    let mut early = Place::new(FILES.iter());
    early.env.insert("SOURCE_DATE_EPOCH", "0".to_owned());
    early.build("top");
    let image = early.inspect("top");
    assert_eq!(image["config"]["created"], "1970-01-01T00:00:00Z", "{image}");
    assert_ne!(image["id"], first["id"]);

    // The same upon the same from elsewhere.
    one.run("022", "box push three oci:layout");
    for form in ["oci-archive", "docker-archive"] {
        one.run("022", &format!("box push three {form}:{form}.tar"));
    }
    let mut ids = Vec::new();
    for base in ["oci:layout", "oci-archive:oci-archive.tar", "docker-archive:docker-archive.tar"] {
        one.write("charly.yml", &FILES[0].1.replace("top: {base: three", &format!("top: {{base: \"{base}\"")));
        one.build("top");
        let image = one.inspect("top");
        ids.push(image["config"]["rootfs"]["diff_ids"].clone());
    }
    assert_eq!(ids, vec![first["config"]["rootfs"]["diff_ids"].clone(); 3]);
}

#[test]
fn what_changed_is_built_and_what_is_above_it() {
    let place = Place::new(FILES.iter());
    let (id, said) = place.build("top");
    for line in [
        "[1/3] one is built",
        "[2/3] two is built",
        "[3/3] last is built",
        "[1/1] over is built",
        "built localhost/top",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let text = FILES[4].1.replace("content: two", "content: new");
    place.write(FILES[4].0, &text);
    let (changed, said) = place.build("three");
    assert_ne!(id, changed);
    for line in ["[1/3] one was built before", "[2/3] two is built", "[3/3] last is built"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn what_did_not_change_is_known_without_a_plan_and_what_did_is_not() {
    let mut place = Place::new(FILES.iter());
    place.settle();
    let (id, said) = place.build("top");
    assert!(said.contains("[3/3] last is built") && said.contains("built localhost/top"), "{said}");
    // Whoever compiled would look for the layers there, and build them again.
    fs::remove_dir_all(place.data().join("build/built")).unwrap();
    let (again, said) = place.build("top");
    assert_eq!(again, id);
    for line in [
        "[1/3] one was built before",
        "[3/3] last was built before",
        "[1/1] over was built before",
        "nothing changed in localhost/top",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }

    // Whatever is changed is seen, and the image is the one that somebody builds who knows nothing of the former.
    let set = |place: &mut Place, path: &str, text: &str| place.write(path, text);
    let changes: [(&str, Change); 10] = [
        ("a file, to another of the same size and time", |place, _| {
            let path = place.project.path().join("candy/one/files/a");
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "A").unwrap();
            fs::File::open(&path).unwrap().set_modified(modified).unwrap();
        }),
        ("a file that is new", |place, set| set(place, "candy/one/files/deep/new", "n")),
        ("a file of another name", |place, _| {
            let folder = place.project.path().join("candy/one/files/deep");
            fs::rename(folder.join("new"), folder.join("named")).unwrap();
        }),
        ("a file that is gone", |place, _| {
            fs::remove_file(place.project.path().join("candy/one/files/deep/named")).unwrap();
        }),
        ("a candy of the base", |place, set| {
            set(place, FILES[4].0, &FILES[4].1.replace("content: two", "content: new"));
        }),
        ("a candy's version", |place, set| set(place, FILES[6].0, &FILES[6].1.replace("2026.004", "2026.005"))),
        ("a label", |place, set| set(place, FILES[0].0, &FILES[0].1.replace("x: y", "x: z"))),
        ("another candy of the same name", |place, _| {
            let candy = place.project.path().join("candy");
            fs::rename(candy.join("over"), candy.join("moved")).unwrap();
            let text = FILES[6].1.replace("content: x", "content: moved");
            fs::write(candy.join("moved/charly.yml"), text).unwrap();
        }),
        ("the machine's own file", |place, _| {
            let folder = place.home.path().join(".config/charly");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("charly.yml"), "version: 2026.001.0000\nbox: {top: {env: {A: b}}}\n").unwrap();
        }),
        ("the time", |place, _| drop(place.env.insert("SOURCE_DATE_EPOCH", "7".to_owned()))),
    ];
    let mut last = id;
    for (what, change) in changes {
        change(&mut place, &set);
        place.settle();
        let (id, _) = place.build("top");
        assert_ne!(id, last, "{what}");
        assert_eq!(id, place.anew().build("top").0, "{what}");
        assert!(place.build("top").1.contains("nothing changed in localhost/top"), "{what}");
        last = id;
    }

    // What the store has lost is built again.
    let layer = place.inspect("three")["layers"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    fs::remove_file(place.data().join("images/blobs/sha256").join(layer)).unwrap();
    let (id, said) = place.build("top");
    assert!(said.contains("[1/3] one is built"), "{said}");
    assert_eq!(id, last);
    // Nor is another image of that name the box's.
    place.run("022", "box merge top --as localhost/top:latest");
    let (id, said) = place.build("top");
    assert!(said.contains("built localhost/top"), "{said}");
    assert_eq!(id, last);
    assert!(place.build("top --no-cache").1.contains("[1/3] one is built"));
}

#[test]
fn a_deploy_is_what_candies_and_box_say() {
    let candy = "candy:
  name: shop
  version: 2026.001.0000
  description: A shop
  port: [80]
  volume: [{name: data, path: ~/data}]
  env_require: [{name: SHOP_NAME, description: What it is called}, {name: SHOP_MODE, default: open}]
  secret_require: [{name: SHOP_TOKEN, description: Who may}]
  security: {cap_add: [NET_BIND_SERVICE]}
  plan: [{run: f, write: /opt/shop, content: x}]
";
    let project = "version: 2026.001.0000
box:
  shop: {base: scratch, candy: [shop], description: A shop in a box, user: app, uid: 1234, port: ['8443:443'], label: {org.example.x: y},
    env: {A: b}, security: {cap_add: [NET_ADMIN]}}
";
    let place = Place::new([("charly.yml", project), ("candy/shop/charly.yml", candy)].iter());
    place.run("022", "box validate shop");
    place.run("022", "box build shop --env SHOP_NAME=ours --secret SHOP_TOKEN=env:HOME");
    let text = |arguments: &str| String::from_utf8(place.run("022", arguments).stdout).unwrap();
    let (own, all) = (text("box labels shop"), text("box labels shop --all"));
    assert!(!own.contains("org.example.x") && all.contains("org.example.x"), "{all}");

    let deploy = text("bundle from-box shop mine");
    assert!(deploy.starts_with("# It holds charly-user 2026.001.0000, shop 2026.001.0000.\n"), "{deploy}");
    let item: Value =
        serde_json::from_str(text("bundle from-box shop mine --format json").lines().next().unwrap()).unwrap();
    let item = &item["item"];
    let said = &item["deploy"];
    assert_eq!(said["box"], "localhost/shop:latest", "{item}");
    assert_eq!(said["description"], "A shop in a box", "{item}");
    assert_eq!(said["port"], serde_json::json!(["80", "8443:443"]), "{item}");
    assert_eq!(said["volume"], serde_json::json!([{ "name": "data", "path": "~/data" }]), "{item}");
    assert_eq!(said["env"]["SHOP_MODE"], "open", "{item}");
    assert_eq!(said["secret"], serde_json::json!([{ "env": "SHOP_TOKEN", "name": "SHOP_TOKEN" }]), "{item}");
    assert_eq!(said["security"]["cap_add"], serde_json::json!(["NET_BIND_SERVICE", "NET_ADMIN"]), "{item}");
    let asked: Vec<_> = item["asked"].as_array().unwrap().iter().map(|asked| asked["name"].clone()).collect();
    assert_eq!(asked, ["SHOP_NAME", "SHOP_TOKEN"], "{item}");
    // No value of a secret or of what was given is in the image.
    assert!(!all.contains(place.home.path().to_str().unwrap()), "{all}");

    // What is printed is what a project may declare.
    let other = Place::new([("charly.yml", format!("version: 2026.001.0000\n{deploy}").as_str())].iter());
    other.run("022", "validate");
}
