//! What is needed to be let in, and what is wanted there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use charly_target_core::Interrupts;
use oci_spec::image::Descriptor;
use serde::Deserialize;

use super::{Reference, SourceError};

/// What is needed to reach images elsewhere.
#[derive(Debug, Clone)]
pub struct Access {
    /// Speaks HTTP, with its certificates, proxies and timeouts.
    pub agent: ureq::Agent,
    /// Names and passwords.
    pub credentials: Credentials,
    /// Registries that are spoken to without encryption, besides those on this machine; with their ports.
    pub insecure: BTreeSet<String>,
    /// What an image is to run on.
    pub platform: Platform,
    /// How often the user asked to stop.
    pub interrupts: Interrupts,
}

/// What an image runs on, in the words of Go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor, such as `amd64`.
    pub architecture: String,
    /// Its variant, such as `v7`, where that matters.
    pub variant: Option<String>,
}

/// Names and passwords for registries.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Reads what `podman login` and `docker login` write.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Auth>,
        }

        #[derive(Deserialize)]
        struct Auth {
            auth: Option<String>,
        }

        let file: File = serde_json::from_str(text).map_err(SourceError::Credentials)?;
        let plain = |registry: &str| {
            let rest = registry.trim_start_matches("https://").trim_start_matches("http://");
            let rest = rest.trim_end_matches("/v1/").trim_end_matches("/v2/").trim_end_matches('/');
            rest.replacen("index.docker.io", "docker.io", 1)
        };
        let known = file.auths.into_iter().filter_map(|(registry, auth)| Some((plain(&registry), auth.auth?)));
        Ok(Self(known.collect()))
    }

    /// Returns what a registry is shown for a name in it, encoded as it is sent.
    pub(super) fn of(&self, reference: &Reference) -> Option<&str> {
        let name = format!("{}/{}", reference.host, reference.repository);
        let mut prefix = name.as_str();
        loop {
            let found = self.0.get(prefix);
            if let Some(auth) = found.filter(|auth| STANDARD.decode(auth).is_ok_and(|plain| plain.contains(&b':'))) {
                return Some(auth);
            }
            prefix = prefix.rsplit_once('/')?.0;
        }
    }
}

/// Says nothing of what it holds.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.0.len())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Chooses what fits a platform best; what says nothing of platforms fits where there is nothing else.
pub(super) fn choose<'a>(descriptors: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, SourceError> {
    if let [only] = descriptors
        && only.platform().is_none()
    {
        return Ok(only);
    }
    let mut found = BTreeSet::new();
    let mut best = None;
    for descriptor in descriptors {
        let Some(platform) = descriptor.platform() else {
            continue;
        };
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        let variant = platform.variant().clone().or((architecture == "arm64").then(|| "v8".into()));
        let fits = os == wanted.os && architecture == wanted.architecture;
        let wanted_variant = wanted.variant.clone().or((wanted.architecture == "arm64").then(|| "v8".into()));
        // Exactly the variant, or none; where none is wanted the first will do.
        let rank = match (&wanted_variant, &variant) {
            (wanted, variant) if wanted == variant => 0,
            (Some(_), None) => 1,
            (None, Some(_)) => 2,
            _ => 3,
        };
        if fits && rank < 3 && best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, descriptor));
        }
        found.insert(Platform { os, architecture, variant: platform.variant().clone() }.to_string());
    }
    let none = || SourceError::Platform { wanted: wanted.to_string(), found: found.into_iter().collect() };
    best.map(|(_, descriptor)| descriptor).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_by_the_longest_name() {
        let encoded = |text: &str| STANDARD.encode(text);
        let text = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": encoded("hub:1")},
            "quay.example": {"auth": encoded("a:2")},
            "quay.example/team/app": {"auth": encoded("b:3")},
            "localhost:5000": {"auth": encoded("c:4")},
            "broken.example": {"auth": "%%%"},
            "helper.example": {},
        }, "credHelpers": {"x": "y"}});
        let credentials = Credentials::parse(&text.to_string()).unwrap();
        for (reference, want) in [
            ("debian", Some("hub:1")),
            ("quay.example/other", Some("a:2")),
            ("quay.example/team/application", Some("a:2")),
            ("quay.example/team/app/x", Some("b:3")),
            ("localhost:5000/x", Some("c:4")),
            ("localhost/x", None),
            ("broken.example/x", None),
            ("helper.example/x", None),
        ] {
            let got = credentials.of(&Reference::parse(reference).unwrap());
            assert_eq!(got.map(str::to_owned), want.map(encoded), "{reference}");
        }
        assert_eq!(format!("{credentials:?}"), "Credentials(5)");
        assert!(Credentials::parse("{").is_err());
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let text = |platforms: &[&str]| {
            let described = platforms.iter().map(|platform| {
                let mut parts = platform.split('/');
                let platform = serde_json::json!({
                    "os": parts.next(), "architecture": parts.next(), "variant": parts.next(),
                });
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{}", "0".repeat(64)),
                    "size": 1,
                    "platform": platform,
                })
            });
            serde_json::from_value::<Vec<Descriptor>>(described.collect()).unwrap()
        };
        let all = ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "windows/amd64", "unknown/unknown"];
        for (wanted, want) in [
            (("linux", "amd64", None), Some(0)),
            (("linux", "arm", Some("v7")), Some(2)),
            (("linux", "arm", None), Some(1)),
            (("linux", "arm", Some("v5")), None),
            (("linux", "arm64", None), Some(3)),
            (("linux", "amd64", Some("v3")), Some(0)),
            (("windows", "amd64", None), Some(4)),
            (("linux", "s390x", None), None),
        ] {
            let (os, architecture, variant) = wanted;
            let wanted =
                Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(str::to_owned) };
            let descriptors = text(&all);
            let got = choose(&descriptors, &wanted)
                .ok()
                .map(|got| descriptors.iter().position(|one| std::ptr::eq(one, got)).unwrap());
            assert_eq!(got, want, "{wanted}");
        }
    }
}
