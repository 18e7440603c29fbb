use charly_plans::load::{Settings, Workspace};

use super::super::spec::{Disk, Forward};
use super::*;

const IMAGE: &str = "source: {cloud_image: {url: \"https://x/debian-13.qcow2\"}}";

/// Resolves the machine `demo`, declared by its body.
fn resolve(body: &str, allow_unverified: bool) -> Result<Spec, String> {
    resolve_for(body, Reading { home: Path::new("/home/me"), allow_unverified, making: false })
}

fn resolve_for(body: &str, reading: Reading<'_>) -> Result<Spec, String> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("vm:\n  demo:\n    {}\n", body.trim().replace('\n', "\n    "));
    std::fs::write(folder.path().join("charly.yml"), text).unwrap();
    let settings = Settings { folder: folder.path().to_path_buf(), ..Settings::default() };
    let (workspace, found) = Workspace::load(&settings);
    assert!(found.is_empty(), "{found}");
    let told = |found: Vec<Diagnostic>| {
        let told = found.iter().map(|one| {
            let (line, column) = one.place.as_ref().unwrap().line_column();
            format!("{line}:{column} {}", one.message)
        });
        told.collect::<Vec<_>>().join("\n")
    };
    Spec::resolve(&workspace.vms()["demo"], reading).map_err(told)
}

#[test]
fn defaults_are_filled_in() {
    let spec = resolve(IMAGE, true).unwrap();
    assert_eq!(spec, Spec::new(Source::CloudImage { url: "https://x/debian-13.qcow2".into(), checksum: None }));
    assert_eq!((spec.memory, spec.cpus, spec.disk_size, spec.ssh.user.as_str()), (4 << 30, 2, None, "debian"));
}

#[test]
fn everything_that_is_said_is_kept() {
    let spec = resolve(
        r"
source: {bootstrap: {distro: debian, suite: bookworm, package: [vim], kernel_args: [quiet]}}
disk_size: 8 GiB
disk: [{name: data, size: 1G}]
share: [{source: ~/src, target: /src, read_only: true}, {source: /srv, target: /srv/host}]
ram: 512M
cpu: 1
machine: pc
firmware: uefi-secure
network: {backend: passt, model: e1000, mac: '52:54:00:AB:00:01', port_forwards: ['8080:80']}
ssh: {user: me, port: 2200, key_source: ~/.ssh/id, key_injection: {smbios: true}}
cloud_init: {hostname: web, package: [tmux], mirrors: {debian: 'http://m'}, charly_install: {strategy: skip}, extra: {ntp: {}}}
",
        false,
    )
    .unwrap();
    let Source::Bootstrap(bootstrap) = &spec.source else { panic!("{:?}", spec.source) };
    assert_eq!((bootstrap.suite.as_str(), bootstrap.packages.as_slice()), ("bookworm", &["vim".to_owned()][..]));
    assert_eq!((spec.disk_size, spec.memory, spec.cpus), (Some(8 << 30), 512 << 20, 1));
    assert!(bootstrap.uefi && spec.firmware == Firmware::UefiSecure);
    assert_eq!(spec.disks, [Disk { name: "data".into(), size: 1 << 30 }]);
    let share =
        |source: &str, target: &str, read_only| Share { source: source.into(), target: target.into(), read_only };
    assert_eq!(spec.shares, [share("/home/me/src", "/src", true), share("/srv", "/srv/host", false)]);
    assert_eq!(spec.network, NetworkBackend::Passt);
    assert_eq!((spec.machine.as_str(), spec.card.as_str()), ("pc", "e1000"));
    assert_eq!(spec.mac.as_deref(), Some("52:54:00:ab:00:01"));
    assert_eq!(spec.forwards, [Forward { host: 8080, guest: 80 }]);
    assert_eq!((spec.ssh.user.as_str(), spec.ssh.port), ("me", Some(2200)));
    assert_eq!((spec.ssh.smbios, spec.ssh.cloud_init), (true, true));
    assert_eq!(spec.ssh.key, KeySource::Path("~/.ssh/id".into()));
    assert_eq!(spec.cloud_init.mirror.as_deref(), Some("http://m"));
    assert_eq!(spec.charly_install, InstallStrategy::Skip);
    assert!(spec.cloud_init.extra.contains_key("ntp"));
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let with = |line: &str| format!("{IMAGE}\n{line}");
    let image = |rest: &str| format!("source: {{cloud_image: {{url: 'https://x/y.img', {rest}}}}}");
    for (body, want) in [
        (with("disk_size: 20 Gallons"), "4:16 `20 Gallons` is no size"),
        (with("ram: 8 GiBB\ndisk_size: x"), "5:16 `x` is no size\n4:10 `8 GiBB` is no size"),
        (with("cpu: 0"), "2:3 `cpu: 0` is no number of processors"),
        (with("machine: 'q35,accel=x'"), "2:3 `machine: q35,accel=x` is no single word"),
        (with("backend: libvirt"), "2:3 the backend `libvirt` is not there yet"),
        (with("network: {port_forwards: ['80']}"), "4:31 `80` is no pair of ports"),
        (with("network: {port_forwards: ['8080:99999']}"), "4:31 `8080:99999` is no pair of ports"),
        (with("network: {mac: '53:54:00:00:00:01'}"), "2:3 `53:54:00:00:00:01` is no hardware address"),
        (with("network: {mode: bridge}"), "2:3 only `mode: user` is there yet"),
        (with("ssh: {user: '-oProxyCommand=x'}"), "2:3 `user: -oProxyCommand=x` is no single word"),
        (with("share: [{source: src, target: /src}]"), "4:22 `src` is no absolute path"),
        (with("share: [{source: /src, target: src}]"), "4:36 `src` is no place for a share"),
        (with("share: [{source: /src, target: '/a b'}]"), "4:36 `/a b` is no place for a share"),
        (with("share: [{source: /src, target: /a/../..}]"), "4:36 `/a/../..` is no place for a share"),
        (with("share: [{source: /a, target: /x}, {source: /b, target: /x}]"), "4:60 there are two shares at `/x`"),
        (with("ssh: {port: 0}"), "4:17 0 is no port"),
        (with("ssh: {key_source: id}"), "4:23 `id` says not where the key comes from"),
        (with("cloud_init: {hostname: 'a b'}"), "4:28 `a b` is no host name"),
        (image("checksum: {value: abc}"), "3:70 `abc` is no checksum of 64 hexadecimal digits"),
        ("source: {cloud_image: {url: 'ftp://x'}}".into(), "3:33 `ftp://x` is no address of an image"),
        ("source: {bootc: {box: x}}".into(), "3:21 the source `bootc` is not there yet"),
        ("source: {bootstrap: {distro: fedora}}".into(), "3:34 `fedora` cannot be bootstrapped here"),
        ("source: {clone: {from_vm: A}}".into(), "3:31 `A` names no machine"),
        (
            "source: {imported: {disk_path: /x, disk_format: vmdk}}".into(),
            "3:24 `vmdk` is no format of a disk that is known",
        ),
    ] {
        assert_eq!(resolve(&body, true).unwrap_err(), want, "{body}");
    }
    let error = resolve(IMAGE, false).unwrap_err();
    assert_eq!(error, "3:27 nothing says what the image's bytes must add up to");
}

#[test]
fn what_a_machine_is_made_of_must_be_there() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("file"), "").unwrap();
    let making = |body: &str| {
        let body = body.replace("HERE", home.path().to_str().unwrap());
        let reading = Reading { home: home.path(), allow_unverified: true, making: true };
        resolve_for(&body, reading).map(drop).map_err(|said| said.replace(home.path().to_str().unwrap(), "HERE"))
    };
    let source = |path: &str| format!("source: {{imported: {{disk_path: {path}}}}}");
    for (body, want) in [
        (source("~/file"), Ok(())),
        (source("HERE/nothing"), Err("3:36 `HERE/nothing` is not there")),
        (source("HERE"), Err("3:36 `HERE` is another kind of thing")),
        (source("disk.raw"), Err("3:36 `disk.raw` is no absolute path")),
        ("source: {cloud_image: {url: 'file://HERE/none'}}".into(), Err("3:33 `HERE/none` is not there")),
        (format!("{IMAGE}\nssh: {{key_source: ~/file}}"), Ok(())),
        (format!("{IMAGE}\nssh: {{key_source: ~/none}}"), Err("4:23 `HERE/none` is not there")),
        (format!("{IMAGE}\nshare: [{{source: ~/file, target: /x}}]"), Err("4:22 `HERE/file` is another kind of thing")),
        (format!("{IMAGE}\nshare: [{{source: HERE, target: /x}}]"), Ok(())),
    ] {
        assert_eq!(making(&body).as_ref().map_err(String::as_str), want.as_ref().map_err(|want| *want), "{body}");
    }
}

#[test]
fn checksums_know_their_kind() {
    for (value, want) in [
        ("a".repeat(64), ChecksumKind::Sha256),
        ("B".repeat(128), ChecksumKind::Sha512),
        ("https://x/SHA256SUMS".into(), ChecksumKind::Sha256),
        ("https://x/SHA512SUMS".into(), ChecksumKind::Sha512),
    ] {
        let body = format!("source: {{cloud_image: {{url: 'https://x/y.img', checksum: {{value: '{value}'}}}}}}");
        let Ok(Spec { source: Source::CloudImage { checksum: Some(checksum), .. }, .. }) = resolve(&body, false) else {
            panic!("{value}")
        };
        assert_eq!((checksum.kind, checksum.value.to_ascii_lowercase()), (want, value.to_ascii_lowercase()));
    }
}
