//! What an image is called, here and where it goes.

use std::path::{Path, PathBuf};

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In an OCI layout, which is a folder or an archive of one.
    Layout {
        /// Its path.
        path: PathBuf,
        /// Which of its images, where there are several.
        name: Option<String>,
    },
    /// In what `docker save` and `podman save` write.
    DockerArchive {
        /// Its path.
        path: PathBuf,
        /// Which of its images, where there are several.
        name: Option<String>,
    },
    /// In podman's storage, by name or id.
    Named(String),
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no image: {why}")]
pub struct BadReference {
    text: String,
    why: &'static str,
}

impl BadReference {
    /// Says what would name one.
    pub const HINT: &str = "write a name such as `web` or `registry.example.org/team/web:1.0`";
}

/// The prefixes that say what an image is in.
const LAYOUTS: [&str; 2] = ["oci:", "oci-archive:"];
const DOCKER: &str = "docker-archive:";
const STORAGE: &str = "containers-storage:";

impl Reference {
    /// Reads a reference. Relative paths start from `folder`; what looks like a path and is there is one.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, BadReference> {
        let bad = |why| BadReference { text: text.chars().take(200).collect(), why };
        if let Some(rest) = LAYOUTS.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            let (path, name) = path_and_name(rest, folder).ok_or_else(|| bad("there is no path in it"))?;
            return Ok(Self::Layout { path, name });
        }
        if let Some(rest) = text.strip_prefix(DOCKER) {
            let (path, name) = path_and_name(rest, folder).ok_or_else(|| bad("there is no path in it"))?;
            return Ok(Self::DockerArchive { path, name });
        }
        if let Some(name) = text.strip_prefix(STORAGE) {
            return Self::named(name).ok_or_else(|| bad("podman has no such names"));
        }
        let path = folder.join(text);
        let looks_like_one =
            text.starts_with(['/', '.']) || Path::new(text).extension().is_some_and(|end| end == "tar");
        if looks_like_one || (path.is_dir() && path.join("oci-layout").exists()) {
            return Ok(match kind(&path) {
                Some(Kind::Layout) => Self::Layout { path, name: None },
                Some(Kind::Docker) => Self::DockerArchive { path, name: None },
                None if path.exists() => return Err(bad("it is neither an OCI layout nor a docker archive")),
                None => return Err(bad("there is no such path")),
            });
        }
        Self::named(text).ok_or_else(|| bad("podman has no such names"))
    }

    fn named(name: &str) -> Option<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        (!name.is_empty() && name.chars().all(fine) && !name.starts_with('-')).then(|| Self::Named(name.to_owned()))
    }
}

enum Kind {
    Layout,
    Docker,
}

fn kind(path: &Path) -> Option<Kind> {
    let tree = super::tree::Tree::open(path).ok()?;
    if tree.has("oci-layout") { Some(Kind::Layout) } else { tree.has("manifest.json").then_some(Kind::Docker) }
}

/// Divides `PATH[:NAME]`. A path may have colons of its own.
fn path_and_name(text: &str, folder: &Path) -> Option<(PathBuf, Option<String>)> {
    let whole = folder.join(text);
    if text.is_empty() {
        return None;
    }
    match text.split_once(':') {
        Some((path, name)) if !whole.exists() && !path.is_empty() => Some((folder.join(path), Some(name.to_owned()))),
        _ => Some((whole, None)),
    }
}

/// Writes a name in full, with a registry and a tag: what has no registry is this machine's own.
pub fn full_name(name: &str) -> Result<String, BadReference> {
    let bad = |why| BadReference { text: name.chars().take(200).collect(), why };
    let last = name.rsplit('/').next().unwrap_or_default();
    let (repository, tag) = match last.rsplit_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], tag),
        None => (name, "latest"),
    };
    let has_registry = repository
        .split_once('/')
        .is_some_and(|(registry, _)| registry == "localhost" || registry.contains(['.', ':']));
    let repository = if has_registry { repository.to_owned() } else { format!("localhost/{repository}") };
    let tag_is_fine = !tag.is_empty() && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let part_is_fine = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    if name.contains('@') {
        return Err(bad("a digest names what is there, not what it shall be called"));
    }
    if !tag_is_fine || !repository.split('/').skip(1).all(part_is_fine) {
        return Err(bad("only lower-case letters, digits, `.`, `_`, `-` and `/` can be in it, and a tag behind a `:`"));
    }
    Ok(format!("{repository}:{tag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        std::fs::create_dir(here.join("layout")).unwrap();
        std::fs::write(here.join("layout/oci-layout"), "{}").unwrap();
        std::fs::write(here.join("a:b.tar"), "").unwrap();
        let layout =
            |path: &str, name: Option<&str>| Reference::Layout { path: here.join(path), name: name.map(Into::into) };
        let docker = |path: &str, name: Option<&str>| Reference::DockerArchive {
            path: here.join(path),
            name: name.map(Into::into),
        };
        for (text, want) in [
            ("layout", layout("layout", None)),
            ("./layout", layout("./layout", None)),
            ("oci:layout:1.0", layout("layout", Some("1.0"))),
            ("oci-archive:x.tar", layout("x.tar", None)),
            ("docker-archive:a:b.tar", docker("a:b.tar", None)),
            ("docker-archive:x.tar:web:1", docker("x.tar", Some("web:1"))),
            ("web", Reference::Named("web".into())),
            ("localhost:5000/a/b@sha256:00", Reference::Named("localhost:5000/a/b@sha256:00".into())),
            ("containers-storage:layout", Reference::Named("layout".into())),
        ] {
            assert_eq!(Reference::parse(text, here).as_ref(), Ok(&want), "{text}");
        }
        for bad in ["", "oci:", "docker-archive:", "./nothing", "nothing.tar", "-x", "a b", "$(x)"] {
            assert!(Reference::parse(bad, here).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_in_full_has_a_registry_and_a_tag() {
        for (name, want) in [
            ("web", "localhost/web:latest"),
            ("web:1.0", "localhost/web:1.0"),
            ("team/web", "localhost/team/web:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("docker.io/library/debian:13", "docker.io/library/debian:13"),
        ] {
            assert_eq!(full_name(name).as_deref(), Ok(want), "{name}");
        }
        for bad in ["", "Web", "web:", "web@sha256:00", "a//b", "a b", "/web", "web:a/b c"] {
            assert!(full_name(bad).is_err(), "{bad:?}");
        }
    }
}
