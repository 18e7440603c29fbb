//! Why a machine does not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

use charly_target_core::fetch::FetchError;

/// Why a machine does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// What was asked makes no sense, or names nothing that exists.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The machine's state, or somebody else, is in the way.
    #[error("{what}")]
    Refused {
        /// What is in the way.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// It was begun, and did not come to its end.
    #[error("{what}")]
    Failed {
        /// What did not happen.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A file cannot be read or written.
    #[error("`{path}` cannot be {doing}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program that is needed is not there.
    #[error("`{program}` is not there")]
    Missing {
        /// The program.
        program: String,
    },
    /// A program failed.
    #[error("`{program}` failed{}", last_words(.said))]
    Program {
        /// The program.
        program: String,
        /// Its last words.
        said: String,
    },
    /// An image cannot be fetched.
    #[error("the image cannot be had")]
    Fetch(#[source] FetchError),
    /// QEMU cannot be spoken to.
    #[error("`{name}` does not answer on its control socket")]
    Control {
        /// The machine.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl MachineError {
    pub(super) fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }

    pub(super) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    pub(super) fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: hint.into() }
    }

    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, doing, source }
    }

    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Invalid { hint, .. } | Self::Refused { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
            Self::File { path, .. } => format!("look at who owns `{}`, and at the space on its disk", path.display()),
            Self::Missing { program } => package_of(program).to_owned(),
            Self::Program { .. } => "mend what it names; the same command goes on here".to_owned(),
            Self::Fetch(FetchError::Digest { got, .. }) => {
                format!("if the publisher changed the image on purpose, declare `{got}`")
            }
            Self::Fetch(_) => "the same command goes on where the transfer ended".to_owned(),
            Self::Control { name, .. } => format!("if it stays so, `charly vm stop {name} --force` cuts its power"),
            Self::Interrupted => "the same command goes on".to_owned(),
        })
    }
}

/// Says where a program comes from.
fn package_of(program: &str) -> &'static str {
    match program {
        "qemu-img" => "install `qemu-utils` (Debian, Ubuntu) or `qemu-img` (Fedora, Arch, Alpine)",
        "mmdebstrap" => "install `mmdebstrap`, or use a cloud image: `--from URL`",
        "virtiofsd" => "install `virtiofsd` (Debian 13, Ubuntu 24.04, Fedora, Arch), or leave `share` out",
        "passt" => "install `passt`, or leave the network's `backend` out",
        "unshare" => "install `util-linux` 2.38 or later",
        _ => "install `qemu-system-x86` (Debian, Ubuntu), `qemu-kvm` (Fedora) or `qemu-system-x86` (Arch)",
    }
}

fn last_words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
