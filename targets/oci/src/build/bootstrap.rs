//! A base made from a distribution's packages, from the mirror this machine itself uses.

use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

use charly_target_core::distribution::{Release, mmdebstrap};

use super::config::{self, Made, Wanted};
use super::{BuildError, Settings};
use crate::layer::{Layer, LayerError, LayerReader, LayerWriter, Limits};
use crate::store::{Image, Store};

/// The time that nothing in such a base is later than, in seconds since 1970, where nobody says another: the day these rules
/// were made. What it holds depends on the mirror anyway.
const EPOCH: u64 = 1_767_225_600;

/// How much of a program's words is told.
const TOLD: u64 = 4 << 10;

/// Makes a base from a release's packages: the essential ones, apt, and nothing more. `architecture` is as images write it.
pub fn bootstrap(
    store: &Store,
    name: &str,
    release: Release,
    architecture: &str,
    settings: &Settings,
) -> Result<Image, BuildError> {
    let epoch = settings.epoch.unwrap_or(EPOCH);
    let (mut command, mirrors) = mmdebstrap(release.distro, release.suite);
    if !settings.sandbox.is_root {
        command.arg("--mode=unshare");
    }
    // A machine's identity is made when it first starts.
    command.arg("--customize-hook=rm -f \"$1/etc/hostname\" \"$1/etc/resolv.conf\"; : >\"$1/etc/machine-id\"");
    command.env("SOURCE_DATE_EPOCH", epoch.to_string()).args([release.suite, "-"]).args(mirrors);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BuildError::Missing { program: "mmdebstrap" },
            _ => BuildError::Bootstrap { suite: release.suite, said: error.to_string() },
        })?;
    let complaints = listen(&mut child);
    let result = take(store, &mut child, settings);
    let ended = child.wait();
    let said = complaints.and_then(|complaints| complaints.join().ok()).unwrap_or_default();
    // Whoever writes into a pipe that nobody reads any more fails of that, and says nothing of why.
    if let Err(error) = &result
        && is_own(error)
    {
        return Err(result.err().unwrap_or(BuildError::Stopped));
    }
    if !ended.is_ok_and(|status| status.success()) {
        return Err(BuildError::Bootstrap { suite: release.suite, said });
    }
    let layer = result?;
    let made = [Made { by: format!("packages of {}", release.suite), at: epoch }];
    let config =
        config::configuration(None, architecture, &Wanted::default(), std::slice::from_ref(&layer), &made, epoch)?;
    Ok(store.tag(name, &config, &[layer])?)
}

/// Tells whether what the program wrote could not be kept, rather than read.
fn is_own(error: &BuildError) -> bool {
    matches!(error, BuildError::Store(_) | BuildError::Layer(LayerError::Write(_) | LayerError::File { .. }))
}

/// Turns what the program writes into a layer.
fn take(store: &Store, child: &mut Child, settings: &Settings) -> Result<Layer, BuildError> {
    let archive: Box<dyn Read> = match child.stdout.take() {
        Some(stdout) => Box::new(stdout),
        None => Box::new(io::empty()),
    };
    let mut reader = LayerReader::of_tar(archive, "of mmdebstrap", Limits::default());
    let mut writer = LayerWriter::new(store.layer_sink()?, settings.compression, settings.threads);
    while let Some(entry) = reader.next_entry()? {
        // A container's devices are those of whoever runs it.
        if !entry.path.starts_with("dev/") {
            writer.append(&entry, &mut reader)?;
        }
    }
    reader.finish()?;
    let (sink, layer) = writer.finish()?;
    sink.keep(&layer)?;
    Ok(layer)
}

/// Reads what a program complains about, so that it is never kept waiting for a reader.
fn listen(child: &mut Child) -> Option<JoinHandle<String>> {
    let mut stderr = child.stderr.take()?;
    Some(thread::spawn(move || {
        let mut said = Vec::new();
        (&mut stderr).take(TOLD).read_to_end(&mut said).ok();
        io::copy(&mut stderr, &mut io::sink()).ok();
        String::from_utf8_lossy(&said).trim().to_owned()
    }))
}
