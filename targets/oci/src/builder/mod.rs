//! Builders: what npm, cargo, uv, pixi and makepkg make of a candy's folder, made here, for one path on one kind of venue.
//!
//! | module | what it holds |
//! |---|---|
//! | `host` | what of this machine's own settings a builder sees |
//! | `shelf` | what was made before, by what it was made of |
//! | `scripts/` | what each builder does, as shell scripts without a value in their text |
//!
//! A builder runs in a box of its own (`plans` describes it), of the venue's own release: what it compiles is
//! linked against that release's libraries. The folder that its output goes to is mounted at the path that it will have, so
//! that shebangs, search paths and start scripts are right.
//!
//! Invariant: nothing but what lies at that path leaves the container. Caches are kept for the next run and are no part of
//! it, nor is anything of this machine's settings; what holds one of their passwords is refused.

mod host;
mod shelf;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use charly_ir::Digest;
use charly_ir::message::Problem;
use charly_ir::plan::BuilderKind;
use charly_target_core::artifact::Wanted;
use charly_target_core::fetch::Content;
use charly_target_core::{Artifact, Builders, Interrupts};

use crate::private::make_private;
use crate::sandbox::command::{self, CommandError};
use crate::sandbox::{self, Bind, Command, Lower};
use crate::store::{Image, Store, StoreError};

pub use host::Host;
pub use shelf::{ArtifactError, prune};

use host::{CACHE, HOME};
use shelf::{Place, Shelf};

/// What building depends on beside what is wanted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How programs run in images.
    pub sandbox: sandbox::Settings,
    /// Where artifacts and the builders' caches are kept; all of it may be thrown away.
    pub folder: PathBuf,
    /// This machine, whose registries are used.
    pub host: Host,
    /// Raised by the user to stop it.
    pub interrupts: Interrupts,
}

/// Where a builder runs.
#[derive(Debug, Clone)]
pub struct Room {
    /// Names its content.
    pub id: Digest,
    /// Its layers, the lowest first.
    pub lowers: Vec<Lower>,
}

/// Finds the boxes that builders run in.
pub trait Rooms: std::fmt::Debug + Send {
    /// Returns the box for what is wanted, built now where it was not before.
    fn room(&mut self, wanted: &Wanted<'_>) -> Result<Room, Problem>;
}

/// What is said while something is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// It is begun.
    Begun(BuilderKind, &'a str),
    /// A line of the builder's own words.
    Line(&'a str),
}

/// Makes what builder steps place.
pub struct Workshop {
    settings: Settings,
    rooms: Box<dyn Rooms>,
    say: Box<dyn FnMut(Said<'_>) + Send>,
}

/// Why something cannot be made.
#[derive(Debug, thiserror::Error)]
enum WorkshopError {
    #[error("it is for {wanted}, and this machine is {has}")]
    Architecture { wanted: String, has: &'static str },
    #[error("nothing can be built for `{0}`")]
    Path(String),
    #[error("`{0}` is no package's name")]
    Package(String),
    #[error("`{0}` was changed while it was read, or cannot be read")]
    Input(String),
    #[error("`{path}` cannot be used")]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Run(#[from] CommandError),
    #[error("what was made cannot be taken")]
    Artifact(#[from] ArtifactError),
}

/// The version of uv that is fetched where a box has none.
const UV: &str = "0.9.9";

impl Workshop {
    /// Makes things in `rooms`, and tells `say` what happens.
    pub fn new(settings: Settings, rooms: Box<dyn Rooms>, say: impl FnMut(Said<'_>) + Send + 'static) -> Self {
        Self { settings, rooms, say: Box::new(say) }
    }

    fn make(&mut self, wanted: &Wanted<'_>, room: Room, place: &Place) -> Result<Artifact, WorkshopError> {
        let builder = wanted.builder;
        let (above, name) = split(wanted.to)?;
        if let Some(name) = builder.packages.iter().find(|name| !is_package(name)) {
            return Err(WorkshopError::Package(name.clone()));
        }
        let work = self.settings.folder.join("work");
        fs::create_dir_all(&work).map_err(folder(&work))?;
        let run = tempfile::Builder::new().prefix("run-").tempdir_in(&work).map_err(folder(&work))?;
        let made = |name: &str| {
            let path = run.path().join(name);
            fs::create_dir(&path).map_err(folder(&path))?;
            Ok::<_, WorkshopError>(path)
        };
        let (source, home, out, scratch, settings) =
            (made("source")?, made("home")?, made("out")?, made("work")?, made("settings")?);
        stage(wanted, &source)?;
        let cache = self.settings.folder.join("cache").join(format!("{}-{}-{}", builder.kind, wanted.os, wanted.arch));
        fs::create_dir_all(&cache).map_err(folder(&cache))?;
        let given = host::given(&self.settings.host, builder.kind, &settings).map_err(folder(&settings))?;
        let bind = |from: &Path, to: &str| Bind { from: from.to_owned(), to: to.to_owned(), is_writable: true };
        let mut binds = vec![
            bind(&out, above),
            bind(&source, "/charly/source"),
            bind(&scratch, "/charly/work"),
            bind(&cache, CACHE),
            bind(&home, HOME),
        ];
        binds.extend(given.binds.iter().cloned());
        let mut env = given.env.clone();
        let own = [
            ("HOME", HOME),
            // In the container's memory there may be too little room.
            ("TMPDIR", "/charly/work"),
            ("CHARLY_CACHE", CACHE),
            ("CHARLY_CANDY", wanted.candy),
            ("CHARLY_PACKAGES", &builder.packages.join(" ")),
            ("CHARLY_SOURCE", "/charly/source"),
            ("CHARLY_TO", wanted.to),
            ("CHARLY_UV", UV),
            ("CHARLY_WORK", "/charly/work"),
        ];
        env.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let arguments = ["/bin/sh", "-c", script(builder.kind), "charly"].map(str::to_owned).into();
        let command = Command { arguments, env, folder: "/charly/source".to_owned(), binds };
        (self.say)(Said::Begun(builder.kind, wanted.candy));
        let say = &mut self.say;
        let result =
            command::run(&self.settings.sandbox, room.lowers, command, &self.settings.interrupts, &mut |line| {
                say(Said::Line(&given.without_secrets(line)));
            });
        result.map_err(|error| match error {
            CommandError::Failed { status, said } => {
                let said = said.iter().map(|line| given.without_secrets(line)).collect();
                CommandError::Failed { status, said }
            }
            error => error,
        })?;
        let made = out.join(name);
        if !made.is_dir() {
            return Err(ArtifactError::Nothing.into());
        }
        Ok(place.take(&made, &given.secrets)?)
    }
}

impl Builders for Workshop {
    fn artifact(&mut self, wanted: &Wanted<'_>) -> Result<Artifact, Problem> {
        let because = |error: WorkshopError| error.problem(wanted);
        let has = std::env::consts::ARCH;
        if wanted.arch != has {
            return Err(because(WorkshopError::Architecture { wanted: wanted.arch.to_owned(), has }));
        }
        split(wanted.to).map_err(because)?;
        command::check(&self.settings.sandbox).map_err(|error| because(error.into()))?;
        let room = self.rooms.room(wanted)?;
        // What builders are given may be in there, and what they left.
        make_private(&self.settings.folder).map_err(|error| because(folder(&self.settings.folder)(error)))?;
        let shelf = Shelf::new(&self.settings.folder);
        let place = shelf.place(wanted, script(wanted.builder.kind), room.id).map_err(|error| because(error.into()))?;
        if let Some(known) = place.known() {
            return Ok(known);
        }
        self.make(wanted, room, &place).map_err(because)
    }
}

impl Room {
    /// Takes an image of a store.
    pub fn of(store: &Store, image: &Image) -> Result<Self, StoreError> {
        let layers = store.layers(image)?;
        store.touch(image);
        let lower = |layer| Lower::of(store, layer);
        Ok(Self { id: image.id, lowers: layers.iter().map(lower).collect() })
    }
}

impl WorkshopError {
    fn problem(self, wanted: &Wanted<'_>) -> Problem {
        let why = Problem::from_error(&self);
        let mut problem = Problem::new(format!("`{}` cannot be built with {}", wanted.candy, wanted.builder.kind));
        problem.because = std::iter::once(why.what).chain(why.because).collect();
        let hint = match &self {
            Self::Run(error) => {
                if let CommandError::Failed { said, .. } | CommandError::Sandbox { said } = error {
                    problem.because.push(said.join("\n"));
                }
                error.hint()
            }
            Self::Architecture { .. } => Some("add it from a machine of that architecture"),
            Self::Path(_) => Some("the home folder of whoever it is for must lie in another folder"),
            Self::Artifact(ArtifactError::Secret { .. }) => Some(
                "keep passwords out of addresses: a `.netrc`, or a token by itself, is not written into what is built",
            ),
            Self::Package(_) | Self::Input(_) | Self::Folder { .. } | Self::Artifact(_) => None,
        };
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// Returns what a builder does.
fn script(kind: BuilderKind) -> &'static str {
    match kind {
        BuilderKind::Npm => include_str!("scripts/npm.sh"),
        BuilderKind::Cargo => include_str!("scripts/cargo.sh"),
        BuilderKind::Pixi => include_str!("scripts/pixi.sh"),
        BuilderKind::Uv => include_str!("scripts/uv.sh"),
        BuilderKind::Aur => include_str!("scripts/aur.sh"),
    }
}

/// Puts the inputs into a folder. Scripts among them can be started.
fn stage(wanted: &Wanted<'_>, source: &Path) -> Result<(), WorkshopError> {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, digest) in &wanted.builder.inputs {
        let unread = |_| WorkshopError::Input(name.clone());
        let mut bytes = Vec::new();
        match wanted.inputs.get(digest) {
            Some(Content::Memory(content)) => bytes.extend_from_slice(content),
            // Whether they are still the same, their digest says.
            Some(Content::File(path) | Content::Stamped(path, _)) => {
                fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(unread)?;
            }
            None => {}
        }
        let is_within = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if Digest::of(&bytes) != *digest || !is_within {
            return Err(WorkshopError::Input(name.clone()));
        }
        let path = source.join(name);
        let above = path.parent().unwrap_or(source);
        fs::create_dir_all(above).map_err(folder(above))?;
        fs::write(&path, &bytes).map_err(folder(&path))?;
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(folder(&path))?;
    }
    Ok(())
}

/// Splits the path that something is made for into the folder that is mounted and the name in it.
fn split(to: &str) -> Result<(&str, &str), WorkshopError> {
    let is_plain = to.starts_with('/') && !to.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    match to.rsplit_once('/') {
        Some((above, name)) if is_plain && !above.is_empty() => Ok((above, name)),
        _ => Err(WorkshopError::Path(to.to_owned())),
    }
}

/// Tells whether a word is a package's name, as Arch writes them.
fn is_package(name: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "@._+-".contains(letter);
    !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(letters)
}

fn folder(path: &Path) -> impl FnOnce(io::Error) -> WorkshopError + use<> {
    let path = path.to_owned();
    move |source| WorkshopError::Folder { path, source }
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { settings, rooms, say: _ } = self;
        f.debug_struct("Workshop").field("settings", settings).field("rooms", rooms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
