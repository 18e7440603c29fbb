//! Container images.

mod base;
mod build;
mod builder;
mod diff;
mod generate;
mod hand_on;
mod inspect;
mod labels;
mod list;
mod make;
mod merge;
mod new;
mod progress;
mod prune;
mod unchanged;
mod validate;

use std::collections::BTreeMap;

use charly_ir::message::Problem;
use charly_target_oci::build::BuildError;
use charly_target_oci::sandbox::inside;
use charly_target_oci::serve::Served;
use charly_target_oci::source::Place;
use charly_target_oci::store::{Image, Store, StoreError};
use clap::Subcommand;

pub(crate) use builder::room;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome, of_verdict};
use crate::output::Line;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Build(build::Args),
    Generate(generate::Args),
    Validate(validate::Args),
    Inspect(inspect::Args),
    List(list::Args),
    Labels(labels::Args),
    New(new::Args),
    Push(hand_on::PushArgs),
    Load(hand_on::LoadArgs),
    Merge(merge::Args),
    Diff(diff::Args),
    Prune(prune::Args),
}

/// Carry out the steps of one layer; charly calls this itself, in namespaces of their own
#[derive(Debug, clap::Args)]
pub(crate) struct Inside {
    /// What is to be done
    order: std::path::PathBuf,
}

impl Verb {
    pub(crate) fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Build(args) => build::run(cx, &args),
            Self::Generate(args) => generate::run(cx, &args),
            Self::Validate(args) => validate::run(cx, &args),
            Self::Inspect(args) => inspect::run(cx, &args),
            Self::List(args) => list::run(cx, &args),
            Self::Labels(args) => labels::run(cx, &args),
            Self::New(args) => new::run(cx, &args),
            Self::Push(args) => hand_on::push(cx, &args),
            Self::Load(args) => hand_on::load(cx, &args),
            Self::Merge(args) => merge::run(cx, &args),
            Self::Diff(args) => diff::run(cx, &args),
            Self::Prune(args) => prune::run(cx, &args),
        }
    }
}

/// Carries out the steps of one layer.
pub(crate) fn inside(args: &Inside) -> Outcome {
    match inside::run(&args.order) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            let problem = Problem::from_error(&error);
            Err(Failure::new(
                Exit::Failed,
                match error.hint() {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                },
            ))
        }
    }
}

/// Where images are, below what machines and images are made of.
const IMAGES: &str = "images";

/// Returns the images of the user.
fn store(cx: &Context) -> Result<Store, Failure> {
    Ok(Store::open(&cx.data.join(IMAGES))?)
}

/// Returns the image of a box, or one by its own name, if it was ever built.
pub(crate) fn kept(cx: &Context, name: &str) -> Result<Option<Served>, Failure> {
    if !cx.data.join(IMAGES).is_dir() {
        return Ok(None);
    }
    let store = store(cx)?;
    for known in declared(cx, name).into_iter().chain([name.to_owned()]) {
        if let Some(image) = store.image(&known)? {
            return Ok(Some(Served::of_store(store, known, &image)?));
        }
    }
    Ok(None)
}

/// Returns what the image of a box is called.
fn declared(cx: &Context, name: &str) -> Option<String> {
    let workspace = cx.workspace_with_mistakes();
    workspace.chain(name).ok().and_then(|chain| chain.boxes.last().map(make::reference))
}

/// Finds the image of a box, or one by its own name.
fn image(cx: &Context, store: &Store, name: &str) -> Result<(String, Image), Failure> {
    let declared = declared(cx, name);
    for known in declared.iter().map(String::as_str).chain([name]) {
        if let Some(image) = store.image(known)? {
            return Ok((known.to_owned(), image));
        }
    }
    Err(match declared {
        Some(_) => Failure::invalid(format!("the box `{name}` was never built"))
            .hint(format!("build it with `charly box build {name}`")),
        None => Failure::invalid(format!("no box and no image is named `{name}`"))
            .hint("`charly box list` shows those there are"),
    })
}

/// Finds the image of a box, or one by its own name, which is fetched where it lies elsewhere.
fn anywhere(cx: &Context, store: &Store, name: &str) -> Result<(String, Image), Failure> {
    let Ok(place) = Place::parse(name) else { return image(cx, store, name) };
    let place = hand_on::below(place, &cx.working);
    // What lies on disk may be another than the last time.
    if matches!(place, Place::Registry(_)) {
        // No registry has what this machine named itself.
        let is_own = !name.contains([':', '/']) || name.starts_with("localhost/") || name.starts_with("bootstrap:");
        match image(cx, store, name) {
            Err(_) if !is_own && declared(cx, name).is_none() => {}
            found => return found,
        }
    }
    Ok((name.to_owned(), hand_on::fetch(cx, store, place, name)?))
}

/// Returns the name and the labels of an image, wherever it is.
pub(crate) fn labels_of(cx: &Context, name: &str) -> Result<(String, BTreeMap<String, String>), Failure> {
    let store = store(cx)?;
    let (name, image) = anywhere(cx, &store, name)?;
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
    Ok((name, labels.into_iter().collect()))
}

/// Returns the size of an image's layers, as they are kept and sent.
fn bytes_of(image: &Image) -> u64 {
    image.manifest.layers().iter().map(charly_target_oci::Descriptor::size).sum()
}

fn done(cx: &Context) -> Outcome {
    if cx.printer.is_json() {
        cx.printer.line(&Line::result(Exit::Done, None))?;
    }
    Ok(Exit::Done)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let problem = Problem::from_error(&error);
        Self::new(
            Exit::Failed,
            match error.hint() {
                Some(hint) => problem.hint(hint),
                None => problem,
            },
        )
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let problem = Problem::from_error(&error);
        match error {
            BuildError::Store(error) => error.into(),
            BuildError::Stopped => {
                Self::new(Exit::Interrupted, problem.hint("the same command goes on after the layers that were built"))
            }
            BuildError::Run { source, .. } => {
                // The target's own words say more than that it did not work.
                let Self { exit, cause } = Self::from(*source);
                match cause {
                    crate::exit::Cause::Problem(why) => {
                        let because = std::iter::once(why.what).chain(why.because).collect();
                        // What the sandbox's side said has its own hint in it.
                        let exit = if exit == Exit::Unreachable { Exit::Failed } else { exit };
                        Self::new(exit, Problem { what: problem.what, because, hint: None })
                    }
                    cause => Self { exit, cause },
                }
            }
            BuildError::Step { candy, verdict } => match of_verdict(&verdict) {
                Err(failure) => failure,
                Ok(exit) => Self::new(exit, Problem::new(format!("the candy `{candy}` was not built"))),
            },
            BuildError::Missing { program } => {
                Self::new(Exit::Failed, problem.hint(format!("install it: `sudo apt-get install {program}`")))
            }
            BuildError::User(_) => Self::new(Exit::Invalid, problem),
            BuildError::Context { .. }
            | BuildError::Place { .. }
            | BuildError::Layer(_)
            | BuildError::Bootstrap { .. }
            | BuildError::Configuration(_) => Self::new(Exit::Failed, problem),
        }
    }
}
