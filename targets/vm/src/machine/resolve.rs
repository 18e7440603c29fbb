//! A declaration, read: sizes in bytes, defaults applied, every mistake named with its place.

use std::path::{Path, PathBuf};

use charly_plans::diagnostic::Diagnostic;
use charly_plans::load::Declared;
use charly_plans::schema::{self, CloudInit, Spanned, VmSpec};
use charly_plans::source::{Place, Span};
use serde_json::Value as Json;

use super::spec::{
    Bootstrap, Checksum, ChecksumKind, Disk, DiskFormat, Firmware, FirstBoot, InstallStrategy, KeySource,
    NetworkBackend, Share, Source, Spec, forward, word,
};
use super::{BadName, distro, size};

/// What a declaration is read for.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The user's home folder, which `~` stands for.
    pub home: &'a Path,
    /// Whether an image passes that no checksum is declared for.
    pub allow_unverified: bool,
    /// Whether a machine is made of it, so that the paths that it names must be there.
    pub making: bool,
}

impl Spec {
    /// Reads a declaration.
    pub fn resolve(declared: &Declared<VmSpec>, reading: Reading<'_>) -> Result<Self, Vec<Diagnostic>> {
        let mut reader = Reader { place: &declared.place, reading, found: Vec::new() };
        let spec = reader.spec(&declared.value);
        match (spec, reader.found) {
            (Some(spec), found) if found.is_empty() => Ok(spec),
            (_, found) => Err(found),
        }
    }
}

/// Reads a declaration and notes what is wrong with it.
struct Reader<'a> {
    place: &'a Place,
    reading: Reading<'a>,
    found: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn wrong<T>(&mut self, span: Option<Span>, what: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        let source = self.place.source.clone();
        let place = Place { source, span: span.unwrap_or(self.place.span) };
        self.found.push(Diagnostic::error(what).at(place).hint(hint));
        None
    }

    fn spec(&mut self, vm: &VmSpec) -> Option<Spec> {
        let source = self.source(&vm.source);
        let sizes = [&vm.disk_size, &vm.ram].map(|written| {
            let written = written.as_ref()?;
            size::parse(&written.value).or_else(|| {
                let what = format!("`{}` is no size", written.value);
                self.wrong(Some(written.span), what, "write a number with a unit, such as `20G` or `512M`")
            })
        });
        let mut spec = Spec::new(source?);
        let [disk, memory] = sizes;
        spec.disk_size = disk;
        spec.disks = self.disks(&vm.disk)?;
        spec.shares = self.shares(&vm.share)?;
        spec.memory = memory.unwrap_or(spec.memory);
        spec.cpus = vm.cpu.unwrap_or(spec.cpus);
        if !(1..=255).contains(&spec.cpus) {
            self.wrong(None, format!("`cpu: {}` is no number of processors", spec.cpus), "write 1 to 255")?;
        }
        if let Some(machine) = &vm.machine {
            spec.machine = self.word("machine", machine)?;
        }
        spec.firmware = match vm.firmware {
            None | Some(schema::Firmware::Bios) => Firmware::Bios,
            Some(schema::Firmware::UefiInsecure) => Firmware::Uefi,
            Some(schema::Firmware::UefiSecure) => Firmware::UefiSecure,
        };
        if let Source::Bootstrap(recipe) = &mut spec.source {
            recipe.uefi = spec.firmware != Firmware::Bios;
        }
        match vm.backend {
            None | Some(schema::Backend::Auto | schema::Backend::Qemu) => {}
            Some(schema::Backend::Libvirt) => {
                self.wrong::<()>(None, "the backend `libvirt` is not there yet", "write `backend: qemu`")?;
            }
        }
        if vm.libvirt.is_some() {
            self.wrong::<()>(
                None,
                "`libvirt` devices need the backend `libvirt`, which is not there yet",
                "leave them out",
            )?;
        }
        spec.autostart = vm.autostart;
        if !vm.snapshot.is_empty() {
            self.wrong::<()>(None, "snapshots are not declared", "make them with `charly vm snapshot create`")?;
        }
        if let Some(network) = &vm.network {
            self.network(network, &mut spec)?;
        }
        if let Some(ssh) = &vm.ssh {
            self.ssh(ssh, &mut spec)?;
        }
        if let Some(cloud_init) = &vm.cloud_init {
            spec.cloud_init = self.first_boot(cloud_init, &spec.source)?;
            spec.charly_install = match cloud_init.charly_install.as_ref().and_then(|install| install.strategy) {
                None | Some(schema::InstallStrategy::Auto) => InstallStrategy::Auto,
                Some(schema::InstallStrategy::Scp) => InstallStrategy::Scp,
                Some(schema::InstallStrategy::Skip) => InstallStrategy::Skip,
            };
        }
        Some(spec)
    }

    fn disks(&mut self, declared: &[schema::VmDisk]) -> Option<Vec<Disk>> {
        let mut disks: Vec<Disk> = Vec::new();
        for schema::VmDisk { name, size: written } in declared {
            // virtio has no room for a longer one.
            if !word(&name.value) || name.value.len() > 20 {
                let hint = "write at most 20 letters, digits and `.+_-`";
                return self.wrong(Some(name.span), format!("`{}` is no name for a disk", name.value), hint);
            }
            if disks.iter().any(|disk| disk.name == name.value) {
                return self.wrong(Some(name.span), format!("there are two disks `{}`", name.value), "rename one");
            }
            let Some(size) = size::parse(&written.value) else {
                let what = format!("`{}` is no size", written.value);
                return self.wrong(Some(written.span), what, "write a number with a unit, such as `20G` or `512M`");
            };
            disks.push(Disk { name: name.value.clone(), size });
        }
        Some(disks)
    }

    fn shares(&mut self, declared: &[schema::VmShare]) -> Option<Vec<Share>> {
        let mut shares: Vec<Share> = Vec::new();
        for schema::VmShare { source, target, read_only } in declared {
            // It becomes a line of fstab(5), whose words are apart by blanks.
            let plain = |part: &str| {
                part != ".." && !part.contains(|c: char| c.is_whitespace() || c.is_control() || "\\#".contains(c))
            };
            if !target.value.starts_with('/') || target.value == "/" || !target.value.split('/').all(plain) {
                let what = format!("`{}` is no place for a share", target.value);
                return self.wrong(
                    Some(target.span),
                    what,
                    "write an absolute path without blanks, such as `/srv/data`",
                );
            }
            if shares.iter().any(|share| share.target == target.value) {
                let what = format!("there are two shares at `{}`", target.value);
                return self.wrong(Some(target.span), what, "give one another `target`");
            }
            let source = self.path(source, Path::is_dir)?;
            shares.push(Share { source, target: target.value.clone(), read_only: *read_only });
        }
        Some(shares)
    }

    /// Reads a path of this machine. Where a machine is made of it, it must be there.
    fn path(&mut self, written: &Spanned<String>, is_right: fn(&Path) -> bool) -> Option<PathBuf> {
        let path = match written.value.strip_prefix("~/") {
            Some(below) => self.reading.home.join(below),
            None => PathBuf::from(&written.value),
        };
        if !path.is_absolute() {
            let what = format!("`{}` is no absolute path", written.value);
            return self.wrong(Some(written.span), what, "begin it with `/` or `~/`");
        }
        if self.reading.making && !is_right(&path) {
            let what = if path.exists() { "is another kind of thing" } else { "is not there" };
            return self.wrong(
                Some(written.span),
                format!("`{}` {what}", path.display()),
                "mend the path, or put there what it names",
            );
        }
        Some(path)
    }

    /// Reads where the disk comes from. That it is said exactly once, the project's loading has judged.
    fn source(&mut self, source: &schema::VmSource) -> Option<Source> {
        if let Some(image) = &source.cloud_image {
            return self.cloud_image(&image.value, image.span);
        }
        if let Some(bootstrap) = &source.bootstrap {
            return self.bootstrap(&bootstrap.value, bootstrap.span);
        }
        if let Some(clone) = &source.clone {
            let from = &clone.value.from_vm;
            let Ok(name) = from.value.parse() else {
                return self.wrong(Some(from.span), format!("`{}` names no machine", from.value), BadName::HINT);
            };
            return Some(Source::Clone { from: name, snapshot: clone.value.from_snapshot.clone() });
        }
        if let Some(imported) = &source.imported {
            let format = match imported.value.disk_format.as_deref() {
                None => None,
                Some("qcow2") => Some(DiskFormat::Qcow2),
                Some("raw") => Some(DiskFormat::Raw),
                Some(other) => {
                    let what = format!("`{other}` is no format of a disk that is known");
                    return self.wrong(Some(imported.span), what, "write `qcow2` or `raw`");
                }
            };
            let path = self.path(&imported.value.disk_path, Path::is_file)?.display().to_string();
            let sha256 = imported.value.sha256.map(|sha256| sha256.0);
            return Some(Source::Imported { path, format, in_place: false, sha256 });
        }
        let span = source.bootc.as_ref().map(|bootc| bootc.span);
        let hint =
            "use `cloud_image` or `bootstrap`; a bootable container needs `bootc install`, which nothing here runs";
        self.wrong(span, "the source `bootc` is not there yet", hint)
    }

    fn cloud_image(&mut self, image: &schema::CloudImage, span: Span) -> Option<Source> {
        let checksum = match &image.checksum {
            Some(checksum) => {
                let digits = checksum.value.value.trim();
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let kind = match (checksum.kind.as_ref().map(|kind| kind.value), digits.len()) {
                    (Some(schema::ChecksumKind::Sha256), _) | (None, 64) => ChecksumKind::Sha256,
                    (Some(schema::ChecksumKind::Sha512), _) | (None, 128) => ChecksumKind::Sha512,
                    (None, _) if digits.contains("SHA512") => ChecksumKind::Sha512,
                    (None, _) => ChecksumKind::Sha256,
                };
                let wanted = if kind == ChecksumKind::Sha256 { 64 } else { 128 };
                let is_digits = is_hex && digits.len() == wanted;
                if !is_digits && !digits.contains("://") {
                    let what = format!("`{digits}` is no checksum of {wanted} hexadecimal digits");
                    let hint = "write the digits, or the address of a file that lists them";
                    return self.wrong(Some(checksum.value.span), what, hint);
                }
                let value = if is_hex { digits.to_ascii_lowercase() } else { digits.to_owned() };
                Some(Checksum { kind, value })
            }
            None if self.reading.allow_unverified => None,
            None => {
                let hint = "add `checksum: {type: sha256, value: …}`, or call with `--allow-unverified`";
                return self.wrong(Some(span), "nothing says what the image's bytes must add up to", hint);
            }
        };
        let url = &image.url;
        if !["http://", "https://", "file:///"].iter().any(|scheme| url.value.starts_with(scheme)) {
            let hint = "write `https://…`, or `file:///…` for a file of this machine";
            return self.wrong(Some(url.span), format!("`{}` is no address of an image", url.value), hint);
        }
        if let Some(path) = url.value.strip_prefix("file://") {
            self.path(&Spanned { value: path.to_owned(), span: url.span }, Path::is_file)?;
        }
        Some(Source::CloudImage { url: url.value.clone(), checksum })
    }

    fn bootstrap(&mut self, source: &schema::BootstrapSource, span: Span) -> Option<Source> {
        let distro = &source.distro;
        let Some(known) = distro::bootstrapped(&distro.value) else {
            let what = format!("`{}` cannot be bootstrapped here", distro.value);
            return self.wrong(Some(distro.span), what, "`debian` and `ubuntu` can; for others use `cloud_image`");
        };
        if source.rootfs.as_deref().is_some_and(|rootfs| rootfs != "ext4") {
            return self.wrong(Some(span), "only `rootfs: ext4` can be bootstrapped", "leave `rootfs` out");
        }
        if source.root_size.is_some() {
            return self.wrong(Some(span), "the root file system grows with the disk", "write `disk_size` instead");
        }
        let suite = source.suite.clone().unwrap_or_else(|| known.to_owned());
        if !word(&suite) {
            return self.wrong(Some(span), format!("`{suite}` is no suite"), "write one such as `trixie`");
        }
        if let Some(bad) = source.kernel_args.iter().find(|argument| !argument.bytes().all(kernel_byte)) {
            let hint = "write one argument an entry, of letters, digits and `.,:=/_-`";
            return self.wrong(Some(span), format!("`{bad}` is no argument for a kernel"), hint);
        }
        let packages: Vec<_> = source.package.iter().map(|package| package.value.name.clone()).collect();
        if let Some(bad) = packages.iter().find(|package| !word(package)) {
            return self.wrong(Some(span), format!("`{bad}` is no package"), "write names alone");
        }
        let (distro, kernel_args) = (distro.value.clone(), source.kernel_args.clone());
        Some(Source::Bootstrap(Bootstrap { distro, suite, packages, kernel_args, uefi: false }))
    }

    fn network(&mut self, network: &schema::VmNetwork, spec: &mut Spec) -> Option<()> {
        if !matches!(network.mode, None | Some(schema::NetworkMode::User)) || network.bridge.is_some() {
            return self.wrong(None, "only `mode: user` is there yet", "leave `mode` and `bridge` out");
        }
        spec.network = match network.backend {
            None => NetworkBackend::Auto,
            Some(schema::NetworkBackend::Passt) => NetworkBackend::Passt,
            Some(schema::NetworkBackend::Qemu) => NetworkBackend::Qemu,
        };
        spec.card = match network.model.as_deref() {
            None | Some("virtio") => spec.card.clone(),
            Some(model @ ("e1000" | "e1000e" | "rtl8139" | "virtio-net-pci")) => model.to_owned(),
            Some(other) => {
                return self.wrong(
                    None,
                    format!("`{other}` is no card"),
                    "write `virtio`, `e1000`, `e1000e` or `rtl8139`",
                );
            }
        };
        if let Some(mac) = &network.mac {
            let bytes: Vec<_> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
            let first = bytes.first().copied().flatten();
            if bytes.len() != 6 || bytes.contains(&None) || mac.len() != 17 || first.is_none_or(|first| first & 1 == 1)
            {
                return self.wrong(
                    None,
                    format!("`{mac}` is no hardware address"),
                    "write one such as `52:54:00:12:34:56`",
                );
            }
            spec.mac = Some(mac.to_ascii_lowercase());
        }
        for written in &network.port_forwards {
            if let Some(forward) = forward(&written.value) {
                if spec.forwards.iter().any(|other| other.host == forward.host) {
                    let what = format!("port {} of the host is forwarded twice", forward.host);
                    return self.wrong(Some(written.span), what, "give one of the two another port");
                }
                spec.forwards.push(forward);
            } else {
                let what = format!("`{}` is no pair of ports", written.value);
                self.wrong::<()>(Some(written.span), what, "write `host:guest`, such as `8080:80`")?;
            }
        }
        Some(())
    }

    fn ssh(&mut self, ssh: &schema::VmSsh, spec: &mut Spec) -> Option<()> {
        if let Some(user) = &ssh.user {
            spec.ssh.user = self.word("user", user)?;
        }
        if let Some(port) = ssh.port.as_ref().filter(|_| !ssh.port_auto) {
            if port.value == 0 {
                return self.wrong(Some(port.span), "0 is no port", "leave it out, and a free one is taken");
            }
            spec.ssh.port = Some(port.value);
        }
        spec.ssh.key = match ssh.key_source.as_ref().map(|source| (source.value.as_str(), source)) {
            None | Some(("auto" | "generate", _)) => KeySource::Generate,
            Some(("none", _)) => KeySource::None,
            Some((path, source)) if path.starts_with('/') || path.starts_with("~/") => {
                self.path(source, Path::is_file)?;
                KeySource::Path(path.to_owned())
            }
            Some((other, source)) => {
                let what = format!("`{other}` says not where the key comes from");
                return self.wrong(Some(source.span), what, "write `auto`, `generate`, `none` or an absolute path");
            }
        };
        if let Some(injection) = &ssh.key_injection {
            spec.ssh.smbios = injection.smbios.unwrap_or(spec.ssh.smbios);
            spec.ssh.cloud_init = injection.cloud_init.unwrap_or(spec.ssh.cloud_init);
        }
        if spec.ssh.key != KeySource::None && !spec.ssh.smbios && !spec.ssh.cloud_init {
            return self.wrong(
                None,
                "no channel is left for the key",
                "leave `key_injection` out, or write `key_source: none`",
            );
        }
        Some(())
    }

    fn first_boot(&mut self, boot: &CloudInit, source: &Source) -> Option<FirstBoot> {
        let mirror = boot.mirrors.as_ref().and_then(|mirrors| match mirrors {
            Json::String(all) => Some(all.clone()),
            mirrors => mirrors.get(distro::name(source)?)?.as_str().map(str::to_owned),
        });
        if let Some(hostname) = &boot.hostname {
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            if hostname.value.len() > 253 || !hostname.value.split('.').all(label) {
                let what = format!("`{}` is no host name", hostname.value);
                return self.wrong(Some(hostname.span), what, "write letters, digits, hyphens and dots");
            }
        }
        Some(FirstBoot {
            hostname: boot.hostname.as_ref().map(|hostname| hostname.value.clone()),
            timezone: boot.timezone.clone(),
            locale: boot.locale.clone(),
            users: boot.users.clone(),
            packages: boot.package.iter().map(|package| package.value.name.clone()).collect(),
            runcmd: boot.runcmd.clone(),
            bootcmd: boot.bootcmd.clone(),
            write_files: boot.write_files.clone(),
            network: boot.network.clone(),
            mirror,
            extra: boot.extra.iter().map(|(key, value)| (key.value.clone(), value.clone())).collect(),
        })
    }

    /// Takes a value that ends up as a part of an argument, where a comma would begin another part.
    fn word(&mut self, key: &str, text: &str) -> Option<String> {
        if word(text) {
            return Some(text.to_owned());
        }
        self.wrong(None, format!("`{key}: {text}` is no single word"), "write letters, digits and `.+_-`")
    }
}

fn kernel_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".,:=/_-".contains(&byte)
}

#[cfg(test)]
mod tests;
