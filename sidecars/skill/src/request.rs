//! What a caller asks for: the body of `POST /skill/<name>`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

/// The prefix of the variables a caller may set.
const PREFIX: &str = "SKILL_";

/// The variable that holds the server's own token; a caller may not set it.
pub(crate) const TOKEN_VARIABLE: &str = "SKILL_TOKEN";

/// The seconds a run may take where the caller does not say.
const DEFAULT_SECONDS: u64 = 30;

/// The kernel takes no argument or variable of 128 KiB or more.
const LONGEST_STRING: usize = 128 * 1024 - 1;

/// Far below what the kernel takes, far above what tools are given.
const MOST_STRINGS: usize = 4096;

/// Holds a request whose every value may be handed to a program.
#[derive(Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// Variables, all of them `SKILL_*`.
    pub env: BTreeMap<String, String>,
    /// What the program reads; without it, it reads nothing.
    pub stdin: Option<String>,
    /// How many seconds the run may take.
    pub timeout: u64,
    /// How output that is not UTF-8 is answered.
    pub encoding: Encoding,
}

/// Says how output that is not UTF-8 is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Replaces what is not UTF-8 by U+FFFD.
    #[default]
    Utf8,
    /// Gives such a stream whole, as base64.
    Base64,
}

/// Says what is wrong with a request's body.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The body is not UTF-8, as JSON is.
    #[error("the body is not UTF-8")]
    Bytes,
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Syntax(serde_json::Error),
    /// The JSON has another form.
    #[error("{0}")]
    Shape(serde_json::Error),
    /// A value may not be given to a program.
    #[error("{0}")]
    Value(ValueError),
}

/// Says which value may not be given to a program. It repeats names, never values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The variable is not one of the caller's.
    #[error("the variable {0:?} is not allowed; a caller sets `SKILL_*` alone, and `SKILL_TOKEN` is the server's")]
    Variable(String),
    /// A NUL byte ends an argument or variable early.
    #[error("{0} holds a NUL byte")]
    Nul(&'static str),
    /// The kernel would refuse it.
    #[error("{0} is longer than {LONGEST_STRING} bytes; pass it as `stdin`")]
    Long(&'static str),
    /// The kernel would refuse them.
    #[error("more than {MOST_STRINGS} arguments and variables; pass them as `stdin`")]
    Many,
    /// No run ends in no time.
    #[error("`timeout` has to be at least 1 second")]
    NoTime,
}

impl RunRequest {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        // The parser itself looks only at the strings that are asked for.
        let body = str::from_utf8(body).map_err(|_| RequestError::Bytes)?;
        let document: Document = serde_json::from_str(body)
            .map_err(|error| if error.is_data() { RequestError::Shape(error) } else { RequestError::Syntax(error) })?;
        Self::try_from(document).map_err(RequestError::Value)
    }
}

/// The body's own form. Fields it does not know are ignored, as they always were.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: UniqueMap,
    stdin: Option<String>,
    #[serde(default = "default_seconds")]
    timeout: u64,
    #[serde(default)]
    encoding: Encoding,
}

fn default_seconds() -> u64 {
    DEFAULT_SECONDS
}

impl TryFrom<Document> for RunRequest {
    type Error = ValueError;

    fn try_from(document: Document) -> Result<Self, ValueError> {
        let Document { args, env: UniqueMap(env), stdin, timeout, encoding } = document;
        if args.len() + env.len() > MOST_STRINGS {
            return Err(ValueError::Many);
        }
        for argument in &args {
            check_string("an argument", argument)?;
        }
        for (name, value) in &env {
            if !is_callers_variable(name) {
                return Err(ValueError::Variable(name.chars().take(64).collect()));
            }
            if name.len() + value.len() + 1 > LONGEST_STRING {
                return Err(ValueError::Long("a variable"));
            }
            check_string("a variable", value)?;
        }
        if timeout == 0 {
            return Err(ValueError::NoTime);
        }
        Ok(Self { args, env, stdin, timeout, encoding })
    }
}

fn check_string(what: &'static str, text: &str) -> Result<(), ValueError> {
    if text.contains('\0') {
        return Err(ValueError::Nul(what));
    }
    if text.len() > LONGEST_STRING {
        return Err(ValueError::Long(what));
    }
    Ok(())
}

/// Tells whether a caller may set the variable: `SKILL_[A-Za-z0-9_]+`, the token's apart.
fn is_callers_variable(name: &str) -> bool {
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    name.strip_prefix(PREFIX).is_some_and(plain) && name != TOKEN_VARIABLE
}

/// Holds a JSON object whose keys are all different; another reader might take the other value of a doubled one.
#[derive(Default)]
struct UniqueMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = UniqueMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap, A::Error> {
                let mut known = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    match known.entry(key) {
                        Entry::Vacant(place) => place.insert(value),
                        Entry::Occupied(_) => return Err(A::Error::custom("a key of `env` occurs twice")),
                    };
                }
                Ok(UniqueMap(known))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_may_be_left_out() {
        let request = RunRequest::parse(b"{}").unwrap();
        assert_eq!(
            request,
            RunRequest { args: vec![], env: BTreeMap::new(), stdin: None, timeout: 30, encoding: Encoding::Utf8 }
        );
        let request = RunRequest::parse(
            br#"{"args":["a b",""],"env":{"SKILL_X":"1"},"stdin":"in","timeout":900,"encoding":"base64","more":[{}]}"#,
        )
        .unwrap();
        assert_eq!(request.args, ["a b", ""]);
        assert_eq!(request.env["SKILL_X"], "1");
        assert_eq!((request.stdin.as_deref(), request.timeout, request.encoding), (Some("in"), 900, Encoding::Base64));
    }

    #[test]
    fn variables_of_the_caller() {
        for good in ["SKILL_A", "SKILL_a1", "SKILL__", "SKILL_TOKEN2", "SKILL_TOKENS"] {
            assert!(is_callers_variable(good), "{good}");
        }
        for bad in [
            "",
            "SKILL_",
            "SKILL",
            "PATH",
            "LD_PRELOAD",
            "skill_a",
            "SKILL_A=B",
            "SKILL_TOKEN",
            "SKILL_A B",
            "SKILL_\0",
            " SKILL_A",
            "SKILL_Ä",
            "XSKILL_A",
            "SKILL_A\n",
            "SKILL_A%%",
            "SKILL-A",
            "ＳKILL_A",
        ] {
            assert!(!is_callers_variable(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_values() {
        let long = format!(r#"{{"args":["{}"]}}"#, "x".repeat(LONGEST_STRING + 1));
        let many = format!(r#"{{"args":[{}""]}}"#, r#""","#.repeat(MOST_STRINGS));
        for (body, expected) in [
            (
                r#"{"env":{"AWS_KEY":"v"}}"#,
                "the variable \"AWS_KEY\" is not allowed; a caller sets `SKILL_*` alone, and `SKILL_TOKEN` is the server's",
            ),
            (r#"{"args":["a\u0000b"]}"#, "an argument holds a NUL byte"),
            (r#"{"env":{"SKILL_A":"\u0000"}}"#, "a variable holds a NUL byte"),
            (r#"{"timeout":0}"#, "`timeout` has to be at least 1 second"),
            (&long, "an argument is longer than 131071 bytes; pass it as `stdin`"),
            (&many, "more than 4096 arguments and variables; pass them as `stdin`"),
        ] {
            assert_eq!(RunRequest::parse(body.as_bytes()).unwrap_err().to_string(), expected);
        }
        for body in [
            r#"{"timeout":-1}"#,
            r#"{"timeout":1.5}"#,
            r#"{"args":"x"}"#,
            r#"{"args":[1]}"#,
            r#"{"env":{"SKILL_A":"1","SKILL_A":"2"}}"#,
            r#"{"args":[],"args":[]}"#,
            "[]",
            "null",
        ] {
            assert!(matches!(RunRequest::parse(body.as_bytes()), Err(RequestError::Shape(_))), "{body}");
        }
        assert!(matches!(RunRequest::parse(b"{\"more\":\"\xff\"}"), Err(RequestError::Bytes)));
        for body in ["", "{", "{]", r#"{"args":["\ud800"]}"#, "{}{}", "\u{feff}{}"] {
            assert!(matches!(RunRequest::parse(body.as_bytes()), Err(RequestError::Syntax(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_given_to_a_program(
            args in proptest::collection::vec("\\PC{0,20}|\u{0}", 0..5),
            env in proptest::collection::btree_map("(SKILL_)?[A-Z=\u{0}_]{0,8}", "\\PC{0,8}", 0..4),
        ) {
            let body = serde_json::json!({ "args": args, "env": env }).to_string();
            if let Ok(request) = RunRequest::parse(body.as_bytes()) {
                prop_assert_eq!(&request.args, &args);
                for text in request.args.iter().chain(request.env.keys()).chain(request.env.values()) {
                    prop_assert!(!text.contains('\0'));
                }
                for name in request.env.keys() {
                    prop_assert!(name.starts_with("SKILL_") && !name.contains('=') && name != "SKILL_TOKEN");
                }
            }
        }
    }
}
