//! Virtual machines.

use serde_json::Value as Json;

use super::package::PackageEntry;
use super::values::Sha256;
use crate::read::{Map, Spanned, choice, record};

record! {
    /// A virtual machine: what it is made of, not what is deployed on it.
    pub struct VmSpec {
        /// What the machine is for.
        pub description: Option<String>,
        /// Where its disk comes from.
        pub source: VmSource,
        /// The size of its disk, such as `20G`.
        pub disk_size: Option<Spanned<String>>,
        /// Further disks, which keep what is on them when the machine is made anew.
        pub disk: Vec<VmDisk>,
        /// Folders of its host that it has too.
        pub share: Vec<VmShare>,
        /// Its memory; 4G where nothing is said.
        pub ram: Option<Spanned<String>>,
        /// Its CPUs; 2 where nothing is said.
        pub cpu: Option<u32>,
        /// The machine type, such as `q35`.
        pub machine: Option<String>,
        /// The firmware.
        pub firmware: Option<Firmware>,
        /// What runs it.
        pub backend: Option<Backend>,
        /// Whether it starts with its host.
        pub autostart: bool,
        /// Its network.
        pub network: Option<VmNetwork>,
        /// How it is reached.
        pub ssh: Option<VmSsh>,
        /// What its first boot sets up.
        pub cloud_init: Option<CloudInit>,
        /// Further devices of its domain.
        pub libvirt: Option<Json>,
        /// Snapshots.
        pub snapshot: Vec<Json>,
    }
}

record! {
    /// Where a machine's disk comes from: exactly one of these.
    pub struct VmSource {
        /// A distribution's cloud image.
        pub cloud_image: Option<Spanned<CloudImage>>,
        /// A bootable container.
        pub bootc: Option<Spanned<BootcSource>>,
        /// A distribution's own bootstrap.
        pub bootstrap: Option<Spanned<BootstrapSource>>,
        /// Another machine.
        pub clone as "clone": Option<Spanned<CloneSource>>,
        /// A disk that is there already.
        pub imported: Option<Spanned<ImportedSource>>,
    }
}

record! {
    /// A further disk of a machine: empty at first, and nothing in it is ever changed from outside.
    pub struct VmDisk {
        /// Names it; the machine finds it as `/dev/disk/by-id/virtio-NAME`.
        pub name: Spanned<String>,
        /// Its size, such as `10G`.
        pub size: Spanned<String>,
    }
}

record! {
    /// A folder of the host that a machine has too, by virtiofs.
    pub struct VmShare {
        /// The folder: an absolute path, or one below `~/`.
        pub source: Spanned<String>,
        /// Where the machine has it.
        pub target: Spanned<String>,
        /// Whether the machine can only read it.
        pub read_only: bool,
    }
}

record! {
    /// A distribution's cloud image.
    pub struct CloudImage {
        /// Its address.
        pub url: Spanned<String>,
        /// What its bytes must add up to.
        pub checksum: Option<Checksum>,
        /// Whether it is kept for other machines.
        pub cache: Option<bool>,
        /// The user the image comes with.
        pub base_user: Option<String>,
    }
}

record! {
    /// A checksum.
    pub struct Checksum {
        /// How it is computed.
        pub kind as "type": Option<Spanned<ChecksumKind>>,
        /// Its digits, or the address of a file that lists them.
        pub value: Spanned<String>,
    }
}

choice! {
    /// How a checksum is computed.
    pub enum ChecksumKind {
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-512.
        Sha512 = "sha512",
    }
}

record! {
    /// A bootable container.
    pub struct BootcSource {
        /// The box, or an image.
        pub box_ as "box": Spanned<String>,
        /// Where the image is looked for.
        pub transport: Option<String>,
        /// The root file system.
        pub rootfs: Option<String>,
        /// Its size.
        pub root_size: Option<String>,
        /// Arguments for the kernel.
        pub kernel_args: Vec<String>,
    }
}

record! {
    /// A distribution's own bootstrap.
    pub struct BootstrapSource {
        /// The distribution.
        pub distro: Spanned<String>,
        /// Its suite.
        pub suite: Option<String>,
        /// Packages beyond the base.
        pub package: Vec<Spanned<PackageEntry>>,
        /// The root file system.
        pub rootfs: Option<String>,
        /// Its size.
        pub root_size: Option<String>,
        /// Arguments for the kernel.
        pub kernel_args: Vec<String>,
    }
}

record! {
    /// Another machine.
    pub struct CloneSource {
        /// The machine.
        pub from_vm: Spanned<String>,
        /// Its snapshot.
        pub from_snapshot: Option<String>,
    }
}

record! {
    /// A disk that is there already.
    pub struct ImportedSource {
        /// The disk.
        pub disk_path: Spanned<String>,
        /// Its format, such as `qcow2`.
        pub disk_format: Option<String>,
        /// The name of its domain.
        pub libvirt_name: Option<String>,
        /// What its bytes must add up to.
        pub sha256: Option<Sha256>,
    }
}

choice! {
    /// A machine's firmware.
    pub enum Firmware {
        /// BIOS.
        Bios = "bios",
        /// UEFI without Secure Boot.
        UefiInsecure = "uefi-insecure",
        /// UEFI with Secure Boot.
        UefiSecure = "uefi-secure",
    }
}

choice! {
    /// What runs a machine.
    pub enum Backend {
        /// libvirt where it is there, else QEMU.
        Auto = "auto",
        /// libvirt's user session.
        Libvirt = "libvirt",
        /// QEMU itself.
        Qemu = "qemu",
    }
}

record! {
    /// A machine's network.
    pub struct VmNetwork {
        /// The card.
        pub model: Option<String>,
        /// How it is connected.
        pub mode: Option<NetworkMode>,
        /// What carries `mode: user`; passt where it is there and KVM runs the machine, else QEMU itself.
        pub backend: Option<NetworkBackend>,
        /// The bridge, or libvirt's network.
        pub bridge: Option<String>,
        /// The hardware address.
        pub mac: Option<String>,
        /// Ports of the host that lead into it, `host:guest`.
        pub port_forwards: Vec<Spanned<String>>,
    }
}

choice! {
    /// How a machine is connected.
    pub enum NetworkMode {
        /// Through the user's own sockets.
        User = "user",
        /// To a bridge.
        Bridge = "bridge",
        /// To libvirt's NAT network.
        Nat = "nat",
        /// To a network of libvirt's.
        Network = "network",
    }
}

choice! {
    /// What carries a machine's network by the user's own sockets.
    pub enum NetworkBackend {
        /// passt, which must be there.
        Passt = "passt",
        /// QEMU itself.
        Qemu = "qemu",
    }
}

record! {
    /// How a machine is reached.
    pub struct VmSsh {
        /// The user.
        pub user: Option<String>,
        /// The port on the host.
        pub port: Option<Spanned<u16>>,
        /// Whether a free port is taken.
        pub port_auto: bool,
        /// Where the key comes from: `auto`, `generate`, `none`, or a path.
        pub key_source: Option<Spanned<String>>,
        /// How the key gets into the machine.
        pub key_injection: Option<KeyInjection>,
    }
}

record! {
    /// How a key gets into a machine.
    pub struct KeyInjection {
        /// Through SMBIOS.
        pub smbios: Option<bool>,
        /// Through cloud-init.
        pub cloud_init: Option<bool>,
    }
}

record! {
    /// What a machine's first boot sets up.
    pub struct CloudInit {
        /// Its name.
        pub hostname: Option<Spanned<String>>,
        /// Its time zone.
        pub timezone: Option<String>,
        /// Its locale.
        pub locale: Option<String>,
        /// Users, as cloud-init has them.
        pub users: Vec<Json>,
        /// Packages.
        pub package: Vec<Spanned<PackageEntry>>,
        /// Commands of the first boot's end.
        pub runcmd: Vec<Json>,
        /// Commands of every boot's beginning.
        pub bootcmd: Vec<Json>,
        /// Files, as cloud-init has them.
        pub write_files: Vec<Json>,
        /// Its network, as cloud-init has it (version 2).
        pub network: Option<Json>,
        /// Package mirrors, by distribution.
        pub mirrors: Option<Json>,
        /// How the engine gets into the machine.
        pub charly_install: Option<CharlyInstall>,
        /// Anything else cloud-init knows; merged into the rest.
        pub extra: Map<Json>,
    }
}

record! {
    /// How the engine gets into a machine.
    pub struct CharlyInstall {
        /// The strategy.
        pub strategy: Option<InstallStrategy>,
    }
}

choice! {
    /// How the engine gets into a machine.
    pub enum InstallStrategy {
        /// One that is there and fits is used, else it is delivered.
        Auto = "auto",
        /// It is always delivered.
        Scp = "scp",
        /// It must be there.
        Skip = "skip",
    }
}
