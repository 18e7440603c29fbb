//! What podman knows and does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use charly_ir::Digest;
use charly_ir::facts::User;
use charly_ir::message::Problem;
use serde::Deserialize;

use crate::environment::command_environment;
use crate::process::{self, Cancel, Captured, Exit, Program};
use crate::worker::WorkError;

/// The most of what podman says that is kept.
const CAP: usize = 4 << 20;

/// How long a question may take: storage may be busy with somebody else's image.
const QUESTION: Duration = Duration::from_secs(300);

/// Podman, for one user.
#[derive(Debug, Clone)]
pub(super) struct Podman<'a> {
    user: &'a User,
    cancel: &'a Cancel,
}

/// An image that storage says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its id.
    pub id: Digest,
    /// What it is called.
    pub tags: BTreeSet<String>,
    /// Its layers, lowest first; none where its driver does not keep them as folders.
    pub layers: Vec<StoredLayer>,
}

/// A layer in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredLayer {
    /// The digest of its uncompressed archive.
    pub diff: Digest,
    /// The folder of what storage knows of it; its tree is in `diff`.
    pub folder: PathBuf,
}

/// What a check of all of storage found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checked {
    /// Nothing is wrong.
    Whole,
    /// Some images are damaged.
    Damaged(Damage),
    /// This podman is too old to tell.
    Unable,
}

/// What is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Damage {
    /// Images, by id.
    pub images: BTreeSet<Digest>,
    /// Layers, by what storage calls them.
    pub layers: BTreeSet<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    #[serde(rename = "ImageID")]
    image: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    id: String,
}

impl Stored {
    /// Returns where storage keeps everything, where it keeps layers as folders.
    pub(super) fn storage(&self) -> Option<PathBuf> {
        self.layers.first()?.folder.ancestors().nth(2).map(PathBuf::from)
    }
}

/// Finds the layers of an image that podman has just taken, without asking it: that takes a good part of a small delivery's time.
pub(super) fn chain(storage: &Path, diffs: &[Digest]) -> Option<Vec<StoredLayer>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Known {
        id: String,
        #[serde(default)]
        parent: String,
        #[serde(default)]
        diff_digest: String,
    }
    let known = std::fs::read(storage.join("overlay-layers/layers.json")).ok()?;
    let known: Vec<Known> = serde_json::from_slice(&known).ok()?;
    let mut parent = "";
    let mut found = Vec::new();
    for diff in diffs {
        let is_it = |layer: &&Known| layer.parent == parent && digest(&layer.diff_digest) == Some(*diff);
        let layer = known.iter().find(is_it)?;
        parent = &layer.id;
        found.push(StoredLayer { diff: *diff, folder: storage.join("overlay").join(digest(&layer.id)?.to_string()) });
    }
    Some(found)
}

impl<'a> Podman<'a> {
    pub(super) fn new(user: &'a User, cancel: &'a Cancel) -> Self {
        Self { user, cancel }
    }

    /// Returns those of some images that storage has, by id or name.
    pub(super) fn images(&self, which: &[&str]) -> Result<Vec<Stored>, WorkError> {
        let asked = self.run(&[&["image", "inspect"], which].concat())?;
        // That one of them is not there is an answer, too.
        if asked.exit != Exit::Status(0) && asked.stdout.text().trim().is_empty() {
            return Err(failed("cannot say which images it has", &asked));
        }
        let images = parse_images(&asked.stdout.bytes).map_err(|error| {
            let problem = Problem::new("podman said something about its images that makes no sense");
            WorkError::Program(Box::new(problem.because(error.to_string())))
        })?;
        let missing_is_all = |stderr: &str| stderr.contains("not known") || stderr.contains("no such");
        if images.is_empty() && asked.exit != Exit::Status(0) && !missing_is_all(&asked.stderr.text()) {
            return Err(failed("cannot say which images it has", &asked));
        }
        Ok(images)
    }

    /// Returns the containers that use any of some images.
    pub(super) fn containers_of(&self, images: &BTreeSet<Digest>) -> Result<Vec<String>, WorkError> {
        let asked = self.run(&["ps", "--all", "--external", "--format", "json"])?;
        let containers: Vec<Container> = match serde_json::from_slice(&asked.stdout.bytes) {
            Ok(containers) if asked.exit == Exit::Status(0) => containers,
            _ => return Err(failed("cannot say which containers it has", &asked)),
        };
        let uses = |container: &Container| container.image.parse().is_ok_and(|image| images.contains(&image));
        let name = |container: Container| {
            let name = container.names.unwrap_or_default().into_iter().next();
            name.unwrap_or_else(|| container.id.chars().take(12).collect())
        };
        Ok(containers.into_iter().filter(uses).map(name).collect())
    }

    /// Looks at every byte of storage.
    pub(super) fn check(&self) -> Result<Checked, WorkError> {
        let asked = self.run_for(&["system", "check"], Duration::from_secs(3600))?;
        let said = asked.stdout.text().into_owned() + &asked.stderr.text();
        if asked.exit == Exit::Status(0) {
            return Ok(Checked::Whole);
        }
        let damage = parse_check(&said);
        if !damage.images.is_empty() || !damage.layers.is_empty() {
            return Ok(Checked::Damaged(damage));
        }
        if said.contains("unrecognized command") || said.contains("unknown command") {
            return Ok(Checked::Unable);
        }
        Err(failed("cannot check its storage", &asked))
    }

    /// Gives an image a name, which another image may have had.
    pub(super) fn tag(&self, image: Digest, name: &str) -> Result<(), WorkError> {
        let tagged = self.run(&["tag", &image.to_string(), name])?;
        if tagged.exit == Exit::Status(0) {
            Ok(())
        } else {
            Err(failed(&format!("cannot name the image `{name}`"), &tagged))
        }
    }

    /// Takes an image away; false where a container uses it, or somebody gave it another name.
    pub(super) fn remove(&self, image: Digest, whatever_its_names: bool) -> Result<bool, WorkError> {
        let id = image.to_string();
        let removed = match whatever_its_names {
            false => self.run(&["rmi", &id])?,
            true => {
                // Podman's `--force` takes containers with it that came to be since they were looked for.
                self.run(&["untag", &id])?;
                self.run(&["rmi", &id])?
            }
        };
        Ok(removed.exit == Exit::Status(0))
    }

    /// Makes ready to run podman with more in its environment.
    pub(super) fn program(&self, arguments: &[&str], more: &[(&str, &Path)]) -> Program {
        let mut env = command_environment(self.user, &[], &std::collections::BTreeMap::new());
        let runtime = PathBuf::from(format!("/run/user/{}", self.user.uid));
        if self.user.uid != 0 && runtime.is_dir() {
            env.insert("XDG_RUNTIME_DIR".into(), runtime.into());
        }
        env.extend(more.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
        let argv = std::iter::once("podman").chain(arguments.iter().copied()).map(OsString::from).collect();
        Program { argv, env, cwd: "/".into(), user: None, stdin: Vec::new(), limit: None, script: None }
    }

    /// Runs podman, whatever comes of it.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Captured, WorkError> {
        self.run_for(arguments, QUESTION)
    }

    fn run_for(&self, arguments: &[&str], limit: Duration) -> Result<Captured, WorkError> {
        let program = Program { limit: Some(limit), ..self.program(arguments, &[]) };
        self.finish(&program)
    }

    /// Runs a program made by [`program`](Self::program).
    pub(super) fn finish(&self, program: &Program) -> Result<Captured, WorkError> {
        let captured = process::run_captured(program, self.cancel, CAP).map_err(|error| not_run(&error))?;
        if captured.exit == Exit::Killed { Err(WorkError::Cancelled) } else { Ok(captured) }
    }
}

fn not_run(error: &io::Error) -> WorkError {
    WorkError::Unfit(Box::new(if error.kind() == io::ErrorKind::NotFound {
        Problem::new("there is no podman on the machine").hint(
            "install it there: `sudo apt-get install podman`, or `dnf`, `pacman -S`, `apk add` with the same name",
        )
    } else {
        Problem::new("podman cannot be run").because(error.to_string())
    }))
}

/// Says that podman failed, with its own words.
pub(super) fn failed(what: &str, captured: &Captured) -> WorkError {
    let said = captured.stderr.text();
    let said = said.trim();
    let mut problem = Problem::new(format!("podman {what}: it ended with {}", captured.exit));
    if !said.is_empty() {
        let tail: Vec<_> = said.lines().rev().take(10).collect();
        problem = problem.because(tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    if said.contains("no space left on device") {
        problem = problem.hint("make room there: while it takes an image, podman needs room for its layers twice");
    }
    WorkError::Program(Box::new(problem))
}

fn parse_images(json: &[u8]) -> Result<Vec<Stored>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        #[serde(rename = "RootFS")]
        root: Root,
        #[serde(default)]
        graph_driver: Driver,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Root {
        #[serde(default)]
        layers: Option<Vec<String>>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase")]
    struct Driver {
        #[serde(default)]
        data: Option<Data>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Data {
        lower_dir: String,
        upper_dir: String,
    }
    let inspected: Vec<Inspected> = serde_json::from_slice(json)?;
    Ok(inspected
        .into_iter()
        .filter_map(|image| {
            let id = digest(&image.id)?;
            let diffs: Vec<_> =
                image.root.layers.unwrap_or_default().iter().filter_map(|layer| digest(layer)).collect();
            let Data { lower_dir, upper_dir } = image.graph_driver.data.unwrap_or_default();
            // Written from the top down.
            let folders: Vec<_> = std::iter::once(upper_dir.as_str()).chain(lower_dir.split(':')).collect();
            let folders = folders.into_iter().rev().filter_map(|tree| tree.strip_suffix("/diff"));
            let folders: Vec<_> = folders.filter(|folder| folder.starts_with('/')).map(PathBuf::from).collect();
            let layers = if folders.len() == diffs.len() {
                diffs.into_iter().zip(folders).map(|(diff, folder)| StoredLayer { diff, folder }).collect()
            } else {
                Vec::new()
            };
            Some(Stored { id, tags: image.repo_tags.unwrap_or_default().into_iter().collect(), layers })
        })
        .collect())
}

fn parse_check(said: &str) -> Damage {
    let mut damage = Damage::default();
    for line in said.lines() {
        let Some(rest) = line.strip_prefix("Damaged ") else { continue };
        match rest.trim_end_matches(':').split_once(' ') {
            Some(("image", id)) => damage.images.extend(digest(id)),
            Some((kind, id)) if kind == "layer" || kind.ends_with("layer") => {
                damage.layers.insert(id.to_owned());
            }
            _ => {}
        }
    }
    damage
}

fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:").unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(of: &str) -> Digest {
        Digest::of(of.as_bytes())
    }

    #[test]
    fn layers_are_told_lowest_first() {
        let json = format!(
            r#"[{{"Id":"{}","RepoTags":["localhost/a:1"],"RootFS":{{"Type":"layers","Layers":["sha256:{}","sha256:{}","sha256:{}"]}},
                "GraphDriver":{{"Name":"overlay","Data":{{"LowerDir":"/s/overlay/mid/diff:/s/overlay/low/diff","UpperDir":"/s/overlay/top/diff","WorkDir":"/w"}}}}}}]"#,
            id("image"),
            id("1"),
            id("2"),
            id("3")
        );
        let found = parse_images(json.as_bytes()).unwrap();
        let folders: Vec<_> = found[0].layers.iter().map(|layer| layer.folder.to_str().unwrap()).collect();
        assert_eq!(folders, ["/s/overlay/low", "/s/overlay/mid", "/s/overlay/top"]);
        assert_eq!(found[0].layers[0].diff, id("1"));
        assert!(found[0].tags.contains("localhost/a:1"));
    }

    #[test]
    fn one_layer_and_other_drivers_are_read_too() {
        let image = |driver: &str| {
            let (image, layer) = (id("image"), id("1"));
            let json = format!(
                r#"[{{"Id":"{image}","RepoTags":null,"RootFS":{{"Layers":["sha256:{layer}"]}},"GraphDriver":{driver}}}]"#
            );
            parse_images(json.as_bytes()).unwrap().remove(0).layers
        };
        assert_eq!(image(r#"{"Name":"overlay","Data":{"UpperDir":"/s/overlay/top/diff"}}"#).len(), 1);
        assert_eq!(image(r#"{"Name":"vfs","Data":{}}"#), []);
        assert_eq!(image(r#"{"Name":"vfs","Data":null}"#), []);
        assert!(parse_images(b"{}").is_err());
    }

    #[test]
    fn a_chain_of_layers_is_found_by_what_they_are() {
        let storage = tempfile::tempdir().unwrap();
        std::fs::create_dir(storage.path().join("overlay-layers")).unwrap();
        let layers = serde_json::json!([
            { "id": id("one").to_string(), "diff-digest": format!("sha256:{}", id("1")) },
            { "id": id("other").to_string(), "diff-digest": format!("sha256:{}", id("2")) },
            { "id": id("two").to_string(), "parent": id("one").to_string(), "diff-digest": format!("sha256:{}", id("2")) },
            { "id": "../out", "parent": id("two").to_string(), "diff-digest": format!("sha256:{}", id("3")) },
        ]);
        std::fs::write(storage.path().join("overlay-layers/layers.json"), layers.to_string()).unwrap();
        let found = chain(storage.path(), &[id("1"), id("2")]).unwrap();
        let folder = storage.path().join("overlay").join(id("two").to_string());
        assert_eq!(found[1], StoredLayer { diff: id("2"), folder });
        assert_eq!(chain(storage.path(), &[id("1"), id("2"), id("3")]), None);
        assert_eq!(chain(storage.path(), &[id("1"), id("1")]), None);
        assert_eq!(chain(Path::new("/nowhere"), &[id("1")]), None);
    }

    #[test]
    fn a_check_names_what_is_damaged() {
        let (layer, image) = (id("layer"), id("image"));
        let said = format!(
            "Damaged layer {layer}:\n2 errors occurred:\n\t* layer {layer}: gone\n\nDamaged image {image}:\n\t* x\n\nError: damage detected\n"
        );
        let damage = parse_check(&said);
        assert_eq!(damage.images, BTreeSet::from([image]));
        assert_eq!(damage.layers, BTreeSet::from([layer.to_string()]));
        assert_eq!(parse_check("Error: something else"), Damage::default());
    }
}
