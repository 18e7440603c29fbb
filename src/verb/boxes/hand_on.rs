//! `box push`, `box load`, and the forms that `box build --output` writes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use charly_ir::message::Problem;
use charly_target_oci::source::{self, Access, Credentials, Place, Platform, Source, SourceError};
use charly_target_oci::store::{Image, Store};

use super::{done, image, make, store};
use crate::context::Context;
use crate::deploy::Downloads;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::transfer_bar;

/// Send an image to a registry, only what that lacks
///
/// Names and passwords are those of `podman login`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// The box, or an image's name
    name: String,
    /// Where to: `HOST[:PORT]/NAME[:TAG]`, or `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`
    to: String,
    /// Speak to the registry without encryption; one on this machine is spoken to so anyway
    #[arg(long)]
    insecure: bool,
}

/// Give an image to podman
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// The box, or an image's name
    name: String,
}

pub(crate) fn push(cx: &Context, args: &PushArgs) -> Outcome {
    let store = store(cx)?;
    let (_, image) = image(cx, &store, &args.name)?;
    write(cx, &store, &image, &args.to, args.insecure)?;
    cx.printer.say(format_args!("`{}` is at {}", args.name, args.to));
    done(cx)
}

pub(crate) fn load(cx: &Context, args: &LoadArgs) -> Outcome {
    let store = store(cx)?;
    let (name, image) = image(cx, &store, &args.name)?;
    to_podman(cx, &store, &image, &name)?;
    done(cx)
}

/// Writes an image to a form and path, or sends it to a registry.
pub(super) fn write(cx: &Context, store: &Store, image: &Image, to: &str, insecure: bool) -> Result<(), Failure> {
    let place = below(Place::parse(to)?, &cx.working);
    let mut access = access(cx)?;
    if let (true, Place::Registry(reference)) = (insecure, &place) {
        access.insecure.insert(reference.host.clone());
    }
    transfer(cx, "sending", |progress| source::export(store, image, &Source { place, access }, progress))
}

/// Fetches an image from elsewhere and keeps it under a name.
pub(super) fn fetch(cx: &Context, store: &Store, place: Place, name: &str) -> Result<Image, Failure> {
    let source = Source { place, access: access(cx)? };
    transfer(cx, "fetching", |progress| source::import(store, &source, name, progress))
}

/// Gives an image to podman, under its name.
pub(super) fn to_podman(cx: &Context, store: &Store, image: &Image, name: &str) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Failed, Problem::new("podman does not take the image").because(why))
            .hint("install podman, or write the image with `--output`")
    };
    let folder = tempfile::tempdir_in(store.folder()).map_err(|error| failed(error.to_string()))?;
    let path = folder.path().join("image.tar");
    let place = Place::Archive { path: path.clone(), name: Some(name.to_owned()) };
    let to = Source { place, access: access(cx)? };
    transfer(cx, "sending", |progress| source::export(store, image, &to, progress))?;
    let mut podman = Command::new("podman");
    podman.args(["load", "--quiet", "--input"]).arg(&path).stdin(Stdio::null());
    let output = podman.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    cx.printer.say(format_args!("podman has {name}"));
    Ok(())
}

/// Runs a transfer with a bar.
fn transfer<T>(
    cx: &Context,
    what: &'static str,
    run: impl FnOnce(&mut dyn FnMut(source::Progress)) -> Result<T, SourceError>,
) -> Result<T, Failure> {
    let mut bar = transfer_bar(!cx.printer.quiet && !cx.printer.is_json(), what);
    let mut progress = |at: source::Progress| bar(at.done, at.total);
    Ok(run(&mut progress)?)
}

/// Returns what is needed to reach images elsewhere.
fn access(cx: &Context) -> Result<Access, Failure> {
    let credentials = match cx.registry_credentials() {
        Some(path) => {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            Credentials::parse(&text)
                .map_err(|error| Failure::from(error).hint(format!("look at `{}`", path.display())))?
        }
        None => Credentials::default(),
    };
    Ok(Access {
        agent: Downloads::agent(),
        credentials,
        insecure: std::collections::BTreeSet::new(),
        platform: Platform {
            os: "linux".to_owned(),
            architecture: make::to_oci(std::env::consts::ARCH).to_owned(),
            variant: None,
        },
        interrupts: cx.interrupts.clone(),
    })
}

/// Takes relative paths from a folder.
pub(super) fn below(place: Place, folder: &std::path::Path) -> Place {
    let at = |path: PathBuf| folder.join(path);
    match place {
        Place::Layout { path, name } => Place::Layout { path: at(path), name },
        Place::Archive { path, name } => Place::Archive { path: at(path), name },
        Place::Docker { path, name } => Place::Docker { path: at(path), name },
        place @ Place::Registry(_) => place,
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let exit = match &error {
            SourceError::Reference { .. } | SourceError::Which { .. } | SourceError::Platform { .. } => Exit::Invalid,
            SourceError::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        Self::new(exit, Problem::from(error))
    }
}
