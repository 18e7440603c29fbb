//! The names that images have in registries, and where else they are.

use std::fmt;
use std::path::PathBuf;

use charly_ir::Digest;

use super::SourceError;

const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// Where an image is, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An OCI layout: a folder with `index.json` and blobs.
    Layout {
        /// The folder.
        path: PathBuf,
        /// Which image of it, where there are several.
        name: Option<String>,
    },
    /// An OCI layout in a tar archive.
    Archive {
        /// The archive.
        path: PathBuf,
        /// Which image of it, where there are several.
        name: Option<String>,
    },
    /// A tar archive as `docker save` writes it.
    Docker {
        /// The archive.
        path: PathBuf,
        /// Which image of it, where there are several.
        name: Option<String>,
    },
    /// A registry.
    Registry(Reference),
}

/// The name of an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with its port where that is not the usual one.
    pub host: String,
    /// The name there.
    pub repository: String,
    /// The tag, unless there is only a digest.
    pub tag: Option<String>,
    /// The digest that the manifest must have.
    pub digest: Option<Digest>,
}

impl Place {
    /// Reads `oci:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, `docker-archive:PATH[:NAME]`, `docker://REFERENCE`, or a reference
    /// alone.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let file = |rest: &str| {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() || name == Some("") {
                return Err(invalid(text, "a path belongs after the colon"));
            }
            Ok((PathBuf::from(path), name.map(str::to_owned)))
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            file(rest).map(|(path, name)| Self::Layout { path, name })
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            file(rest).map(|(path, name)| Self::Archive { path, name })
        } else if let Some(rest) = text.strip_prefix("docker-archive:") {
            file(rest).map(|(path, name)| Self::Docker { path, name })
        } else {
            Reference::parse(text.strip_prefix("docker://").unwrap_or(text)).map(Self::Registry)
        }
    }
}

impl Reference {
    /// Reads a reference; a short one means what it means to docker.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = |why| invalid(text, why);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
                (rest, Some(digest.ok_or_else(|| wrong("its digest is no SHA-256 digest"))?))
            }
            None => (text, None),
        };
        // A colon before a slash is the port's.
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        let (host, repository) = match rest.split_once('/') {
            Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest.to_owned()),
            Some(_) => ("docker.io", rest.to_owned()),
            None => ("docker.io", format!("library/{rest}")),
        };
        let repository = match (host, repository.as_str()) {
            ("docker.io" | "index.docker.io", name) if !name.contains('/') => format!("library/{name}"),
            _ => repository,
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        if !is_host(host) {
            return Err(wrong("its registry is no host name"));
        }
        if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_component) {
            return Err(wrong("names are lower-case letters and digits with single `.`, `_`, `-` and `/` between"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("tags are letters, digits, `.`, `_` and `-`"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// Returns what the manifest is asked for by: the digest if there is one.
    pub(super) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, tag, digest } = self;
        write!(f, "{host}/{repository}")?;
        if let Some(tag) = tag {
            write!(f, ":{tag}")?;
        }
        digest.map_or(Ok(()), |digest| write!(f, "@sha256:{digest}"))
    }
}

fn invalid(text: &str, why: &'static str) -> SourceError {
    SourceError::Reference { text: text.chars().take(300).collect(), why }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_v6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    (is_v6 || is_name) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port))
}

/// Tells whether a part of a name is letters and digits with separators between: `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_plain =
        bytes.first().is_some_and(|byte| is_plain(*byte)) && bytes.last().is_some_and(|byte| is_plain(*byte));
    ends_plain
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !tag.is_empty()
        && tag.len() <= MAX_TAG
        && is_word(tag.as_bytes()[0])
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_mean_what_they_mean_to_docker() {
        let digest = format!("debian@sha256:{HEX}");
        let both = format!("ghcr.io/a/b:c@sha256:{HEX}");
        for (text, want) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:13", "docker.io/library/debian:13"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("127.0.0.1:5000/a/b-c/d__e.f:V1.2-x", "127.0.0.1:5000/a/b-c/d__e.f:V1.2-x"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (&both, &both),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), want, "{text}");
        }
        let parsed = Reference::parse(&digest).unwrap();
        assert_eq!(parsed.to_string(), format!("docker.io/library/debian@sha256:{HEX}"));
        assert_eq!(parsed.wanted(), format!("sha256:{HEX}"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Debian",
            "a//b",
            "a/../b",
            "a.-b",
            "a___b",
            "-a",
            "a:",
            "a:-x",
            "a:x/y",
            "a@sha256:12",
            "a@md5:12",
            "evil.example/../x",
            "host:70000/a",
            "host:05/a",
            "a b/c",
            "x.y@z/c",
            "x.y?/c",
            "[::g]:1/a",
            "a\n",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&format!("a:{}", "x".repeat(129))).is_err());
    }

    #[test]
    fn places_are_told_by_their_scheme() {
        let file = |path: &str, name: Option<&str>| (PathBuf::from(path), name.map(str::to_owned));
        for (text, (path, name)) in
            [("oci:/a/b", file("/a/b", None)), ("oci:b:localhost/x:1", file("b", Some("localhost/x:1")))]
        {
            assert_eq!(Place::parse(text).unwrap(), Place::Layout { path, name });
        }
        assert!(matches!(Place::parse("oci-archive:x.tar").unwrap(), Place::Archive { .. }));
        assert!(
            matches!(Place::parse("docker-archive:x.tar:a:b").unwrap(), Place::Docker { name: Some(name), .. } if name == "a:b")
        );
        for text in ["docker://debian:13", "debian:13"] {
            assert_eq!(Place::parse(text).unwrap(), Place::Registry(Reference::parse("debian:13").unwrap()));
        }
        for text in ["oci:", "oci::x", "oci:x:", "dir:/x", "containers-storage:x"] {
            assert!(Place::parse(text).is_err() || text.starts_with("containers"), "{text}");
        }
    }
}
