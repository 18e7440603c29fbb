use std::process::Command;

use super::*;

/// Whether `qemu-img` is there; without it there is nothing to test, which is said.
fn tool() -> bool {
    let there = Command::new(PROGRAM).arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CHARLY_LAB").is_none_or(|wish| wish != "1"), "`{PROGRAM}` is not there");
    there
}

/// Makes a raw disk of a megabyte with a boot sector.
fn base(folder: &Path) -> PathBuf {
    let path = folder.join("base.raw");
    let mut bytes = vec![0; 1 << 20];
    (bytes[510], bytes[511]) = (0x55, 0xaa);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn formats_are_read_from_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let mut qcow2 = [0; 600];
    qcow2[..4].copy_from_slice(b"QFI\xfb");
    assert_eq!(format(&file("a", &qcow2)).unwrap(), DiskFormat::Qcow2);
    assert_eq!(format(&base(folder.path())).unwrap(), DiskFormat::Raw);
    for none in [&b""[..], b"<html>", &[0; 600]] {
        assert!(format(&file("b", none)).is_err());
    }
}

#[test]
fn overlays_and_copies_leave_what_is_below_alone() {
    if !tool() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path());
    let before = fs::read(&base).unwrap();
    let at = |name: &str| folder.path().join(name);
    let error = overlay(&at("x.qcow2"), &base, DiskFormat::Raw, Some(1 << 10)).unwrap_err();
    assert_eq!(error.to_string(), "a disk of 1K is smaller than what it is made from");
    overlay(&at("one.qcow2"), &base, DiskFormat::Raw, Some(4 << 20)).unwrap();
    let one = info(&at("one.qcow2"), DiskFormat::Qcow2).unwrap();
    assert_eq!((one.virtual_size, one.full_backing_filename.as_deref()), (4 << 20, Some(base.as_path())));
    assert!(alone(&at("one.qcow2"), DiskFormat::Qcow2).is_err());

    snapshot(&at("one.qcow2"), OnSnapshot::Create, "first").unwrap();
    copy(&at("two.qcow2"), &at("one.qcow2"), DiskFormat::Qcow2, Some("first"), Some(8 << 20)).unwrap();
    let two = info(&at("two.qcow2"), DiskFormat::Qcow2).unwrap();
    assert_eq!((two.virtual_size, two.full_backing_filename.as_deref()), (8 << 20, Some(base.as_path())));
    assert!(two.snapshots.is_empty());
    let held = info(&at("one.qcow2"), DiskFormat::Qcow2).unwrap().snapshots;
    assert_eq!(held.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["first"]);
    snapshot(&at("one.qcow2"), OnSnapshot::Revert, "first").unwrap();
    snapshot(&at("one.qcow2"), OnSnapshot::Delete, "first").unwrap();
    assert!(snapshot(&at("one.qcow2"), OnSnapshot::Revert, "first").is_err());

    // A name that is another's number.
    let disk = at("one.qcow2");
    let write = |byte: &str| {
        let args = ["-f", "qcow2", "-c", byte];
        assert!(std::process::Command::new("qemu-io").args(args).arg(&disk).output().unwrap().status.success());
    };
    for (byte, name) in [("write -P 1 0 512", "2"), ("write -P 2 0 512", "x"), ("write -P 3 0 512", "y")] {
        write(byte);
        snapshot(&disk, OnSnapshot::Create, name).unwrap();
    }
    snapshot(&disk, OnSnapshot::Revert, "2").unwrap();
    write("read -P 1 0 512");
    snapshot(&disk, OnSnapshot::Delete, "2").unwrap();
    let held = info(&disk, DiskFormat::Qcow2).unwrap().snapshots;
    assert_eq!(held.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["x", "y"]);

    // What lies elsewhere could be any file of this machine.
    let apart = format!("data_file={},data_file_raw=on", at("apart.raw").display());
    tool::run(PROGRAM, ["create", "-q", "-f", "qcow2", "-o", &apart, at("apart.qcow2").to_str().unwrap(), "1M"])
        .unwrap();
    let error = alone(&at("apart.qcow2"), DiskFormat::Qcow2).unwrap_err().to_string();
    assert!(error.contains("keeps its data in another file"), "{error}");

    copy(&at("raw.qcow2"), &base, DiskFormat::Raw, None, None).unwrap();
    assert!(alone(&at("raw.qcow2"), DiskFormat::Qcow2).is_ok());
    assert!(fs::read(&base).unwrap() == before, "the base changed");
}

#[test]
fn a_disk_that_is_there_is_never_made_again() {
    if !tool() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (base, disk) = (base(folder.path()), folder.path().join("disk.qcow2"));
    fs::write(&disk, "somebody's").unwrap();
    fs::write(disk.with_extension("part"), "of a run that was killed").unwrap();
    overlay(&disk, &base, DiskFormat::Raw, None).unwrap();
    copy(&disk, &base, DiskFormat::Raw, None, None).unwrap();
    assert_eq!(fs::read_to_string(&disk).unwrap(), "somebody's");
    fs::remove_file(&disk).unwrap();
    overlay(&disk, &base, DiskFormat::Raw, None).unwrap();
    assert_eq!(format(&disk).unwrap(), DiskFormat::Qcow2);
    assert!(!disk.with_extension("part").exists());
}
