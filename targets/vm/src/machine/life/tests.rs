use std::process::Command;

use charly_ir::Digest;

use super::super::Disposition;
use super::super::deployed::{Ephemeral, Held, Reaped};
use super::super::spec::{Checksum, ChecksumKind, Disk, NetworkBackend, Source};
use super::*;

/// A folder with machines, and a disk that they are made from.
struct Place {
    folder: tempfile::TempDir,
    machines: Machines,
}

impl Place {
    /// `None` where there is no `qemu-img`, without which there is nothing to test.
    fn new() -> Option<Self> {
        if Command::new("qemu-img").arg("--version").output().is_err() {
            assert!(std::env::var_os("CHARLY_LAB").is_none_or(|wish| wish != "1"), "`qemu-img` is not there");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = Self { machines: Machines::new(Settings::below(folder.path())), folder };
        place.write_image(1);
        Some(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the publisher's image: a disk with a boot sector, and a byte that tells one version from another.
    fn write_image(&self, version: u8) {
        let mut bytes = vec![0; 1 << 20];
        (bytes[0], bytes[510], bytes[511]) = (version, 0x55, 0xaa);
        fs::write(self.at("image.raw"), bytes).unwrap();
    }

    fn fetcher(&self) -> Fetcher {
        let agent = ureq::Agent::config_builder().build().into();
        Fetcher::new(self.at("cache"), agent, Interrupts::default(), |_, _| {})
    }

    fn spec(&self) -> Spec {
        let url = format!("file://{}", self.at("image.raw").display());
        Spec::new(Source::CloudImage { url, checksum: None })
    }

    fn create(&self, machine: &str, spec: &Spec) -> Result<State, MachineError> {
        self.machines.create(&name(machine), spec, false, &mut self.fetcher(), &mut |_| {})
    }

    fn stage(&self, machine: &str) -> Stage {
        self.machines.stage(&self.machines.get(&name(machine)).unwrap()).unwrap()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, MachineError>, want: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn a_disk_that_was_imported_adds_up_to_what_was_asked_for() {
    let Some(place) = Place::new() else { return };
    let path = place.at("image.raw");
    let (right, _) = Digest::of_reader(fs::File::open(&path).unwrap()).unwrap();
    let spec = |sha256| {
        let path = path.display().to_string();
        Spec::new(Source::Imported { path, format: None, in_place: false, sha256: Some(sha256) })
    };
    refused(place.create("other", &spec(Digest::of(b"other"))), "was asked for");
    assert_eq!(place.create("demo", &spec(right)).unwrap().made, Made::Whole);
}

#[test]
fn a_making_goes_on_with_what_is_declared_by_then() {
    let Some(place) = Place::new() else { return };
    let demo = name("demo");
    let built = place.machines.build(&demo, &place.spec(), &mut place.fetcher(), &mut |_| {}).unwrap();
    let mut spec = place.spec();
    (spec.disk_size, spec.ssh.port) = (Some(64 << 20), Some(2299));
    spec.disks.push(Disk { name: "data".into(), size: 1 << 20 });
    let made = place.create("demo", &spec).unwrap();
    assert_eq!((made.ssh_port, made.born), (2299, built.born));
    assert_eq!(disk::info(&made.disk_path, disk::format(&made.disk_path).unwrap()).unwrap().virtual_size, 64 << 20);
    assert!(made.disk_path.with_file_name(spec.disks[0].file()).exists());

    // One that is smaller than what is there is no way on.
    place.machines.build(&name("other"), &spec, &mut place.fetcher(), &mut |_| {}).unwrap();
    spec.disk_size = Some(32 << 20);
    refused(place.create("other", &spec), "a disk of 32M is smaller");
}

#[test]
fn a_machine_is_made_kept_and_taken_away() {
    let Some(place) = Place::new() else { return };
    let made = place.create("demo", &place.spec()).unwrap();
    assert_eq!((made.made, place.stage("demo")), (Made::Whole, Stage::Stopped));
    refused(place.create("demo", &place.spec()), "there is a machine `demo` already");
    let endpoint = made.endpoint(place.machines.folder());
    let known = fs::read_to_string(&endpoint.known_hosts).unwrap();
    assert!(known.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", made.ssh_port)), "{known}");
    let key = fs::read(endpoint.identity.unwrap()).unwrap();

    let kept = place.machines.destroy(&name("demo"), false).unwrap().kept;
    assert_eq!(kept, Some(made.disk_path.clone()));
    assert!(made.disk_path.exists());
    assert_eq!(place.machines.names().unwrap(), []);
    refused(place.machines.destroy(&name("demo"), false), "there is no machine `demo`");
    refused(place.create("demo", &place.spec()), "an earlier machine `demo` left its disk");
    let adopted = place.machines.create(&name("demo"), &place.spec(), true, &mut place.fetcher(), &mut |_| {}).unwrap();
    let endpoint = adopted.endpoint(place.machines.folder());
    assert_eq!(fs::read(endpoint.identity.unwrap()).unwrap(), key, "the key that the disk knows");
    assert_eq!(fs::read_to_string(&endpoint.known_hosts).unwrap().split(' ').nth(2), known.split(' ').nth(2));

    assert_eq!(place.machines.destroy(&name("demo"), true).unwrap().kept, None);
    assert!(!place.at("vm/demo").exists());
    place.create("demo", &place.spec()).unwrap();
}

#[test]
fn only_one_verb_deletes_a_disk() {
    let Some(place) = Place::new() else { return };
    let (demo, other) = (name("demo"), name("other"));
    let stop = Stop { patience: Duration::ZERO, force: true };
    let disk = place.at("vm/demo/disk.qcow2");
    let mut base = place.spec();
    base.source = Source::CloudImage { url: "file:///nowhere".into(), checksum: None };
    let all = |stage: &str| {
        let machines = &place.machines;
        let before = disk::info(&disk, DiskFormat::Qcow2).unwrap();
        let mut fetcher = place.fetcher();
        // What each of them says is another test's matter.
        machines.build(&demo, &base, &mut fetcher, &mut |_| {}).ok();
        machines.create(&demo, &base, false, &mut fetcher, &mut |_| {}).ok();
        machines.stop(&demo, stop).ok();
        machines.reseed(&demo, &place.spec()).ok();
        machines.take_snapshot(&demo, "one").ok();
        machines.revert(&demo, "one").ok();
        machines.forget_snapshot(&demo, "one").ok();
        machines.snapshots(&demo).ok();
        machines.autostart(&demo, false).ok();
        machines.remember(&demo, |deployed| deployed.disposition.disposable = true).ok();
        machines.remember(&demo, |deployed| deployed.disposition.disposable = false).ok();
        machines.reap(&demo, None, false).ok();
        machines.rebuild(&demo, &base, &mut fetcher, &mut |_| {}).ok();
        machines.include_in_ssh_config().ok();
        machines.exclude_from_ssh_config().ok();
        let clone = Spec::new(Source::Clone { from: demo.clone(), snapshot: None });
        machines.create(&other, &clone, false, &mut fetcher, &mut |_| {}).ok();
        machines.destroy(&other, true).ok();
        let after = disk::info(&disk, DiskFormat::Qcow2).unwrap();
        assert_eq!(after.full_backing_filename, before.full_backing_filename, "{stage}");
    };
    place.machines.build(&demo, &place.spec(), &mut place.fetcher(), &mut |_| {}).unwrap();
    assert_eq!(place.stage("demo"), Stage::Built);
    all("built");
    place.create("demo", &place.spec()).unwrap();
    all("stopped");
    fs::write(place.at("vm/demo/pid"), "1\n").unwrap();
    all("lost");
    place.machines.destroy(&demo, false).unwrap();
    all("absent");
    fs::write(place.at("vm/demo/state.json"), "{").unwrap();
    all("damaged");
}

#[test]
fn a_making_that_was_killed_goes_on() {
    let Some(place) = Place::new() else { return };
    let whole = place.create("whole", &place.spec()).unwrap();
    let files = |machine: &str| {
        let mut names: Vec<_> = fs::read_dir(place.at("vm").join(machine))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let want = files("whole");
    // As far as a kill may leave it: the machine's folder alone, its first state, its disk under both names, no seed.
    for left in 0..4 {
        let machine = format!("killed-{left}");
        let home = place.at("vm").join(&machine);
        fs::create_dir_all(&home).unwrap();
        if left > 0 {
            refused(
                place.create(&machine, &Spec { disk_size: Some(1), ..place.spec() }),
                "a disk of 1B is smaller than what it is made from",
            );
            assert_eq!(place.stage(&machine), Stage::HalfMade);
        }
        if left > 1 {
            fs::write(home.join("disk.part"), "half").unwrap();
            fs::write(home.join("state.part"), "half").unwrap();
            fs::write(home.join("seed.part"), "half").unwrap();
        }
        if left > 2 {
            place.machines.build(&name(&machine), &place.spec(), &mut place.fetcher(), &mut |_| {}).unwrap();
        }
        let made = place.create(&machine, &place.spec()).unwrap();
        assert_eq!((made.made, &made.base), (Made::Whole, &whole.base));
        assert_eq!(files(&machine), want, "{machine}");
    }
}

#[test]
fn a_publisher_who_replaces_an_image_changes_no_disk() {
    let Some(place) = Place::new() else { return };
    let first = place.create("first", &place.spec()).unwrap().base.unwrap();
    let before = fs::read(&first).unwrap();
    place.write_image(2);
    let second = place.create("second", &place.spec()).unwrap().base.unwrap();
    assert_ne!(first, second);
    assert!(fs::read(&first).unwrap() == before, "the base changed under the disks on it");

    let checked = |kind, value: &str| {
        let url = format!("file://{}", place.at("image.raw").display());
        Spec::new(Source::CloudImage { url, checksum: Some(Checksum { kind, value: value.to_owned() }) })
    };
    refused(place.create("third", &checked(ChecksumKind::Sha256, &"0".repeat(64))), "the image cannot be had");
    refused(place.create("third", &checked(ChecksumKind::Sha512, &"0".repeat(128))), "adds up to");
    let digest = second.file_stem().unwrap().to_str().unwrap();
    fs::write(place.at("SHA256SUMS"), format!("{digest} *image.raw\n")).unwrap();
    let list = format!("file://{}", place.at("SHA256SUMS").display());
    let third = place.create("third", &checked(ChecksumKind::Sha256, &list)).unwrap();
    assert_eq!(third.base, Some(second));
}

#[test]
fn snapshots_and_copies_have_what_they_were_taken_of() {
    let Some(place) = Place::new() else { return };
    let original = place.create("demo", &place.spec()).unwrap();
    let demo = name("demo");
    assert!(place.machines.take_snapshot(&demo, "one").unwrap().at_rest);
    refused(place.machines.take_snapshot(&demo, "one"), "`demo` has a snapshot `one`");
    refused(place.machines.take_snapshot(&demo, "-a"), "`-a` is no name for a snapshot");
    refused(place.machines.revert(&demo, "two"), "`demo` has no snapshot `two`");
    place.machines.revert(&demo, "one").unwrap();

    let spec = Spec::new(Source::Clone { from: demo.clone(), snapshot: Some("one".into()) });
    let copy = place.create("copy", &spec).unwrap();
    assert_ne!((copy.instance_id, copy.ssh_port), (original.instance_id, original.ssh_port));
    assert_eq!(copy.base, original.base);
    let host_key = |machine: &str| fs::read(place.at("vm").join(machine).join("host_key.pub")).unwrap();
    assert_ne!(host_key("copy"), host_key("demo"));
    let names = |machine: &str| -> Vec<_> {
        place.machines.snapshots(&name(machine)).unwrap().into_iter().map(|one| one.name).collect()
    };
    assert_eq!((names("demo"), names("copy")), (vec!["one".to_owned()], vec![]));
    place.machines.forget_snapshot(&demo, "one").unwrap();
    assert_eq!(names("demo"), [""; 0]);
}

#[test]
fn a_crash_is_told_from_a_shutdown_and_from_a_reboot_of_the_host() {
    let Some(place) = Place::new() else { return };
    let mut state = place.create("demo", &place.spec()).unwrap();
    let pid = place.at("vm/demo/pid");
    fs::write(&pid, "1\n").unwrap();
    for (boot, want) in [(host_boot(), Stage::Crashed), ("another".into(), Stage::Stopped)] {
        state.observed =
            Some(Started { host_boot: boot, accelerator: "tcg".into(), network: NetworkBackend::Qemu, at: 0 });
        assert_eq!(place.machines.stage(&state).unwrap(), want);
    }
    let stop = Stop { patience: Duration::ZERO, force: false };
    place.machines.stop(&name("demo"), stop).unwrap();
    assert!(!pid.exists());
}

#[test]
fn what_is_rebuilt_has_a_disk_of_its_own_and_keeps_its_keys() {
    let Some(place) = Place::new() else { return };
    let (demo, machines) = (name("demo"), &place.machines);
    let old = place.create("demo", &place.spec()).unwrap();
    machines.take_snapshot(&demo, "one").unwrap();
    let read = |file: &str| fs::read(place.at("vm/demo").join(file)).unwrap();
    let (key, host_key) = (read("id_ed25519"), read("host_key"));

    // What cannot be made leaves what there is.
    let mut nowhere = place.spec();
    nowhere.source = Source::CloudImage { url: "file:///nowhere".into(), checksum: None };
    refused(machines.rebuild(&demo, &nowhere, &mut place.fetcher(), &mut |_| {}), "the image cannot be had");
    fs::write(place.at("vm/demo/next.qcow2"), "half").unwrap();
    assert_eq!(machines.get(&demo).unwrap().instance_id, old.instance_id);
    assert_eq!(machines.snapshots(&demo).unwrap().len(), 1);

    place.write_image(2);
    let new = machines.rebuild(&demo, &place.spec(), &mut place.fetcher(), &mut |_| {}).unwrap();
    assert_ne!((new.instance_id, &new.base), (old.instance_id, &old.base));
    assert_eq!((new.ssh_port, &new.disk_path), (old.ssh_port, &old.disk_path));
    assert_eq!((read("id_ed25519"), read("host_key")), (key, host_key));
    assert_eq!(machines.snapshots(&demo).unwrap(), []);
    let below = disk::info(&new.disk_path, DiskFormat::Qcow2).unwrap().full_backing_filename;
    assert_eq!(below, new.base);
    assert_eq!(machines.get(&demo).unwrap(), new);
    assert!(!place.at("vm/demo/next.qcow2").exists());
}

#[test]
fn further_disks_are_made_once_and_go_only_with_the_machines_own() {
    use std::os::unix::fs::MetadataExt as _;

    let Some(place) = Place::new() else { return };
    let (demo, machines) = (name("demo"), &place.machines);
    let data = Disk { name: "data".into(), size: 4 << 20 };
    let spec = Spec { disks: vec![data], ..place.spec() };
    place.create("demo", &spec).unwrap();
    let path = place.at("vm/demo/disk-data.qcow2");
    assert_eq!(disk::info(&path, DiskFormat::Qcow2).unwrap().virtual_size, 4 << 20);
    let which = || fs::metadata(&path).unwrap().ino();
    let first = which();
    machines.rebuild(&demo, &spec, &mut place.fetcher(), &mut |_| {}).unwrap();
    machines.destroy(&demo, false).unwrap();
    machines.create(&demo, &spec, true, &mut place.fetcher(), &mut |_| {}).unwrap();
    assert_eq!(which(), first);

    // A copy has a copy of it.
    disk::snapshot(&path, OnSnapshot::Create, "mark").unwrap();
    disk::grow(&path, 5 << 20).unwrap();
    let clone = Spec { source: Source::Clone { from: demo.clone(), snapshot: None }, ..spec };
    place.create("copy", &clone).unwrap();
    let copy = disk::info(&place.at("vm/copy/disk-data.qcow2"), DiskFormat::Qcow2).unwrap();
    assert_eq!(copy.virtual_size, 5 << 20);
    machines.destroy(&demo, true).unwrap();
    assert!(!place.at("vm/demo").exists());
}

#[test]
fn only_what_has_outlived_what_its_deploy_says_is_reaped() {
    let Some(place) = Place::new() else { return };
    let (demo, machines) = (name("demo"), &place.machines);
    let lives =
        |ttl, keep_on_failure| Disposition { disposable: false, ephemeral: Some(Ephemeral { ttl, keep_on_failure }) };
    let disposable = Disposition { disposable: true, ephemeral: None };
    // What is remembered, whether the last add failed, what is declared now; and what becomes of it.
    for (remembered, failed, declared, want) in [
        (Disposition::default(), true, None, Reaped::Alive),
        (disposable.clone(), true, None, Reaped::Alive),
        (lives(None, false), true, None, Reaped::Alive),
        (lives(Some(3600), false), true, None, Reaped::Alive),
        (lives(Some(0), false), false, Some(disposable), Reaped::Alive),
        (lives(Some(0), true), true, None, Reaped::Kept),
        (lives(Some(0), true), false, None, Reaped::Ended),
        (lives(Some(0), false), true, None, Reaped::Ended),
        (Disposition::default(), false, Some(lives(Some(0), false)), Reaped::Alive),
        (lives(Some(0), false), false, Some(lives(Some(3600), false)), Reaped::Alive),
        (lives(Some(0), false), true, Some(lives(Some(0), true)), Reaped::Kept),
        (lives(Some(0), false), false, Some(lives(Some(0), true)), Reaped::Ended),
    ] {
        let state = place.create("demo", &place.spec()).unwrap();
        machines
            .remember(&demo, |deployed| {
                deployed.disposition = remembered.clone();
                deployed.deploys.insert("ci".into(), Held { failed, ..Held::default() });
            })
            .unwrap();
        assert_eq!(machines.reap(&demo, declared.as_ref(), true).unwrap(), want);
        assert!(state.disk_path.exists(), "who looks takes nothing away");
        assert_eq!(machines.reap(&demo, declared.as_ref(), false).unwrap(), want);
        assert_eq!(state.disk_path.exists(), want != Reaped::Ended, "{remembered:?}");
        if want != Reaped::Ended {
            machines.destroy(&demo, true).unwrap();
        }
    }
}

#[test]
fn a_first_boot_that_is_declared_otherwise_is_noticed() {
    let Some(place) = Place::new() else { return };
    let state = place.create("demo", &place.spec()).unwrap();
    let mut spec = place.spec();
    assert!(!place.machines.needs_reseed(&state, &spec).unwrap());
    spec.cloud_init.timezone = Some("UTC".into());
    assert!(place.machines.needs_reseed(&state, &spec).unwrap());
    let state = place.machines.reseed(&name("demo"), &spec).unwrap();
    assert_eq!(state.reseeded, 1);
    assert!(!place.machines.needs_reseed(&state, &spec).unwrap());
}
