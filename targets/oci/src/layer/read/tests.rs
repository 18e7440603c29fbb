use std::num::NonZero;

use proptest::prelude::*;

use super::super::{LayerWriter, list};
use super::*;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

/// One header of a made-up archive, and its content.
struct Raw<'a> {
    name: &'a [u8],
    link: &'a [u8],
    kind: u8,
    content: &'a [u8],
}

impl<'a> Raw<'a> {
    fn file(name: &'a str) -> Self {
        Self { name: name.as_bytes(), link: b"", kind: b'0', content: b"" }
    }

    fn of(kind: u8, name: &'a str, link: &'a str) -> Self {
        Self { name: name.as_bytes(), link: link.as_bytes(), kind, content: b"" }
    }
}

fn archive(raw: &[Raw<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Raw { name, link, kind, content } in raw {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name);
        ustar.linkname[..link.len()].copy_from_slice(link);
        ustar.typeflag = [*kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..9999).find(|length| rest + length.to_string().len() == *length).unwrap();
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend(value);
    record.push(b'\n');
    record
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, LayerError> {
    read_within(bytes, Limits::default())
}

fn read_within(bytes: &[u8], limits: Limits) -> Result<Vec<Entry>, LayerError> {
    let mut reader = LayerReader::new(bytes, "sha256:abc", limits)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    reader.finish()?;
    Ok(entries)
}

fn listed(bytes: &[u8]) -> Result<Vec<(String, Kind)>, LayerError> {
    let mut reader = LayerReader::new(bytes, "sha256:abc", Limits::default())?;
    let entries = list(&mut reader, &mut |_, _| Ok(()))?;
    Ok(entries.into_iter().map(|entry| (entry.path, entry.kind)).collect())
}

#[test]
fn names_are_made_plain_or_refused() {
    let long = format!("{}/x", "a".repeat(98));
    for (name, plain) in [
        ("a/b", Some("a/b")),
        ("./a//b/./c", Some("a/b/c")),
        ("/etc/passwd", Some("etc/passwd")),
        ("//", Some("")),
        ("a/../b", None),
        ("..", None),
        ("a/..", None),
        ("a/.wh.", None),
        (".wh..", None),
        (".wh...", None),
        ("a/.wh.b/c", None),
        (&long, Some(&long)),
    ] {
        let got = read(&archive(&[Raw::file(name)]));
        if let Some(plain) = plain {
            assert_eq!(got.unwrap()[0].path, plain, "{name}");
            continue;
        }
        let error = got.unwrap_err();
        assert!(matches!(error, LayerError::Refused { .. }), "{name}: {error}");
    }
    let latin = Raw { name: b"caf\xe9", ..Raw::file("") };
    let error = read(&archive(&[latin])).unwrap_err();
    assert_eq!(error.to_string(), "layer sha256:abc has `caf\u{fffd}`, which is no UTF-8");
}

#[test]
fn links_stay_in_the_layer() {
    for (kind, link, want) in [
        (b'2', "/etc/passwd", Some(Kind::Symlink { target: "/etc/passwd".into() })),
        (b'2', "../../x", Some(Kind::Symlink { target: "../../x".into() })),
        (b'1', "/a/./b", Some(Kind::Hardlink { target: "a/b".into() })),
        (b'1', "../b", None),
        (b'1', "l", None),
        (b'1', "", None),
        (b'1', "/", None),
    ] {
        let got = read(&archive(&[Raw::of(kind, "l", link)]));
        match want {
            Some(want) => assert_eq!(got.unwrap()[0].kind, want, "{link}"),
            None => assert!(matches!(got, Err(LayerError::Refused { .. })), "{link}"),
        }
    }
}

#[test]
fn records_are_read_with_suspicion() {
    for (key, value, allowed) in [
        ("path", &b"a\0b"[..], false),
        ("path", b"a/../../b", false),
        ("path", b"\xff", false),
        ("path", &[b'a'; 300], false),
        ("path", &[b'/'; 4097], false),
        ("path", b"fine", true),
        ("size", b"-1", false),
        ("size", b"99999999999999999999", false),
        ("uid", b"4294967296", false),
        ("uid", b"1e3", false),
        ("GNU.sparse.map", b"0,1", false),
        ("SCHILY.xattr.", b"", false),
        ("SCHILY.xattr.user.a", b"", true),
        ("mtime", b"-1.5", true),
        ("mtime", b"12.5", true),
        ("comment", b"", true),
    ] {
        let body = pax(key, value);
        let got = read(&archive(&[Raw { content: &body, ..Raw::of(b'x', "h", "") }, Raw::file("f")]));
        assert_eq!(got.is_ok(), allowed, "{key}: {got:?}");
    }
    for body in [&b"5 a=b\n"[..], b"6 a=b", b"x a=b\n", b"6 abb\n", b"999999999999999999999 a=b\n", b"0 \n"] {
        let got = read(&archive(&[Raw { content: body, ..Raw::of(b'x', "h", "") }, Raw::file("f")]));
        assert!(matches!(got, Err(LayerError::Malformed { .. })), "{body:?}");
    }
}

#[test]
fn commands_to_an_overlay_are_dropped() {
    let body =
        [pax("SCHILY.xattr.trusted.overlay.redirect", b"/x"), pax("SCHILY.xattr.user.overlay.opaque", b"y")].concat();
    let raw = [Raw { content: &body, ..Raw::of(b'x', "h", "") }, Raw::file("f"), Raw::of(b'3', "d", "")];
    let entries = read(&archive(&raw)).unwrap();
    assert_eq!(entries, [entry("f", Kind::File { size: 0 }), entry("d", Kind::Whiteout)]);
}

#[test]
fn what_a_layer_may_cost_is_bounded() {
    let mut bomb = Vec::new();
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(2 << 20);
    header.set_cksum();
    bomb.extend(header.as_bytes());
    let many: Vec<_> = (0..20).map(|_| Raw::file("f")).collect();
    let large = archive(&[Raw { content: &[0; 4096], ..Raw::file("f") }]);
    for (bytes, limits, what) in [
        (bomb.clone(), Limits::default(), "bytes in the headers of one entry"),
        (archive(&many), Limits { entries: 19, ..Limits::default() }, "entries"),
        (archive(&many), Limits { names: 19, ..Limits::default() }, "bytes of names"),
        (large, Limits { bytes: 4096, ..Limits::default() }, "bytes"),
        (vec![0; 1 << 20], Limits { bytes: 4096, ..Limits::default() }, "bytes"),
    ] {
        match read_within(&bytes, limits) {
            Err(LayerError::TooMuch { what: got, .. }) => assert_eq!(got, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn damage_is_noticed() {
    let whole = archive(&[Raw { content: &[7; 700], ..Raw::file("f") }, Raw::file("g")]);
    assert_eq!(read(&whole).unwrap().len(), 2);
    // The blocks that end an archive may be missing; nothing else may.
    assert_eq!(read(&whole[..2048]).unwrap().len(), 2);
    for cut in [1, 511, 513, 1211, 1300, 1535, 1537, 2047] {
        assert!(read(&whole[..cut]).is_err(), "{cut}");
    }
    for at in [0, 130, 150, 157] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(matches!(read(&bytes), Err(LayerError::Malformed { .. })), "{at}");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &whole).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(read(&gzip).is_ok());
    assert!(matches!(read(&gzip[..gzip.len() - 5]), Err(LayerError::Read { .. })));
    assert!(read(b"\x28\xb5\x2f\xfdnonsense").is_err());
}

#[test]
fn the_last_word_on_a_path_counts() {
    let file = Kind::File { size: 0 };
    let of = |kind, name| Raw::of(kind, name, "");
    for (raw, want) in [
        (
            vec![of(b'5', "d"), of(b'0', "d/a"), of(b'0', "d/.wh..wh..opq")],
            vec![("d", Kind::OpaqueDir), ("d/a", file.clone())],
        ),
        (vec![of(b'0', "d/.wh..wh..opq"), of(b'5', "d")], vec![("d", Kind::OpaqueDir)]),
        (vec![of(b'0', ".wh.d"), of(b'0', "d/a")], vec![("d", Kind::OpaqueDir), ("d/a", file.clone())]),
        (vec![of(b'0', ".wh.d"), of(b'5', "d")], vec![("d", Kind::OpaqueDir)]),
        (vec![of(b'5', "d"), of(b'0', ".wh.d")], vec![("d", Kind::OpaqueDir)]),
        (vec![of(b'0', "f"), of(b'0', ".wh.f")], vec![("f", file.clone())]),
        (vec![of(b'0', "f"), of(b'6', "f")], vec![("f", Kind::Fifo)]),
        (vec![of(b'0', ".wh..wh.plnk/1"), of(b'0', ".wh..wh.aufs")], vec![]),
    ] {
        let got = listed(&archive(&raw)).unwrap();
        let want: Vec<_> = want.into_iter().map(|(path, kind)| (path.to_owned(), kind)).collect();
        assert_eq!(got, want);
    }
    for raw in [
        vec![Raw::of(b'2', "d", "/"), of(b'0', "d/x/a")],
        vec![of(b'0', "f"), of(b'0', "f/a")],
        vec![Raw::of(b'1', "l", "f")],
        vec![of(b'0', "f"), Raw::of(b'1', "l", "f"), of(b'5', "f")],
    ] {
        assert!(matches!(listed(&archive(&raw)), Err(LayerError::Refused { .. })));
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let name = "[a-zé -]{1,60}";
    let path = prop::collection::vec(name, 1..5).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        4 => (0..3000_u64).prop_map(|size| Kind::File { size }),
        2 => Just(Kind::Dir),
        1 => "[a-z/.é]{1,150}".prop_map(|target| Kind::Symlink { target }),
        1 => Just(Kind::Hardlink { target: "q/é".into() }),
        1 => (1..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Whiteout),
        2 => Just(Kind::OpaqueDir),
    ];
    let xattrs = prop::collection::btree_map(
        "(user|security)\\.[a-z.\n]{1,20}",
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    let ids = (0..0o10000_u32, 0..u32::MAX, 0..u32::MAX, 0..1_u64 << 40);
    (path, kind, ids, xattrs).prop_map(|(path, kind, (mode, uid, gid, mtime), xattrs)| Entry {
        path,
        kind,
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        entries in prop::collection::vec(any_entry(), 0..12),
        compression in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
    ) {
        let mut writer = LayerWriter::new(Vec::new(), compression, NonZero::new(2).unwrap());
        for entry in &entries {
            let size = if let Kind::File { size } = entry.kind { size } else { 0 };
            writer.append(entry, &mut io::repeat(b'x').take(size)).unwrap();
        }
        let (bytes, layer) = writer.finish().unwrap();
        prop_assert_eq!(layer.digest, charly_ir::Digest::of(&bytes));
        let mut reader = LayerReader::new(&bytes[..], "l", Limits::default()).unwrap();
        let mut read = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            if let Kind::File { size } = entry.kind {
                let mut content = Vec::new();
                // Half of them are read only in part.
                (&mut reader).take(if size % 2 == 0 { size } else { size / 2 }).read_to_end(&mut content).unwrap();
                prop_assert!(content.iter().all(|&byte| byte == b'x'));
            }
            read.push(entry);
        }
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn garbage_is_no_layer_and_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 512..2048), checked in any::<bool>()) {
        if checked {
            let mut header = Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[..512]);
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        drop(read(&bytes));
    }
}
