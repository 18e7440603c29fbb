//! A base made from a distribution's packages, from the mirror this machine itself uses.
//!
//! Its disk boots as a BIOS boots one: a boot sector, GRUB's core behind it, and the partition of the root. Where a machine has UEFI, a second
//! partition, which lies before the root so that that can grow, holds what the distribution signed for Secure Boot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use charly_ir::Digest;
use charly_target_core::distribution::mmdebstrap;
use rustix::process::geteuid;

use super::base::{self, Base};
use super::spec::{Bootstrap, DiskFormat};
use super::{MachineError, fat, tool};

/// What a machine needs to boot, to be reached and to take candies.
const PACKAGES: &[&str] = &[
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
    "cloud-init",
    "cloud-guest-utils",
    "netplan.io",
    "initramfs-tools",
    "grub-pc-bin",
    "grub-common",
];

/// What a machine with UEFI needs besides.
const UEFI_PACKAGES: &[&str] = &["shim-signed", "grub-efi-amd64-signed"];

/// Runs in the new root: GRUB's core, which finds everything else on the first partition, and no identity.
const SETTLE: &str = r#"set -eu
chroot "$1" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/core.img \
  biosdisk part_msdos ext2 normal configfile linux serial terminal echo test
rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/hostname" "$1/etc/resolv.conf"
printf 'LABEL=root / ext4 errors=remount-ro 0 1\n' >"$1/etc/fstab"
: >"$1/etc/machine-id""#;

/// Turns the tree of `root.tar` into the file system of a disk: SIZE and OFFSET in KiB. Runs where root is root, or seems to be.
const LAY: &str = r#"set -eu
PATH=$PATH:/usr/sbin:/sbin
rm -rf tree disk.raw && mkdir tree
tar -C tree --exclude='./dev/*' -xf root.tar
cp tree/boot/grub/core.img tree/usr/lib/grub/i386-pc/boot.img .
if [ -e tree/usr/lib/shim ]; then
  cp "$(find tree/usr/lib/shim -type f -name 'shimx64.efi.signed*' | sort | head -n 1)" shim.efi
  cp tree/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed grub.efi
fi
truncate -s "$(( $0 + $1 ))K" disk.raw
mkfs.ext4 -q -F -L root -E offset="$(( $1 * 1024 ))" -d tree disk.raw "${0}k"
rm -rf tree"#;

/// The size of the file system in KiB; it grows with the machine's disk as that boots.
const SIZE: u64 = (3 << 20) - 1024;

/// What the folders of makings under way begin with.
const PREFIX: &str = "bootstrap-";

/// A sector's bytes, and the partition's first sector.
const SECTOR: u64 = 512;
const FIRST: u32 = 2048;

/// How many sectors the partition for UEFI has.
const ESP: u32 = 32768;

/// How it is labelled.
const ESP_LABEL: &[u8; 11] = b"ESP        ";

/// Returns a distribution's base, making it where its recipe was never followed.
pub fn made(folder: &Path, work: &Path, recipe: &Bootstrap) -> Result<Base, MachineError> {
    if cfg!(not(target_arch = "x86_64")) {
        let hint = "use a cloud image: `--from URL`";
        return Err(MachineError::invalid("disks are bootstrapped on x86-64 alone", hint));
    }
    let recipe_text = format!("{recipe:?} {PACKAGES:?} {SETTLE} {LAY} {SIZE} {}", menu(recipe));
    let known = folder.join(format!("{}-{}", recipe.suite, Digest::of(recipe_text.as_bytes()).short()));
    if let Ok(path) = known.canonicalize() {
        return Ok(Base { path, format: DiskFormat::Qcow2 });
    }
    fs::create_dir_all(work).map_err(MachineError::file("made", work))?;
    // One at a time: the second finds what the first has made, and nobody else's leavings are somebody's work.
    let lock = work.join("bootstrap.lock");
    let _lock =
        File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(MachineError::file("locked", &lock))?;
    if let Ok(path) = known.canonicalize() {
        return Ok(Base { path, format: DiskFormat::Qcow2 });
    }
    sweep(work)?;
    let temporary = tempfile::Builder::new().prefix(PREFIX).tempdir_in(work);
    let temporary = temporary.map_err(MachineError::file("made", work))?;
    let at = temporary.path();
    let disk = disk(at, recipe)?;
    let digest = File::open(&disk).and_then(Digest::of_reader).map_err(MachineError::file("read", &disk))?.0;
    let base = base::keep(folder, &disk, digest)?;
    let name = base.path.file_name().unwrap_or_default();
    match symlink(name, &known) {
        // Somebody else followed the recipe meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(base),
        done => done.map(|()| base).map_err(MachineError::file("written", &known)),
    }
}

fn disk(at: &Path, recipe: &Bootstrap) -> Result<std::path::PathBuf, MachineError> {
    let grub = at.join("grub.cfg");
    fs::write(&grub, menu(recipe)).map_err(MachineError::file("written", &grub))?;
    let kernel = if recipe.distro == "ubuntu" { "linux-image-virtual" } else { "linux-image-cloud-amd64" };
    let uefi = if recipe.uefi { UEFI_PACKAGES } else { &[] };
    let packages =
        PACKAGES.iter().chain(uefi).copied().chain([kernel]).chain(recipe.packages.iter().map(String::as_str));
    let (mut mmdebstrap, mirrors) = mmdebstrap(&recipe.distro, &recipe.suite);
    // Names below this folder, so that no path needs to be quoted for whoever reads a hook.
    mmdebstrap
        .current_dir(at)
        .arg(format!("--include={}", packages.collect::<Vec<_>>().join(",")))
        .arg("--customize-hook=mkdir -p \"$1/boot/grub\"")
        .arg("--customize-hook=upload grub.cfg /boot/grub/grub.cfg")
        .arg(format!("--customize-hook={SETTLE}"))
        .args([recipe.suite.as_str(), "root.tar"])
        .args(mirrors);
    tool::finish(&mut mmdebstrap)?;
    let root = if recipe.uefi { FIRST + ESP } else { FIRST };
    let offset = u64::from(root) * SECTOR / 1024;
    tool::finish(as_root(&["sh", "-c", LAY]).args([SIZE, offset].map(|kib| kib.to_string())).current_dir(at))?;
    let raw = at.join("disk.raw");
    let boot = |name: &str| fs::read(at.join(name)).map_err(MachineError::file("read", &at.join(name)));
    make_bootable(&raw, &boot("boot.img")?, &boot("core.img")?, root).map_err(MachineError::file("written", &raw))?;
    if recipe.uefi {
        let menu = format!("search --no-floppy --label root --set=root\n{}", entry(recipe));
        let folder = format!("EFI/{}/grub.cfg", recipe.distro);
        let (shim, grub) = (boot("shim.efi")?, boot("grub.efi")?);
        let files = [("EFI/BOOT/BOOTX64.EFI", &shim[..]), ("EFI/BOOT/grubx64.efi", &grub), (&folder, menu.as_bytes())];
        lay_esp(&raw, &at.join("esp.img"), &files).map_err(MachineError::file("written", &raw))?;
    }
    let qcow2 = at.join("disk.qcow2");
    tool::run(
        "qemu-img",
        [
            "convert".as_ref(),
            "-f".as_ref(),
            "raw".as_ref(),
            "-O".as_ref(),
            "qcow2".as_ref(),
            raw.as_os_str(),
            qcow2.as_os_str(),
        ],
    )?;
    Ok(qcow2)
}

/// Removes what makings left that were killed.
fn sweep(work: &Path) -> Result<(), MachineError> {
    let entries = fs::read_dir(work).map_err(MachineError::file("read", work))?;
    let left = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let left = left.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    let left: Vec<_> = left.collect();
    if left.is_empty() { Ok(()) } else { tool::finish(as_root(&["rm", "-rf", "--"]).args(left)).map(drop) }
}

/// Begins a command that root runs, or who seems to be: files get, and lose, the owners that they have in a guest.
fn as_root(words: &[&str]) -> Command {
    let seem: &[&str] = if geteuid().is_root() { &[] } else { &["unshare", "--user", "--map-root-user", "--map-auto"] };
    let words: Vec<_> = seem.iter().chain(words).collect();
    let mut command = tool::command(words[0]);
    command.args(&words[1..]);
    command
}

/// Returns GRUB's menu for a machine with BIOS.
fn menu(recipe: &Bootstrap) -> String {
    let serial = "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n";
    format!("{serial}{}", entry(recipe))
}

/// Returns the menu's one entry. The kernel is that of the links which its packages keep up to date.
fn entry(recipe: &Bootstrap) -> String {
    let folder = if recipe.distro == "ubuntu" { "/boot" } else { "" };
    let more = recipe.kernel_args.join(" ");
    format!(
        "set timeout=0\nmenuentry Linux {{\n  linux {folder}/vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 {more}\n  \
         initrd {folder}/initrd.img\n}}\n"
    )
}

/// Lays the partition for UEFI before the root.
fn lay_esp(disk: &Path, image: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
    let mut esp = fat::image(image, *ESP_LABEL, files)?;
    if esp.metadata()?.len() > u64::from(ESP) * SECTOR {
        return Err(io::Error::other("what the distribution signed is larger than expected"));
    }
    let mut disk = OpenOptions::new().write(true).open(disk)?;
    disk.seek(SeekFrom::Start(u64::from(FIRST) * SECTOR))?;
    esp.rewind()?;
    io::copy(&mut esp, &mut disk)?;
    disk.sync_all()
}

/// Writes the boot sector, GRUB's core behind it, and the table with the root's partition, and UEFI's where there is room before that.
fn make_bootable(disk: &Path, boot: &[u8], core: &[u8], root: u32) -> io::Result<()> {
    let room = (u64::from(FIRST) - 1) * SECTOR;
    if boot.len() as u64 != SECTOR || core.len() as u64 > room {
        return Err(io::Error::other("GRUB's images have sizes of which none is expected"));
    }
    let mut file = OpenOptions::new().write(true).open(disk)?;
    let sectors = file.metadata()?.len() / SECTOR;
    let length = u32::try_from(sectors).map_err(io::Error::other)? - root;
    let mut first = [0; 512];
    first[..440].copy_from_slice(&boot[..440]);
    // Active, Linux; where it begins and ends in cylinders is past what their numbers can say.
    first[446..454].copy_from_slice(&[0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    first[454..458].copy_from_slice(&root.to_le_bytes());
    first[458..462].copy_from_slice(&length.to_le_bytes());
    if root > FIRST {
        first[462..470].copy_from_slice(&[0, 0xfe, 0xff, 0xff, 0xef, 0xfe, 0xff, 0xff]);
        first[470..474].copy_from_slice(&FIRST.to_le_bytes());
        first[474..478].copy_from_slice(&(root - FIRST).to_le_bytes());
    }
    first[510..].copy_from_slice(&[0x55, 0xaa]);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&first)?;
    file.write_all(core)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_gets_its_boot_sector() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        File::create(&disk).unwrap().set_len(4 << 20).unwrap();
        make_bootable(&disk, &[1; 512], &[2; 1000], FIRST).unwrap();
        let bytes = fs::read(&disk).unwrap();
        assert_eq!((&bytes[..440], &bytes[512..1512]), (&[1; 440][..], &[2; 1000][..]));
        assert_eq!(&bytes[446..462], [0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 24, 0, 0]);
        assert_eq!(&bytes[510..512], [0x55, 0xaa]);
        assert!(make_bootable(&disk, &[1; 512], &vec![2; 2 << 20], FIRST).is_err());

        // UEFI's partition is the second in the table and the first on the disk.
        make_bootable(&disk, &[1; 512], &[2; 1000], FIRST + 2048).unwrap();
        let bytes = fs::read(&disk).unwrap();
        assert_eq!((&bytes[454..462], bytes[450]), (&[0, 16, 0, 0, 0, 16, 0, 0][..], 0x83));
        assert_eq!((&bytes[470..478], bytes[466]), (&[0, 8, 0, 0, 0, 8, 0, 0][..], 0xef));
        lay_esp(
            &disk,
            &folder.path().join("esp"),
            &[("EFI/BOOT/BOOTX64.EFI", &[7; 600]), ("EFI/BOOT/grubx64.efi", &[8])],
        )
        .unwrap();
        let esp = &fs::read(&disk).unwrap()[1 << 20..2 << 20];
        assert_eq!(&esp[510..512], [0x55, 0xaa]);
        assert!(esp.windows(600).any(|bytes| bytes == [7; 600]));
    }
}
