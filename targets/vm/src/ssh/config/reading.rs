//! Walking over files and collecting the first value of each keyword.

use std::path::Path;

use super::value::{self, Found, Said};
use super::{Asked, ConfigError, ConfigFile, Scope, Surroundings, line, matching};
use crate::ssh::{Note, Place};

/// How deep files may include files; OpenSSH's limit.
const MAX_DEPTH: usize = 16;

/// Collects what files say.
pub(super) fn read(
    files: &[ConfigFile<'_>],
    asked: Asked<'_>,
    surroundings: Surroundings<'_>,
) -> Result<Found, ConfigError> {
    let mut walk = Walk {
        asked,
        surroundings,
        pass_host: asked.host.to_owned(),
        last_pass: false,
        wants_last_pass: false,
        found: Found::default(),
    };
    walk.files(files)?;
    if walk.wants_last_pass {
        // What the first pass made of the host stands: `HostName` is settled before the last pass begins.
        let host = walk.found.host(asked.host)?;
        walk.found.host_name.get_or_insert_with(|| Said {
            value: host.clone(),
            place: Place { file: files[0].path.to_owned(), line: 1 },
        });
        walk.pass_host = host;
        walk.last_pass = true;
        walk.files(files)?;
    }
    Ok(walk.found)
}

struct Walk<'a> {
    asked: Asked<'a>,
    surroundings: Surroundings<'a>,
    pass_host: String,
    last_pass: bool,
    wants_last_pass: bool,
    found: Found,
}

impl Walk<'_> {
    fn files(&mut self, files: &[ConfigFile<'_>]) -> Result<(), ConfigError> {
        files.iter().try_for_each(|file| self.file(file, 0))
    }

    /// Reads one file. Its first lines, before any block, apply: a file is not read where its `Include` does not.
    fn file(&mut self, file: &ConfigFile<'_>, depth: usize) -> Result<(), ConfigError> {
        let mut applies = true;
        for (index, text) in file.text.lines().enumerate() {
            let Some((keyword, rest)) = line::keyword(text) else { continue };
            let place = Place { file: file.path.to_owned(), line: index + 1 };
            let arguments = || {
                let unclosed =
                    || ConfigError::new(&place, "a quote that is not closed", "close the quote on the same line");
                line::arguments(rest).ok_or_else(unclosed)
            };
            match keyword.as_str() {
                "host" => applies = matching::host(self.subject(&self.found.host(self.asked.host)?), &arguments()?),
                "match" => applies = self.criteria(&arguments()?, &place)?,
                _ if !applies => {}
                "include" => {
                    for pattern in arguments()? {
                        self.include(&pattern, file.scope, &place, depth)?;
                    }
                }
                // The rest of the line is the command, quotes and all.
                "proxycommand" => self.found.proxy_command(rest, place),
                _ if value::concerns(&keyword) => {
                    let arguments = arguments()?;
                    self.found.take(&keyword, arguments, place)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn subject<'s>(&'s self, host: &'s str) -> matching::Subject<'s> {
        matching::Subject {
            pass_host: &self.pass_host,
            original_host: self.asked.host,
            host,
            user: self
                .asked
                .user
                .or(self.found.user.as_ref().map(|user| user.value.as_str()))
                .unwrap_or(self.surroundings.user),
            local_user: self.surroundings.user,
            last_pass: self.last_pass,
        }
    }

    fn criteria(&mut self, arguments: &[String], place: &Place) -> Result<bool, ConfigError> {
        let host = self.found.host(self.asked.host)?;
        let matched = matching::criteria(self.subject(&host), arguments)
            .map_err(|what| ConfigError::new(place, what, "`man ssh_config` lists the criteria of `Match`"))?;
        self.wants_last_pass |= matched.wants_last_pass;
        if let Some(criterion) = matched.not_judged {
            let text = format!("charly does not judge `{criterion}`, so this block does not apply");
            self.found.note(Note { place: place.clone(), text });
        }
        Ok(matched.applies)
    }

    fn include(&mut self, pattern: &str, scope: Scope, place: &Place, depth: usize) -> Result<(), ConfigError> {
        if depth >= MAX_DEPTH {
            return Err(ConfigError::new(
                place,
                "files include each other too deeply",
                "see whether a file includes itself",
            ));
        }
        let path = match scope {
            Scope::User => self.surroundings.home.join(".ssh").join(value::tilde(pattern, self.surroundings, place)?),
            Scope::System => Path::new("/etc/ssh").join(pattern),
        };
        let files = (self.surroundings.read)(&path).map_err(|error| ConfigError {
            source: Some(error.into()),
            ..ConfigError::new(
                place,
                format!("`{}` cannot be read", path.display()),
                "see who may read the file, or remove the `Include`",
            )
        })?;
        for (path, text) in files {
            self.file(&ConfigFile { path: &path, text: &text, scope }, depth + 1)?;
        }
        Ok(())
    }
}
