//! Archives that mean harm, and some that do not.

use std::io::Write as _;

use charly_ir::Digest;
use charly_ir::message::{Member, MemberKind};
use charly_ir::plan::{Download, Extract};
use tar::{EntryType, Header};

use super::{Fetched, Limits, UnpackError, members};

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry whose name is written as it is, which the `tar` crate would refuse.
    fn add(mut self, kind: EntryType, path: &str, target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn download(extract: Extract) -> Download {
    Download {
        url: String::new(),
        sha256: None,
        extract,
        include: vec![],
        strip_components: 0,
        to: "/opt".into(),
        mode: None,
        env: [].into(),
        uninstall: vec![],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn unpack(bytes: &[u8], download: &Download, limits: Limits) -> Result<Vec<Member>, UnpackError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    let fetched = Fetched { path, digest: Digest::of(bytes), size: bytes.len() as u64 };
    members(&fetched, download, folder.path(), limits)
}

fn tar(archive: Archive) -> Result<Vec<Member>, UnpackError> {
    unpack(&gzip(&archive.bytes()), &download(Extract::TarGz), Limits::default())
}

/// Renders members as `path mode size`, links as `path -> target`.
fn listing(members: &[Member]) -> Vec<String> {
    let line = |member: &Member| match &member.kind {
        MemberKind::File { size, mode, .. } => format!("{} {mode:o} {size}", member.path),
        MemberKind::Dir { mode } => format!("{}/ {mode:o}", member.path),
        MemberKind::Link { target } => format!("{} -> {target}", member.path),
    };
    members.iter().map(line).collect()
}

#[test]
fn what_means_no_harm_is_taken() {
    let archive = Archive::new()
        .add(EntryType::Directory, "./pkg/", "", 0o777, b"")
        .add(EntryType::Regular, "pkg/bin/demo", "", 0o6777, b"demo")
        .link("pkg/bin/alias", "../bin/demo")
        .add(EntryType::Link, "pkg/bin/twin", "pkg/bin/demo", 0o755, b"")
        .file("pkg/doc", "text");
    let want =
        ["pkg/ 755", "pkg/bin/alias -> ../bin/demo", "pkg/bin/demo 755 4", "pkg/bin/twin 755 4", "pkg/doc 644 4"];
    assert_eq!(listing(&tar(archive).unwrap()), want);
}

#[test]
fn members_are_chosen_and_stripped() {
    let archive = || Archive::new().file("pkg-1/bin/demo", "x").file("pkg-1/README", "y").file("top", "z");
    for (strip, include, want) in [
        (1, vec![], vec!["README 644 1", "bin/demo 644 1"]),
        (2, vec![], vec!["demo 644 1"]),
        (2, vec!["demo"], vec!["demo 644 1"]),
        (1, vec!["*/README"], vec!["README 644 1"]),
        (0, vec!["top"], vec!["top 644 1"]),
    ] {
        let include: Vec<_> = include.into_iter().map(str::to_owned).collect();
        let download = Download { strip_components: strip, include, ..download(Extract::TarGz) };
        let got = unpack(&gzip(&archive().bytes()), &download, Limits::default()).unwrap();
        assert_eq!(listing(&got), want);
    }
    let download = Download { include: vec!["nothing".into()], ..download(Extract::TarGz) };
    let error = unpack(&gzip(&archive().bytes()), &download, Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "none of its members is asked for; it holds `pkg-1/bin/demo`, `pkg-1/README`, `top`");
}

#[test]
fn what_means_harm_is_refused() {
    let deep = "../".repeat(20);
    for (name, archive, want) in [
        ("climbs", Archive::new().file("../x", ""), "the path `../x` in it leaves the folder"),
        ("climbs within", Archive::new().file("a/../../x", ""), "the path `a/../../x` in it leaves the folder"),
        ("absolute", Archive::new().file("/etc/x", ""), "the path `/etc/x` in it leaves the folder"),
        ("absolute link", Archive::new().link("l", "/etc"), "the link `l` in it points to `/etc`, out of the folder"),
        (
            "climbing link",
            Archive::new().link("a/l", &deep),
            &format!("the link `a/l` in it points to `{deep}`, out of the folder"),
        ),
        ("through a link", Archive::new().link("l", "d").file("l/x", ""), "`l/x` in it collides with `l`"),
        ("link over a file", Archive::new().file("f", "").link("f", "g"), "`f` in it collides with `f`"),
        ("file over a link", Archive::new().link("f", "g").file("f", ""), "`f` in it collides with `f`"),
        ("link over a folder", Archive::new().file("d/x", "").link("d", "e"), "`d` in it collides with `d`"),
        (
            "hard link outside",
            Archive::new().add(EntryType::Link, "h", "../etc/shadow", 0o644, b""),
            "the path `../etc/shadow` in it leaves the folder",
        ),
        (
            "hard link to nothing",
            Archive::new().add(EntryType::Link, "h", "etc/shadow", 0o644, b""),
            "`h` in it is a hard link to `etc/shadow`, which is not taken",
        ),
        ("device", Archive::new().add(EntryType::Block, "sda", "", 0o666, b""), "`sda` in it is a device"),
        ("device", Archive::new().add(EntryType::Char, "mem", "", 0o666, b""), "`mem` in it is a device"),
        ("pipe", Archive::new().add(EntryType::Fifo, "p", "", 0o666, b""), "`p` in it is a named pipe"),
    ] {
        assert_eq!(tar(archive).unwrap_err().to_string(), want, "{name}");
    }
}

#[test]
fn long_names_count_as_names() {
    let long = format!("../{}", "x/".repeat(100));
    let archive = Archive::new().add(EntryType::GNULongName, "././@LongLink", "", 0, long.as_bytes()).file("fine", "");
    assert!(matches!(tar(archive), Err(UnpackError::Path(path)) if path == long));
    let pax = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (1..1000_usize).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        format!("{length}{rest}")
    };
    let record = pax("path", "/etc/passwd");
    let archive = Archive::new().add(EntryType::XHeader, "pax", "", 0, record.as_bytes()).file("fine", "");
    assert!(matches!(tar(archive), Err(UnpackError::Path(path)) if path == "/etc/passwd"));
    let huge = vec![b'x'; 300 << 10];
    let archive = Archive::new().add(EntryType::GNULongName, "././@LongLink", "", 0, &huge).file("fine", "");
    assert!(matches!(tar(archive), Err(UnpackError::Damaged { .. })));
}

#[test]
fn bombs_are_bounded() {
    let limits = Limits { bytes: 1 << 20, members: 10 };
    let zeros = "\0".repeat(2 << 20);
    let archive = || Archive::new().file("zeros", &zeros).bytes();
    let error = unpack(&gzip(&archive()), &download(Extract::TarGz), limits).unwrap_err();
    assert_eq!(error.to_string(), "it holds more than 1048576 bytes");

    // Also where the member is not asked for: passing over it costs time.
    let one = Download { include: vec!["other".into()], ..download(Extract::TarGz) };
    assert!(matches!(unpack(&gzip(&archive()), &one, limits), Err(UnpackError::Limit { what: "bytes", .. })));

    let zstd = zstd::encode_all(&archive()[..], 1).unwrap();
    assert!(matches!(unpack(&zstd, &download(Extract::TarZst), limits), Err(UnpackError::Limit { .. })));

    let many = (0..20).fold(Archive::new(), |archive, n| archive.file(&n.to_string(), ""));
    let error = unpack(&gzip(&many.bytes()), &download(Extract::TarGz), limits).unwrap_err();
    assert_eq!(error.to_string(), "it holds more than 10 members");

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("zeros", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(zeros.as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    assert!(zip.len() < 10_000);
    assert!(matches!(unpack(&zip, &download(Extract::Zip), limits), Err(UnpackError::Limit { what: "bytes", .. })));
}

type ZipWriter = zip::ZipWriter<std::io::Cursor<Vec<u8>>>;

#[test]
fn zip_is_held_to_the_same_rules() {
    let options = zip::write::SimpleFileOptions::default();
    let zip = |add: &dyn Fn(&mut ZipWriter)| {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        add(&mut zip);
        let bytes = zip.finish().unwrap().into_inner();
        unpack(&bytes, &download(Extract::Zip), Limits::default()).map(|members| listing(&members))
    };
    let fine = zip(&|zip| {
        zip.add_directory("d/", options).unwrap();
        zip.start_file("d/f", options.unix_permissions(0o4777)).unwrap();
        zip.write_all(b"abc").unwrap();
        zip.add_symlink("d/l", "f", options).unwrap();
    });
    assert_eq!(fine.unwrap(), ["d/ 755", "d/f 755 3", "d/l -> f"]);
    let climbs = zip(&|zip| zip.start_file("../x", options).unwrap());
    assert!(matches!(climbs, Err(UnpackError::Path(_))), "{climbs:?}");
    let links = zip(&|zip| zip.add_symlink("l", "../../x", options).unwrap());
    assert!(matches!(links, Err(UnpackError::Link { .. })), "{links:?}");
}

#[test]
fn every_format_is_read_and_every_cut_noticed() {
    let bytes = Archive::new().file("f", "content").bytes();
    let formats = [
        (Extract::TarGz, gzip(&bytes)),
        (Extract::TarZst, zstd::encode_all(&bytes[..], 1).unwrap()),
        (Extract::TarXz, lzma_xz(&bytes)),
    ];
    for (extract, packed) in formats {
        let got = unpack(&packed, &download(extract), Limits::default()).unwrap();
        assert_eq!(listing(&got), ["f 644 7"], "{extract:?}");
        for length in 0..packed.len() / 2 {
            let got = unpack(&packed[..length], &download(extract), Limits::default());
            assert!(got.is_err(), "{extract:?} cut at {length}: {got:?}");
        }
        assert!(unpack(b"<html>", &download(extract), Limits::default()).is_err(), "{extract:?}");
    }
    assert!(unpack(b"<html>", &download(Extract::Zip), Limits::default()).is_err());
}

/// Packs with xz.
fn lzma_xz(tar: &[u8]) -> Vec<u8> {
    use lzma_rust2::{XzOptions, XzWriter};
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(tar).unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_is_not_unpacked_is_one_member() {
    for (extract, mode, want) in
        [(Extract::None, None, 0o644), (Extract::None, Some(0o755), 0o755), (Extract::Sh, None, 0o700)]
    {
        let got = unpack(b"abc", &Download { mode, ..download(extract) }, Limits::default()).unwrap();
        let kind = MemberKind::File { digest: Digest::of(b"abc"), size: 3, mode: want };
        assert_eq!(got, [Member { path: String::new(), kind }]);
    }
}
