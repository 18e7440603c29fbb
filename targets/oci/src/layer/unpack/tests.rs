use std::collections::BTreeSet;
use std::num::NonZero;
use std::process::Command;

use proptest::prelude::*;

use super::super::tree::implied;
use super::super::{Compression, LayerWriter, Limits, Tree, list, upper};
use super::*;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { kind, mode: 0o644, ..implied(path) }
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File { size: 3 })
}

fn folder(path: &str) -> Entry {
    implied(path)
}

fn symlink(path: &str, target: &str) -> Entry {
    Entry { mode: 0o777, ..entry(path, Kind::Symlink { target: target.into() }) }
}

fn hardlink(path: &str, target: &str) -> Entry {
    entry(path, Kind::Hardlink { target: target.into() })
}

fn whiteout(path: &str) -> Entry {
    Entry { mode: 0, ..entry(path, Kind::Whiteout) }
}

fn opaque(path: &str) -> Entry {
    Entry { kind: Kind::OpaqueDir, ..implied(path) }
}

fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new(), Compression::None, NonZero::<usize>::MIN);
    for entry in entries {
        let size = if let Kind::File { size } = entry.kind { size } else { 0 };
        writer.append(entry, &mut io::repeat(b'x').take(size)).unwrap();
    }
    writer.finish().unwrap().0
}

fn reader(bytes: &[u8]) -> LayerReader<Box<dyn Read + Send + '_>> {
    LayerReader::new(bytes, "l", Limits::default()).unwrap()
}

/// Tells whether this is root, who alone may make devices and give files away.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: only root makes devices and gives files away");
        }
    }
    is_root
}

fn there_and_back(entries: &[Entry], xattrs: OverlayXattrs) -> Result<Vec<Entry>, LayerError> {
    let folder = tempfile::tempdir().unwrap();
    let skipped = unpack(&mut reader(&layer(entries)), folder.path(), xattrs)?;
    assert_eq!(skipped, []);
    Ok(upper::entries(folder.path(), xattrs)?.into_iter().map(|(entry, _)| entry).collect())
}

#[test]
fn everything_comes_back_from_a_folder() {
    if !is_root() {
        return;
    }
    let mut capable = Entry { mode: 0o6755, uid: 70_000, gid: 5, mtime: 1_000_000, ..file("bin/ping") };
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    capable.xattrs.insert("security.capability".into(), capability.to_vec());
    capable.xattrs.insert("user.note".into(), b"a\0b".to_vec());
    let entries = [
        Entry { mode: 0o1777, uid: 3, mtime: 77, ..folder("bin") },
        capable,
        hardlink("bin/ping6", "bin/ping"),
        whiteout("bin/gone"),
        opaque("etc"),
        Entry { uid: 9, mtime: 5, ..symlink("etc/link", "../../../x") },
        entry("fifo", Kind::Fifo),
        entry("null", Kind::CharDevice { major: 1, minor: 3 }),
        entry("sda", Kind::BlockDevice { major: 8, minor: 300 }),
    ];
    for xattrs in [OverlayXattrs::Trusted, OverlayXattrs::User] {
        let mut want = entries.to_vec();
        want.sort_by(|one, other| one.path.cmp(&other.path));
        let linked = want.iter().position(|entry| entry.path == "bin/ping6").unwrap();
        // A link is the file itself, and so looks like it.
        let Entry { mode, uid, gid, mtime, xattrs: attributes, .. } = entries[1].clone();
        want[linked] = Entry { mode, uid, gid, mtime, xattrs: attributes, ..want[linked].clone() };
        assert_eq!(there_and_back(&entries, xattrs).unwrap(), want);
    }
}

#[test]
fn the_last_word_on_a_path_counts() {
    if !is_root() {
        return;
    }
    for (entries, want) in [
        (vec![file("a/b"), file("a")], vec![file("a")]),
        (vec![file("a"), folder("a"), file("a/b")], vec![folder("a"), file("a/b")]),
        (vec![symlink("a", "/"), file("a")], vec![file("a")]),
        (vec![symlink("a", "/"), folder("a")], vec![folder("a")]),
        (vec![whiteout("a"), file("a/b/c")], vec![opaque("a"), folder("a/b"), file("a/b/c")]),
        (vec![file("a/b"), whiteout("a")], vec![opaque("a"), file("a/b")]),
        (vec![file("a"), whiteout("a")], vec![file("a")]),
        (vec![whiteout("a"), file("a")], vec![file("a")]),
        (vec![file("a"), hardlink("b", "a"), file("a")], vec![file("a"), file("b")]),
        (vec![file("a/b"), folder("a"), opaque("a")], vec![opaque("a"), file("a/b")]),
    ] {
        assert_eq!(there_and_back(&entries, OverlayXattrs::User).unwrap(), want, "{entries:?}");
    }
}

#[test]
fn nothing_is_made_outside() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("sub")).unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let out = outside.path().to_str().unwrap();
    let own = |entry: Entry| Entry {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..entry
    };
    for entries in [
        vec![symlink("d", out), file("d/f")],
        vec![symlink("d", out), file("d/sub/f")],
        vec![symlink("d", out), folder("d/sub/new")],
        vec![symlink("d", out), opaque("d/sub")],
        vec![symlink("d", out), whiteout("d/secret")],
        vec![symlink("d", out), hardlink("l", "d/secret")],
        vec![symlink("d", out), hardlink("d/l", "l")],
        vec![folder("x"), symlink("x/d", "../.."), file("x/d/y/f")],
        vec![hardlink("l", "nothing")],
        vec![folder("x"), hardlink("l", "x")],
        vec![symlink("s", "secret"), file("s/f")],
        vec![file("f"), file("f/g")],
    ] {
        let entries: Vec<_> = entries.into_iter().map(own).collect();
        let place = tempfile::tempdir().unwrap();
        let done = unpack(&mut reader(&layer(&entries)), place.path(), OverlayXattrs::User);
        let refused = match &done {
            Err(LayerError::Refused { .. }) => true,
            // The way to a link's target is one through no links.
            Err(LayerError::File { done: "opened", .. }) => matches!(entries[1].kind, Kind::Hardlink { .. }),
            _ => false,
        };
        assert!(refused, "{entries:?}: {done:?}");
        let mut names: Vec<_> =
            std::fs::read_dir(outside.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["secret", "sub"], "{entries:?}");
        assert!(std::fs::read_dir(outside.path().join("sub")).unwrap().next().is_none());
    }
    // What a link points to is not touched when something takes its place.
    let place = tempfile::tempdir().unwrap();
    let secret = format!("{out}/secret");
    let entries = [own(symlink("s", &secret)), own(file("s"))];
    unpack(&mut reader(&layer(&entries)), place.path(), OverlayXattrs::User).unwrap();
    assert_eq!(std::fs::read(secret).unwrap(), b"secret");
    assert_eq!(std::fs::read(place.path().join("s")).unwrap(), b"xxx");
}

#[test]
fn many_zeros_take_no_room() {
    let own = Entry { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), ..file("f") };
    let mut writer = LayerWriter::new(Vec::new(), Compression::Zstd, NonZero::<usize>::MIN);
    for (path, zeros, end) in [("all", 4 << 20, ""), ("most", 4 << 20, "end"), ("none", 0, "")] {
        let size = zeros + end.len() as u64;
        let entry = Entry { path: path.into(), kind: Kind::File { size }, ..own.clone() };
        writer.append(&entry, &mut io::repeat(0).take(zeros).chain(end.as_bytes())).unwrap();
    }
    let (bytes, _) = writer.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    unpack(&mut reader(&bytes), folder.path(), OverlayXattrs::User).unwrap();
    for (path, size) in [("all", 4 << 20), ("most", (4 << 20) + 3), ("none", 0)] {
        let metadata = folder.path().join(path).metadata().unwrap();
        assert_eq!(metadata.len(), size);
        assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 1 << 19, "{path}");
    }
    let most = std::fs::read(folder.path().join("most")).unwrap();
    assert!(most.ends_with(b"\0end") && most.iter().filter(|&&byte| byte != 0).count() == 3);
}

#[test]
fn ten_gigabytes_of_zeros_take_neither_room_nor_memory() {
    let size = 10 << 30;
    let mut header = tar::Header::new_ustar();
    header.set_path("hostile").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header.set_cksum();
    let layer = || io::Cursor::new(*header.as_bytes()).chain(io::repeat(0).take(size + 1024));

    let folder = tempfile::tempdir().unwrap();
    unpack(&mut LayerReader::of_tar(layer(), "l", Limits::default()), folder.path(), OverlayXattrs::User).unwrap();
    let metadata = folder.path().join("hostile").metadata().unwrap();
    assert_eq!(metadata.len(), size);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < 1 << 20);

    // Where that is too much, nothing is written of it.
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: size - 1, ..Limits::default() };
    let refused = unpack(&mut LayerReader::of_tar(layer(), "l", limits), folder.path(), OverlayXattrs::User);
    assert!(matches!(refused, Err(LayerError::TooMuch { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_kernel_lays_them_over_each_other_as_the_tree_does() {
    if !is_root() {
        return;
    }
    let layers = [
        vec![file("a/b/c"), file("a/b/d"), file("a/e"), folder("g/h"), file("g/h/i"), symlink("s", "a"), file("top")],
        vec![whiteout("a/b/c"), opaque("g"), file("g/new"), file("s"), whiteout("top")],
        vec![
            whiteout("a/b"),
            file("a/b/again"),
            folder("top"),
            file("top/x"),
            whiteout("never"),
            whiteout("no/such"),
            whiteout("a/e/x"),
        ],
    ];
    let place = tempfile::tempdir().unwrap();
    let mut tree = Tree::default();
    let mut lower = Vec::new();
    for (number, entries) in layers.iter().enumerate() {
        let bytes = layer(entries);
        list(&mut reader(&bytes), &mut |_, _| Ok(())).unwrap().into_iter().for_each(|entry| tree.apply(entry));
        let folder = place.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        unpack(&mut reader(&bytes), &folder, OverlayXattrs::Trusted).unwrap();
        lower.insert(0, folder.to_str().unwrap().to_owned());
    }
    let merged = place.path().join("merged");
    std::fs::create_dir(&merged).unwrap();
    // A folder that one layer alone has lists its whiteouts, although there is nothing at those names.
    let script = r#"mount -t overlay overlay -o "lowerdir=$1" "$2" && cd "$2" && find . -mindepth 1 ! -type c -printf '%P %y\n'"#;
    let found = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &lower.join(":")])
        .arg(&merged)
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let found: BTreeSet<_> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    let letter = |entry: &Entry| match entry.kind {
        Kind::Dir => 'd',
        Kind::Symlink { .. } => 'l',
        _ => 'f',
    };
    let want: BTreeSet<_> = tree.iter().map(|entry| format!("{} {}", entry.path, letter(entry))).collect();
    assert_eq!(found, want);
}

/// A layer's entries in any order, with few enough names that they meet.
fn any_layer() -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop_oneof![
        3 => (0..5000_u64).prop_map(|size| Kind::File { size }),
        3 => Just(Kind::Dir),
        1 => "[a-z/.]{1,20}".prop_map(|target| Kind::Symlink { target }),
        1 => Just(Kind::Hardlink { target: "a".into() }),
        1 => Just(Kind::Fifo),
        2 => Just(Kind::Whiteout),
        1 => Just(Kind::OpaqueDir),
    ];
    let one = ("[abc](/[abcé]){0,3}", kind, 0..0o10000_u32, 0..99_999_u32, 0..1_u64 << 32).prop_map(
        |(path, kind, mode, id, mtime)| {
            let mode = if matches!(kind, Kind::Symlink { .. }) { 0o777 } else { mode };
            Entry { path, kind, mode, uid: id, gid: id / 2, mtime, xattrs: BTreeMap::new() }
        },
    );
    prop::collection::vec(one, 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// The folder says what the list says, or neither takes the layer.
    #[test]
    fn a_folder_says_what_its_layer_says(entries in any_layer()) {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let Ok(said) = list(&mut reader(&layer(&entries)), &mut |_, _| Ok(())) else {
            return Ok(());
        };
        // What a folder loses: links are the files they are links to, and whiteouts look like nothing.
        let mut want: BTreeMap<String, (Kind, u32, u64)> = BTreeMap::new();
        for entry in &said {
            for (at, _) in entry.path.match_indices('/') {
                want.entry(entry.path[..at].to_owned()).or_insert((Kind::Dir, 0o755, 0));
            }
            let looks = if entry.kind == Kind::Whiteout { (Kind::Whiteout, 0, 0) } else { (entry.kind.clone(), entry.mode, entry.mtime) };
            want.insert(entry.path.clone(), looks);
        }
        let folder = tempfile::tempdir().unwrap();
        match unpack(&mut reader(&layer(&entries)), folder.path(), OverlayXattrs::User) {
            // On its way a layer may be worse than in the end.
            Err(LayerError::Refused { .. }) => return Ok(()),
            done => drop(done.unwrap()),
        }
        let found = upper::entries(folder.path(), OverlayXattrs::User).unwrap();
        let paths: Vec<_> = found.iter().map(|(entry, _)| entry.path.clone()).collect();
        prop_assert_eq!(&paths, &want.keys().cloned().collect::<Vec<_>>());
        for (entry, _) in found {
            let (kind, mode, mtime) = &want[&entry.path];
            let is_link = |kind: &Kind| matches!(kind, Kind::Hardlink { .. });
            if !is_link(kind) && !is_link(&entry.kind) {
                prop_assert_eq!(&entry.kind, kind);
                // A whiteout that became a folder had no looks of its own.
                if *kind != Kind::OpaqueDir {
                    prop_assert_eq!((entry.mode, entry.mtime), (*mode, *mtime), "{}", entry.path);
                }
            }
        }
    }
}
