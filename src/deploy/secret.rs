//! Secrets, by reference.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use charly_ir::message::SecretValue;

/// Where a secret's value is read from, when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSource {
    /// The secret's name, as candies have it.
    pub(crate) name: String,
    from: From,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Variable(String),
    File(PathBuf),
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let usage =
            || "write NAME=env:VARIABLE or NAME=file:PATH; a value itself would be seen by every user".to_owned();
        let (name, from) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(usage)?;
        let from = match from.split_once(':') {
            Some(("env", variable)) if !variable.is_empty() => From::Variable(variable.to_owned()),
            Some(("file", path)) if !path.is_empty() => From::File(path.into()),
            _ => return Err(usage()),
        };
        Ok(Self { name: name.to_owned(), from })
    }
}

impl SecretSource {
    /// Reads the value. A file's last line end is not part of it.
    pub(crate) fn read(&self) -> anyhow::Result<SecretValue> {
        let what = || format!("the secret `{}` cannot be read", self.name);
        let value = match &self.from {
            From::Variable(variable) => {
                std::env::var(variable).with_context(|| format!("the variable `{variable}`")).with_context(what)?
            }
            From::File(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("the file `{}`", path.display()));
                let text = text.with_context(what)?;
                text.strip_suffix('\n').map_or(text.clone(), str::to_owned)
            }
        };
        Ok(SecretValue::new(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_given_by_reference_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "hunter2\n").unwrap();
        let source: SecretSource = format!("db=file:{}", path.display()).parse().unwrap();
        assert_eq!((source.name.as_str(), source.read().unwrap().expose()), ("db", "hunter2"));
        for text in ["db", "db=hunter2", "=env:X", "db=env:", "db=vault:x"] {
            assert!(text.parse::<SecretSource>().is_err(), "{text}");
        }
        let error = "db=file:/nonexistent/x".parse::<SecretSource>().unwrap().read().unwrap_err();
        assert_eq!(error.to_string(), "the secret `db` cannot be read");
    }
}
