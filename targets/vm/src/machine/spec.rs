//! What a machine is to be: nothing is left to guess.

use std::path::PathBuf;

use charly_ir::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Name, distro};

/// A resolved machine, as its state file keeps it: it starts without the project that declared it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Where its disk comes from.
    pub source: Source,
    /// The size of its disk in bytes; its base's where nothing is said.
    pub disk_size: Option<u64>,
    /// Its further disks.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Folders of this machine that it has too.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its processors.
    pub cpus: u32,
    /// The machine type.
    pub machine: String,
    /// The firmware.
    pub firmware: Firmware,
    /// What carries its network.
    #[serde(default)]
    pub network: NetworkBackend,
    /// Its network card, as QEMU names it.
    pub card: String,
    /// The card's hardware address; one that follows from the instance where nothing is said.
    pub mac: Option<String>,
    /// Ports of this machine that lead into it.
    pub forwards: Vec<Forward>,
    /// How it is reached.
    pub ssh: Ssh,
    /// What its first boot sets up.
    pub cloud_init: FirstBoot,
    /// How the engine gets into it.
    pub charly_install: InstallStrategy,
    /// Whether it starts with its host.
    #[serde(default)]
    pub autostart: bool,
    /// What of it was given by hand, whatever is declared.
    #[serde(default)]
    pub by_hand: ByHand,
}

/// What is given by hand when a machine is made, and stays when it is made anew from what is declared by then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ByHand {
    /// The size of its disk in bytes.
    pub disk_size: Option<u64>,
    /// Its memory in bytes.
    pub memory: Option<u64>,
    /// Its processors.
    pub cpus: Option<u32>,
    /// The port on this machine.
    pub ssh_port: Option<u16>,
    /// Ports of this machine that lead into it, beside those that are declared.
    pub forwards: Vec<Forward>,
}

/// Where a machine's disk comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A distribution's cloud image.
    CloudImage {
        /// Its address; a `file:` one is a path of this machine.
        url: String,
        /// What its bytes must add up to; nothing where that is allowed not to be known.
        checksum: Option<Checksum>,
    },
    /// A distribution's own bootstrap, from packages.
    Bootstrap(Bootstrap),
    /// Another machine, or a snapshot of its disk.
    Clone {
        /// The machine.
        from: Name,
        /// The snapshot.
        snapshot: Option<String>,
    },
    /// A disk that is there already.
    Imported {
        /// The disk.
        path: String,
        /// Its format.
        format: Option<DiskFormat>,
        /// Whether it is used where it lies, instead of a copy.
        #[serde(default)]
        in_place: bool,
        /// What its bytes must add up to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
}

/// A base made of a distribution's packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The distribution.
    pub distro: String,
    /// Its suite.
    pub suite: String,
    /// Packages beyond the base.
    pub packages: Vec<String>,
    /// Arguments for the kernel.
    pub kernel_args: Vec<String>,
    /// Whether it boots from UEFI, too.
    #[serde(default)]
    pub uefi: bool,
}

/// What the bytes of an image must add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is computed.
    pub kind: ChecksumKind,
    /// Its digits, or the address of a file that lists them.
    pub value: String,
}

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say it")]
pub enum ChecksumKind {
    Sha256,
    Sha512,
}

/// A disk's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "their names say it")]
pub enum DiskFormat {
    Qcow2,
    Raw,
}

/// A machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI with Secure Boot.
    UefiSecure,
}

/// A further disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name, by which the guest finds it.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Disk {
    /// Returns the name of its file, below the machine's folder.
    pub fn file(&self) -> String {
        format!("{FURTHER}{}.qcow2", self.name)
    }
}

/// What the files of further disks begin with.
pub(super) const FURTHER: &str = "disk-";

/// A folder of this machine that the guest has too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The folder.
    pub source: PathBuf,
    /// Where the guest has it.
    pub target: String,
    /// Whether the guest can only read it.
    pub read_only: bool,
}

/// What the guest knows a share by: its place among them.
pub(super) fn tag(index: usize) -> String {
    format!("share{index}")
}

/// What carries a machine's network, as the user who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkBackend {
    /// passt where it is there and the processor itself runs the machine, else QEMU itself.
    #[default]
    Auto,
    /// passt.
    Passt,
    /// QEMU itself.
    Qemu,
}

/// A port of this machine that leads into the guest, on the loopback alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

/// How a machine is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// The user.
    pub user: String,
    /// The port on this machine; a free one where nothing is said.
    pub port: Option<u16>,
    /// Where the key comes from.
    pub key: KeySource,
    /// Whether the key goes in through SMBIOS credentials.
    pub smbios: bool,
    /// Whether the key goes in through cloud-init.
    pub cloud_init: bool,
}

/// Where a machine's key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// It is made once, for this machine.
    Generate,
    /// The user's own: a private key with its `.pub` beside it.
    Path(String),
    /// There is none: the machine lets its user in by other means.
    None,
}

/// What a first boot sets up, as cloud-init has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FirstBoot {
    /// Its host name; the machine's name where nothing is said.
    pub hostname: Option<String>,
    /// Its time zone.
    pub timezone: Option<String>,
    /// Its locale.
    pub locale: Option<String>,
    /// Further users.
    pub users: Vec<Json>,
    /// Packages.
    pub packages: Vec<String>,
    /// Commands of the first boot's end.
    pub runcmd: Vec<Json>,
    /// Commands of every boot's beginning.
    pub bootcmd: Vec<Json>,
    /// Files.
    pub write_files: Vec<Json>,
    /// Its network, version 2.
    pub network: Option<Json>,
    /// The address of the package mirror of its distribution.
    pub mirror: Option<String>,
    /// Anything else, merged into the rest.
    pub extra: Map<String, Json>,
}

/// How the engine gets into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstallStrategy {
    /// One that is there and fits is used, else it is delivered.
    #[default]
    Auto,
    /// It is always delivered.
    Scp,
    /// It must be there.
    Skip,
}

impl Spec {
    /// Makes a machine with every default.
    pub fn new(source: Source) -> Self {
        Self {
            ssh: Ssh {
                user: distro::user(&source).to_owned(),
                port: None,
                key: KeySource::Generate,
                smbios: false,
                cloud_init: true,
            },
            source,
            disk_size: None,
            disks: Vec::new(),
            shares: Vec::new(),
            network: NetworkBackend::default(),
            memory: 4 << 30,
            cpus: 2,
            machine: "q35".to_owned(),
            firmware: Firmware::Bios,
            card: "virtio-net-pci".to_owned(),
            mac: None,
            forwards: Vec::new(),
            cloud_init: FirstBoot::default(),
            charly_install: InstallStrategy::default(),
            autostart: false,
            by_hand: ByHand::default(),
        }
    }

    /// Lays what is given by hand over it.
    pub fn give(&mut self, by_hand: ByHand) {
        self.disk_size = by_hand.disk_size.or(self.disk_size);
        self.memory = by_hand.memory.unwrap_or(self.memory);
        self.cpus = by_hand.cpus.unwrap_or(self.cpus);
        self.ssh.port = by_hand.ssh_port.or(self.ssh.port);
        self.forwards.extend(&by_hand.forwards);
        self.by_hand = by_hand;
    }
}

/// Reads a pair of ports.
pub fn forward(text: &str) -> Option<Forward> {
    let (host, guest) = text.split_once(':')?;
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
    Some(Forward { host: port(host)?, guest: port(guest)? })
}

/// Tells whether a text is one word that neither a program's options nor a list of them would take for more.
pub fn word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(inner)
}
