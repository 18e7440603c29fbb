//! Where the value of a secret is.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use crate::read::{FromText, Problem};

/// Where charly reads the value of a secret when it is needed. Documents and arguments hold this, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of charly's own environment.
    Variable(String),
    /// A file, whose last line end is not part of the value.
    File(String),
}

impl FromText for SecretSource {
    fn from_text(text: &str) -> Result<Self, Problem> {
        match text.split_once(':') {
            Some(("env", variable)) if !variable.is_empty() => Ok(Self::Variable(variable.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            // What stands here may be a secret: it is not repeated.
            _ => Err(Problem::new(
                "this does not say where the secret is",
                "write `env:VARIABLE` or `file:PATH`; a value itself does not belong here",
            )),
        }
    }

    fn text_schema() -> Json {
        json!({"type": "string", "pattern": "^(env|file):.+$"})
    }
}

impl SecretSource {
    /// Reads what stands behind `NAME=` in an argument.
    ///
    /// # Errors
    ///
    /// How it is to be written; the text itself may be a secret and is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::from_text(text).map_err(|problem| {
            problem.hint.map_or(problem.message.clone(), |hint| format!("{}: {hint}", problem.message))
        })
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(variable) => write!(f, "env:{variable}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_no_value() {
        for (text, want) in [
            ("env:DB", Some(SecretSource::Variable("DB".into()))),
            ("file:~/db:1", Some(SecretSource::File("~/db:1".into()))),
            ("env:", None),
            ("hunter2", None),
            ("vault:x", None),
        ] {
            let read = SecretSource::parse(text);
            assert!(read.as_ref().err().is_none_or(|error| !error.contains("hunter2")), "{read:?}");
            assert_eq!(read.as_ref().ok(), want.as_ref(), "{text}");
            assert!(read.is_err() || read.unwrap().to_string() == text);
        }
    }
}
