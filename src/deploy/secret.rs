//! Secrets, by reference.

use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use charly_ir::message::SecretValue;
use charly_plans::load::DeployEntry;
use charly_plans::schema::SecretSource;

/// A secret, and where its value is read from when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    /// The name that candies know it by.
    pub(crate) name: String,
    from: SecretSource,
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, from) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("write NAME=env:VARIABLE or NAME=file:PATH; a value itself would be seen by every user")?;
        Ok(Self { name: name.to_owned(), from: SecretSource::parse(from)? })
    }
}

impl Secret {
    /// Gathers the secrets of which an entry says where they are.
    pub(super) fn declared(entry: Option<&DeployEntry>) -> Vec<Self> {
        let secrets = entry.iter().flat_map(|entry| &entry.deploy.secret);
        let known = secrets.filter_map(|secret| {
            Some(Self { name: secret.name.value.clone(), from: secret.from.as_ref()?.value.clone() })
        });
        known.collect()
    }

    /// Reads the value. A path starts from `folder`, or from `home` after a `~`; a file's last line end is not part of
    /// the value.
    pub(crate) fn read(&self, folder: &Path, home: &Path) -> anyhow::Result<SecretValue> {
        let what = || format!("the secret `{}` cannot be read", self.name);
        let value = match &self.from {
            SecretSource::Variable(variable) => {
                std::env::var(variable).with_context(|| format!("the variable `{variable}`")).with_context(what)?
            }
            SecretSource::File(path) => {
                let path = path.strip_prefix("~/").map_or_else(|| folder.join(path), |rest| home.join(rest));
                let text = std::fs::read_to_string(&path).with_context(|| format!("the file `{}`", path.display()));
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
        let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("s"), "hunter2\n").unwrap();
        std::fs::write(home.path().join("s"), "at home").unwrap();
        for (text, want) in [
            ("db=file:s".to_owned(), "hunter2"),
            ("db=file:~/s".to_owned(), "at home"),
            (format!("db=file:{}", folder.path().join("s").display()), "hunter2"),
        ] {
            let secret: Secret = text.parse().unwrap();
            let value = secret.read(folder.path(), home.path()).unwrap();
            assert_eq!((secret.name.as_str(), value.expose()), ("db", want), "{text}");
        }
        for text in ["db", "db=hunter2", "=env:X", "db=env:", "db=vault:x"] {
            assert!(text.parse::<Secret>().is_err(), "{text}");
        }
        let secret: Secret = "db=file:gone".parse().unwrap();
        let error = secret.read(folder.path(), home.path()).unwrap_err();
        assert_eq!(error.to_string(), "the secret `db` cannot be read");
    }
}
