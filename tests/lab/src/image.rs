//! The two images guests start from, made once from Debian's packages and kept.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::snapshot::Sums;
use crate::{Error, Kind, Lab, host, proxy};

const BASE: &[&str] = &[
    "systemd-sysv",
    "udev",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "openssh-server",
    "sudo",
    "iproute2",
    "procps",
    "ca-certificates",
    "e2fsprogs",
    "zstd",
    "curl",
    "attr",
    "acl",
    "fish",
    "tcsh",
    "zsh",
];
const CONTAINERS: &[&str] = &[
    "podman",
    "crun",
    "passt",
    "netavark",
    "aardvark-dns",
    "catatonit",
    "uidmap",
    "fuse-overlayfs",
    "nftables",
    "busybox-static",
];
const MACHINE: &[&str] =
    &["linux-image-cloud-amd64", "initramfs-tools", "cloud-init", "cloud-guest-utils", "netplan.io"];
/// QEMU and what makes its disks. Debian 13's, whatever the host has: the emulator of 7.2 breaks kernels as they start.
const EMULATOR: &[&str] = &["qemu-system-x86", "qemu-utils", "xorriso"];
const CUSTOMIZE: &str = include_str!("customize.sh");

/// A finished image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    folder: PathBuf,
}

impl Image {
    /// The file tree nspawn guests are laid over.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The disk QEMU guests are laid over.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    /// The kernel QEMU guests boot.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The initial ramdisk QEMU guests boot.
    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// The tree QEMU runs in.
    pub(crate) fn emulator(&self) -> PathBuf {
        self.folder.join("emulator")
    }

    /// The digests of the tree's files, so that a guest need not read what it has not touched.
    pub(crate) fn sums(&self) -> PathBuf {
        self.folder.join("sums")
    }
}

/// Gives the image of a kind, making it if its recipe was never followed here; `fresh` makes it anew.
pub(crate) fn image(lab: &Lab, kind: Kind, fresh: bool) -> Result<Image, Error> {
    let images = lab.state().join("image");
    host::mkdir(&images)?;
    let _lock = lab.lock("image/lock")?;
    let key = lab.key()?;
    let public = host::read(&key.with_extension("pub"))?;
    let recipe = (kind.to_string(), BASE, CONTAINERS, MACHINE, EMULATOR, CUSTOMIZE, lab.suite(), &public);
    let folder = images.join(format!("{kind}-{:016x}", digest(&recipe)));
    if fresh {
        host::remove(&folder)?;
    }
    let image = Image { folder };
    if !image.folder.exists() {
        let part = Image { folder: images.join(format!("{kind}.part")) };
        host::remove(&part.folder)?;
        host::mkdir(&part.folder)?;
        make(lab, kind, &public, &part)?;
        fs::rename(&part.folder, &image.folder)
            .map_err(Error::io(format!("move the image to `{}`", image.folder.display())))?;
    }
    Ok(image)
}

fn make(lab: &Lab, kind: Kind, public: &str, image: &Image) -> Result<(), Error> {
    proxy::start(lab)?;
    let mut packages = [BASE, CONTAINERS].concat();
    if kind == Kind::Qemu {
        packages.extend(MACHINE);
    }
    let hook = image.folder.join("customize");
    host::write(&hook, CUSTOMIZE)?;
    let hook = format!("--customize-hook=sh {} \"$1\"", host::text(&hook));
    bootstrap(lab, &packages, &image.root(), Command::new("mmdebstrap").arg(hook).env("KEY", public.trim()))?;
    match kind {
        Kind::Nspawn => Sums::of_tree(&image.root())?.save(&image.sums()),
        Kind::Qemu => {
            bootstrap(lab, EMULATOR, &image.emulator(), &mut Command::new("mmdebstrap"))?;
            make_disk(image)
        }
    }
}

fn bootstrap(lab: &Lab, packages: &[&str], root: &Path, mmdebstrap: &mut Command) -> Result<(), Error> {
    mmdebstrap
        .args(["--quiet", "--mode=root", "--format=directory", "--variant=minbase"])
        // With the lists in place a guest installs at once, as a machine in use would.
        .arg("--skip=cleanup/apt/lists")
        .arg(format!("--aptopt={}", proxy::apt_option()))
        .arg(format!("--include={}", packages.join(",")))
        .arg(lab.suite())
        .arg(root)
        .arg(lab.mirror()?);
    host::run_command(mmdebstrap).map(drop)
}

/// Turns the tree into a disk with the kernel beside it.
fn make_disk(image: &Image) -> Result<(), Error> {
    let boot = image.root().join("boot");
    fs::rename(newest(&boot, "vmlinuz-")?, image.kernel()).map_err(Error::io("take the kernel out"))?;
    fs::rename(newest(&boot, "initrd.img-")?, image.initrd()).map_err(Error::io("take the ramdisk out"))?;
    host::run("truncate", &["-s", "6G", host::text(&image.disk())])?;
    host::run("mkfs.ext4", &["-q", "-L", "root", "-d", host::text(&image.root()), host::text(&image.disk())])?;
    host::remove(&image.root())
}

fn newest(folder: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(Error::io(format!("list `{}`", folder.display())))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .max()
        .ok_or_else(|| Error::Host(format!("the image holds no `{prefix}*`")))
}

fn digest(recipe: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    recipe.hash(&mut hasher);
    hasher.finish()
}
