//! The program `charly-guest`: the engine at the end of a pipe.
//!
//! Without an argument it is the front engine of the user who runs it, with `home PATH` one whose user has another home
//! folder than the passwd database says. With `network` its controller is across a network: it packs what it says, and
//! takes silence for an end. With `root` it keeps root's ledger for a front engine, and with `fingerprints PATH…` it answers
//! itself from within podman's user namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use charly_engine::image;
use charly_engine::process::Cancel;
use charly_engine::ready;
use charly_engine::reboot::Reboot;
use charly_engine::session::{self, Link, PipePeer, Settings};

/// The front could not begin, and has said why on standard error.
const CANNOT_BEGIN: u8 = 70;

fn main() -> ExitCode {
    // Files are made for nobody else and then given their mode; what the login's umask was does not matter.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        None => front(None, Link::PIPE),
        Some("home") => front(arguments.next(), Link::PIPE),
        Some("network") => front(None, Link::NETWORK),
        Some("fingerprints") => {
            image::print_fingerprints(arguments, &mut io::stdout()).map_err(|error| error.to_string())
        }
        Some("root") => session::serve_root(io::stdin(), io::stdout()).map_err(|error| error.to_string()),
        Some(other) => Err(format!("unknown argument `{other}`; this is charly's engine, and charly starts it")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "there is no controller to speak to yet")]
            {
                eprintln!("charly-guest: {error}");
            }
            ExitCode::from(CANNOT_BEGIN)
        }
    }
}

fn front(home: Option<String>, link: Link) -> Result<(), String> {
    let mut facts = charly_engine::facts::gather(Path::new("/")).map_err(|error| error.to_string())?;
    if let Some(home) = home {
        facts.user.home = home;
    }
    // A controller on this very machine would go down with it, and could not go on.
    let reboot = if link == Link::NETWORK { Reboot::of_this_machine() } else { None };
    let settings = Settings { root: "/".into(), facts, reboot, cancel: Cancel::default() };
    let mut hello = session::hello(&settings);
    // Somebody on this machine sees for themselves, and may well be a part of its start.
    if link == Link::NETWORK {
        hello.unready = ready::look(&settings.facts);
    }
    let (reader, writer) = (raw(io::stdin())?, raw(io::stdout())?);
    let peer = PipePeer::start(reader, writer, link, &hello, settings.cancel.clone());
    session::serve(&settings, &mut peer.map_err(|error| error.to_string())?, None);
    Ok(())
}

/// Returns a standard stream without the library's own buffer, which would hide what there is to be read.
fn raw(stream: impl AsFd) -> Result<File, String> {
    let fd = stream.as_fd().try_clone_to_owned();
    fd.map(File::from).map_err(|error| error.to_string())
}
