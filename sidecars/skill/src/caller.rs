//! Who calls: tokens, and the skills each caller may run.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::name::SkillName;

/// The caller that the one token of `--token-file` stands for, and nobody's name where no token is needed.
const DEFAULT: &str = "default";

/// A token that can be guessed is none; this is what 64 random bits take in hexadecimal.
const SHORTEST_TOKEN: usize = 16;

/// Holds one caller.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    skills: Allowed,
}

#[derive(Debug)]
enum Allowed {
    All,
    These(BTreeSet<SkillName>),
}

impl Caller {
    pub(crate) fn may_run(&self, skill: &SkillName) -> bool {
        match &self.skills {
            Allowed::All => true,
            Allowed::These(names) => names.contains(skill),
        }
    }

    /// Names the skills the caller is limited to, if to any.
    pub(crate) fn limited_to(&self) -> impl Iterator<Item = &SkillName> {
        match &self.skills {
            Allowed::All => None,
            Allowed::These(names) => Some(names.iter()),
        }
        .into_iter()
        .flatten()
    }
}

/// Holds every caller, by the digest of its token.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    known: Vec<([u8; 32], Arc<Caller>)>,
    /// Who calls without a token, where that is allowed.
    anyone: Option<Arc<Caller>>,
}

/// Says what is wrong with the callers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("cannot read `{path}`", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("the callers file `{path}` is not well formed", path = .0.display())]
    Form(PathBuf, #[source] Box<serde_yaml::Error>),
    #[error("the callers file `{path}` names nobody", path = .0.display())]
    Nobody(PathBuf),
    #[error("the caller `{0}` is named twice")]
    Twice(String),
    #[error("the caller `{0}` has the token of another one")]
    SameToken(String),
    #[error("the token of `{0}` {1}")]
    Token(String, &'static str),
    #[error("the caller `{0}` is allowed `{1}`, which is no skill's name")]
    Skill(String, String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    callers: Vec<CallerDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerDocument {
    name: String,
    token_file: PathBuf,
    skills: Vec<String>,
}

impl Callers {
    /// Reads the callers of `file` and adds the one that `token` stands for; with neither, anyone may call.
    pub(crate) fn load(file: Option<&Path>, token: Option<&SecretString>) -> Result<Self, CallerError> {
        let mut callers = Self::default();
        if let Some(token) = token {
            callers.add(token.expose_secret(), Caller { name: DEFAULT.into(), skills: Allowed::All })?;
        }
        if let Some(file) = file {
            let text = fs::read_to_string(file).map_err(|error| CallerError::Read(file.into(), error))?;
            let folder = file.parent().unwrap_or(Path::new("."));
            callers.add_document(file, &text, |path| {
                let path = folder.join(path);
                fs::read_to_string(&path).map(SecretString::from).map_err(|error| CallerError::Read(path, error))
            })?;
        }
        if callers.known.is_empty() {
            callers.anyone = Some(Arc::new(Caller { name: DEFAULT.into(), skills: Allowed::All }));
        }
        Ok(callers)
    }

    fn add_document(
        &mut self,
        file: &Path,
        text: &str,
        read_token: impl Fn(&Path) -> Result<SecretString, CallerError>,
    ) -> Result<(), CallerError> {
        let document: Document =
            serde_yaml::from_str(text).map_err(|error| CallerError::Form(file.into(), Box::new(error)))?;
        if document.callers.is_empty() {
            return Err(CallerError::Nobody(file.into()));
        }
        for CallerDocument { name, token_file, skills } in document.callers {
            let token = read_token(&token_file)?;
            let skills = if skills.iter().any(|skill| skill == "*") {
                Allowed::All
            } else {
                let parse = |skill: &String| {
                    SkillName::parse(skill).map_err(|_| CallerError::Skill(name.clone(), skill.clone()))
                };
                Allowed::These(skills.iter().map(parse).collect::<Result<_, _>>()?)
            };
            self.add(token.expose_secret(), Caller { name, skills })?;
        }
        Ok(())
    }

    fn add(&mut self, token: &str, caller: Caller) -> Result<(), CallerError> {
        // Files and secrets made with an editor or `echo` end with a newline.
        let token = token.trim_end_matches(['\r', '\n']);
        let bad = |why| Err(CallerError::Token(caller.name.clone(), why));
        if token.is_empty() {
            return bad("is empty");
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("holds something else than visible ASCII, which no header carries");
        }
        let digest = digest(token.as_bytes());
        if self.known.iter().any(|(_, known)| known.name == caller.name) {
            return Err(CallerError::Twice(caller.name));
        }
        if self.known.iter().any(|(known, _)| *known == digest) {
            return Err(CallerError::SameToken(caller.name));
        }
        if token.len() < SHORTEST_TOKEN {
            tracing::warn!(
                caller = caller.name,
                "the token is shorter than {SHORTEST_TOKEN} characters and may be guessed"
            );
        }
        self.known.push((digest, Arc::new(caller)));
        Ok(())
    }

    /// Tells whether a request needs a token.
    pub(crate) fn need_token(&self) -> bool {
        self.anyone.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Caller> {
        self.known.iter().map(|(_, caller)| &**caller)
    }

    /// Finds whom a token stands for.
    ///
    /// The digests are compared, all of them, each in constant time: how long this takes says nothing about how much
    /// of a token was right, or whose it resembles.
    pub(crate) fn identify(&self, token: Option<&[u8]>) -> Option<Arc<Caller>> {
        if let Some(anyone) = &self.anyone {
            return Some(anyone.clone());
        }
        let digest = digest(token?);
        let mut found = u64::MAX;
        for (at, (known, _)) in (0_u64..).zip(&self.known) {
            let same: Choice = known.ct_eq(&digest);
            found.conditional_assign(&at, same);
        }
        self.known.get(usize::try_from(found).ok()?).map(|(_, caller)| caller.clone())
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Callers, CallerError> {
        let mut callers = Callers::default();
        callers.add_document(Path::new("callers.yml"), text, |path| {
            Ok(SecretString::from(format!("token-of-{}\n", path.display())))
        })?;
        Ok(callers)
    }

    #[test]
    fn each_token_stands_for_its_caller() {
        let callers = parse(
            "callers:\n- {name: agent, token_file: a, skills: [gh, yt-dlp]}\n- {name: admin, token_file: b, skills: ['*']}\n",
        )
        .unwrap();
        let name = |token: &[u8]| callers.identify(Some(token)).map(|caller| caller.name.clone());
        assert_eq!(name(b"token-of-a").as_deref(), Some("agent"));
        assert_eq!(name(b"token-of-b").as_deref(), Some("admin"));
        for wrong in [&b""[..], b"token-of-", b"token-of-a ", b"token-of-a\n", b"token-of-c", b"TOKEN-OF-A"] {
            assert_eq!(name(wrong), None);
        }
        assert!(callers.identify(None).is_none());
        let (gh, rm) = (SkillName::parse("gh").unwrap(), SkillName::parse("rm").unwrap());
        let agent = callers.identify(Some(b"token-of-a")).unwrap();
        assert!(agent.may_run(&gh) && !agent.may_run(&rm));
        assert!(callers.identify(Some(b"token-of-b")).unwrap().may_run(&rm));
    }

    #[test]
    fn without_callers_and_token_anyone_may_call() {
        let callers = Callers::load(None, None).unwrap();
        assert!(!callers.need_token() && callers.identify(None).is_some());
        let callers = Callers::load(None, Some(&"0123456789abcdef\n".into())).unwrap();
        assert!(callers.need_token() && callers.identify(None).is_none());
        assert!(callers.identify(Some(b"0123456789abcdef")).is_some());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("callers: []", "the callers file `callers.yml` names nobody"),
            (
                "callers: [{name: a, token_file: x, skills: ['../sh']}]",
                "the caller `a` is allowed `../sh`, which is no skill's name",
            ),
            (
                "callers: [{name: a, token_file: x, skills: []}, {name: a, token_file: y, skills: []}]",
                "the caller `a` is named twice",
            ),
            (
                "callers: [{name: a, token_file: x, skills: []}, {name: b, token_file: x, skills: []}]",
                "the caller `b` has the token of another one",
            ),
            (
                "callers: [{name: a, token_file: 'x y', skills: []}]",
                "the token of `a` holds something else than visible ASCII, which no header carries",
            ),
            ("callers: [{name: a, skills: []}]", "the callers file `callers.yml` is not well formed"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        assert_eq!(Callers::load(None, Some(&"\n".into())).unwrap_err().to_string(), "the token of `default` is empty");
    }
}
