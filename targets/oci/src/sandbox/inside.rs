//! The sandbox's side: layers unpacked and laid over each other, the runtime, and what it left as a layer.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use charly_ir::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::bundle;
use super::tidy::{self, Below, SHADOW, tidy};
use super::{Lower, Order, Outcome};
use crate::layer::unpack::{OverlayXattrs, unpack};
use crate::layer::upper;
use crate::layer::{Entry, Kind, LayerError, LayerReader, LayerWriter, Limits};

/// Where in a run's folder the layers are seen as they were before it.
const BELOW: &str = "below";

/// Why a run in an image cannot be.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// Something about a file or folder of the sandbox's own fails.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not lay layers over each other there.
    #[error("the layers cannot be laid over each other in `{path}`")]
    Overlay {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime cannot be started.
    #[error("`{program}` cannot be started")]
    Runtime {
        /// Its program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A layer cannot be read or written.
    #[error("a layer cannot be {what}")]
    Layer {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: LayerError,
    },
}

impl InsideError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Runtime { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("install an OCI runtime: `sudo apt-get install crun`")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("user namespaces may be forbidden on this machine; run it as root, or allow them")
            }
            Self::Overlay { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                Some(
                    "its file system may be an overlay itself, as in a container; set XDG_DATA_HOME to a folder on another one",
                )
            }
            Self::Layer { source, .. } => source.hint(),
            Self::Runtime { .. } | Self::Overlay { .. } | Self::Io { .. } => None,
        }
    }
}

/// Does what an order says. It returns once the runtime has ended and the layer is written.
///
/// It must run in a mount namespace of its own: what it mounts is gone with its last process. Standard input and output are
/// the engine's.
pub fn run(order: &Path) -> Result<(), InsideError> {
    let text = fs::read(order).map_err(io("read", order))?;
    let order: Order = serde_json::from_slice(&text).map_err(|error| InsideError::Io {
        what: "understand",
        path: order.to_owned(),
        source: error.into(),
    })?;
    let result = within(&order);
    // What lies below it is not this run's alone.
    for mounted in ["root", BELOW] {
        unmount(order.work.join(mounted), UnmountFlags::DETACH).ok();
    }
    // Files in it may belong to users that only this namespace can remove.
    fs::remove_dir_all(&order.work).ok();
    result
}

fn within(order: &Order) -> Result<(), InsideError> {
    let xattrs = if order.is_user_namespace { OverlayXattrs::User } else { OverlayXattrs::Trusted };
    for lower in &order.lowers {
        unpacked(order, lower, xattrs)?;
    }
    let root = lay_over(order)?;
    let status = start(order, &root)?;
    let outcome = match &order.command {
        Some(_) => Outcome { layer: None, status: Some(status) },
        // How it ends says nothing: what the engine did, it has told its controller.
        None => Outcome { layer: pack(order, xattrs)?, status: None },
    };
    let outcome = serde_json::to_vec(&outcome).unwrap_or_default();
    fs::write(&order.outcome, outcome).map_err(io("write", &order.outcome))
}

/// Unpacks a layer, unless an earlier run has.
fn unpacked(order: &Order, lower: &Lower, xattrs: OverlayXattrs) -> Result<(), InsideError> {
    let tree = order.trees.join(&lower.tree);
    if tree.is_dir() {
        return Ok(());
    }
    let half = order.work.join(format!("unpacking-{}", lower.tree));
    fs::create_dir_all(&half).map_err(io("make", &half))?;
    let layer = |source| InsideError::Layer { what: "unpacked", source };
    let mut blob = File::open(&lower.blob).map_err(io("read", &lower.blob))?;
    let (digest, _) = Digest::of_reader(&mut blob).map_err(io("read", &lower.blob))?;
    if lower.blob.file_name() != Some(digest.to_string().as_ref()) {
        // Nobody shall take it for the right one again, and it is built or fetched anew.
        fs::remove_file(&lower.blob).ok();
        let why = "its bytes are not those that it is named after";
        return Err(layer(LayerError::Malformed { layer: lower.tree.clone(), why }));
    }
    blob.rewind().map_err(io("read", &lower.blob))?;
    let mut reader = LayerReader::new(blob, &lower.tree, Limits::default()).map_err(layer)?;
    unpack(&mut reader, &half, xattrs).map_err(layer)?;
    // Whoever finds it later believes it: it must not have its name before it is on the disk.
    File::open(&half).and_then(|half| Ok(rustix::fs::syncfs(half)?)).map_err(io("write", &half))?;
    match fs::rename(&half, &tree) {
        Ok(()) => Ok(()),
        // Another run was faster, and its tree is the same.
        Err(_) if tree.is_dir() => Ok(()),
        Err(source) => Err(io("make", &tree)(source)),
    }
}

/// Lays the layers over each other, and a folder for what is new over them. Returns the root.
fn lay_over(order: &Order) -> Result<PathBuf, InsideError> {
    let folder = |name: &str| {
        let path = order.work.join(name);
        fs::create_dir_all(&path).map_err(io("make", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io("make", &path))?;
        Ok(path)
    };
    let (upper, work, root, below) = (folder("upper")?, folder("overlay")?, folder("root")?, folder(BELOW)?);
    // A runtime looks there for groups of processes, which it is told not to make; some refuse a mixture of the two kinds.
    let groups = Path::new("/sys/fs/cgroup");
    if groups.is_dir() {
        mount("tmpfs", groups, "tmpfs", MountFlags::empty(), None)
            .map_err(|error| io("mount", groups)(error.into()))?;
    }
    // All that is said to the kernel must fit in a page: the layers are named from their folder.
    std::env::set_current_dir(&order.trees).map_err(io("enter", &order.trees))?;
    let empty = folder("lowest")?;
    let mut lowers: Vec<_> = order.lowers.iter().rev().map(|lower| lower.tree.clone()).collect();
    if lowers.is_empty() {
        lowers.push(empty.display().to_string());
    }
    // What is new is read or thrown away before the mount is gone: nobody waits for it to reach the disk.
    let user = if order.is_user_namespace { ",userxattr" } else { "" };
    let lowers = lowers.join(":");
    overlay(
        &root,
        &format!("lowerdir={lowers},upperdir={},workdir={},volatile{user}", upper.display(), work.display()),
    )?;
    // What was there before stays to be seen: whoever asks one layer after the other has to know what overlays know.
    if !order.lowers.is_empty() {
        overlay(&below, &format!("lowerdir={lowers}:{}{user}", empty.display()))?;
    }
    Ok(root)
}

fn overlay(at: &Path, options: &str) -> Result<(), InsideError> {
    let options = std::ffi::CString::new(options)
        .map_err(|error| io("mount", at)(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(|error| InsideError::Overlay { path: at.to_owned(), source: error.into() })
}

/// Runs the engine, or what is to be run instead of it, in the root until it ends. Returns its exit status.
fn start(order: &Order, root: &Path) -> Result<i32, InsideError> {
    let bundle = order.work.join("bundle");
    fs::create_dir_all(&bundle).map_err(io("make", &bundle))?;
    let resolver = Path::new("/etc/resolv.conf");
    let resolver = resolver.exists().then_some(resolver);
    let config = match &order.command {
        Some(command) => bundle::of_command(root, command, resolver),
        None => bundle::of_engine(root, &order.engine, resolver),
    };
    let path = bundle.join("config.json");
    fs::write(&path, config.to_string()).map_err(io("write", &path))?;
    let name = order.work.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let status = Command::new(&order.runtime)
        .arg("--root")
        .arg(order.work.join("state"))
        .arg("--cgroup-manager=disabled")
        .args(["run", "--bundle"])
        .arg(&bundle)
        .arg(format!("charly-{name}"))
        .status()
        .map_err(|source| InsideError::Runtime { program: order.runtime.clone(), source })?;
    Ok(status.code().unwrap_or(-1))
}

/// Writes what a run left as a layer.
fn pack(order: &Order, xattrs: OverlayXattrs) -> Result<Option<crate::layer::Layer>, InsideError> {
    let layer = |source| InsideError::Layer { what: "packed", source };
    let upper = order.work.join("upper");
    let entries = upper::entries(&upper, xattrs).map_err(layer)?;
    let lower = order.work.join(BELOW);
    let lower = rustix::fs::open(&lower, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io("read", &lower)(error.into()))?;
    let kept = tidy(entries, &|path| below(&lower, path), order.epoch);
    if kept.iter().all(|(entry, _)| entry.path.is_empty()) {
        return Ok(None);
    }
    let out = File::create(&order.blob).map_err(io("make", &order.blob))?;
    let mut writer =
        LayerWriter::new(out, order.compression, NonZero::new(order.threads).unwrap_or(NonZero::<usize>::MIN));
    for (mut entry, content) in kept {
        if entry.path == SHADOW && matches!(entry.kind, Kind::File { .. }) {
            let text = fs::read_to_string(&content).map_err(io("read", &content))?;
            let text = tidy::shadow(&text, &lower_text(&lower, SHADOW), order.epoch);
            entry.kind = Kind::File { size: text.len() as u64 };
            writer.append(&entry, &mut text.as_bytes()).map_err(layer)?;
            continue;
        }
        append(&mut writer, &entry, &content)?;
    }
    let (out, packed) = writer.finish().map_err(layer)?;
    out.sync_all().map_err(io("write", &order.blob))?;
    Ok(Some(packed))
}

fn append(writer: &mut LayerWriter<File>, entry: &Entry, content: &Path) -> Result<(), InsideError> {
    let mut bytes: Box<dyn Read> = match entry.kind {
        Kind::File { .. } => Box::new(File::open(content).map_err(io("read", content))?),
        _ => Box::new(io::empty()),
    };
    writer.append(entry, &mut bytes).map_err(|source| InsideError::Layer { what: "packed", source })
}

/// Returns what the layers below have at a path, which leads through no link.
fn below(root: &OwnedFd, path: &str) -> Option<Below> {
    let found = open_below(root, path, OFlags::PATH)?.metadata().ok()?;
    Some(Below { is_dir: found.is_dir(), mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() })
}

fn lower_text(root: &OwnedFd, path: &str) -> String {
    let file = open_below(root, path, OFlags::RDONLY | OFlags::NONBLOCK);
    file.and_then(|file| io::read_to_string(file).ok()).unwrap_or_default()
}

fn open_below(root: &OwnedFd, path: &str, flags: OFlags) -> Option<File> {
    let path = if path.is_empty() { "." } else { path };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).ok().map(File::from)
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InsideError {
    let path = path.to_owned();
    move |source| InsideError::Io { what, path, source }
}
