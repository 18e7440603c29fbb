use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZero;
use std::process::Command;

use oci_spec::image::ConfigBuilder;

use super::*;
use crate::layer::{Compression, Entry, Kind, LayerError, LayerWriter};
use crate::tests::has;

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 9,
        xattrs: BTreeMap::from([("user.a".into(), vec![0])]),
    }
}

fn put_layer(store: &Store, files: &[(&str, &str)], compression: Compression) -> Layer {
    let mut writer = LayerWriter::new(store.layer_sink().unwrap(), compression, NonZero::new(2).unwrap());
    for (path, content) in files {
        let file = entry(path, Kind::File { size: content.len() as u64 });
        writer.append(&file, &mut content.as_bytes()).unwrap();
    }
    let (sink, layer) = writer.finish().unwrap();
    sink.keep(&layer).unwrap();
    layer
}

fn config(labels: &[(&str, &str)]) -> ImageConfiguration {
    let labels: HashMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let ports: Vec<_> = (1..20).map(|port| format!("{port}/tcp")).collect();
    let mut config = ImageConfiguration::default();
    config.set_config(Some(ConfigBuilder::default().labels(labels).exposed_ports(ports).build().unwrap()));
    config
}

/// Everything in a store, by path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in ["", "blobs/sha256", "entries", "partial"] {
        for file in std::fs::read_dir(folder.join(name)).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn equal_images_are_equal_bytes() {
    let build = || {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let layers =
            [Compression::Gzip, Compression::Zstd].map(|compression| put_layer(&store, &[("a/b", "x")], compression));
        store.tag("localhost/x:1", &config(&[("a", "1"), ("b", "2"), ("c", "3")]), &layers).unwrap();
        store.tag("localhost/w:1", &config(&[]), &layers[1..]).unwrap();
        files(folder.path())
    };
    let first = build();
    assert_eq!(first, build());
    let text = String::from_utf8(first["index.json"].clone()).unwrap();
    assert!(
        text.starts_with(r#"{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"localhost/w:1"},"#),
        "{text}"
    );
    // Two layers, two configurations, two manifests, and nothing left over.
    assert_eq!(first.len(), 6 + ["index.json", "oci-layout", "in-use", "lock"].len());
}

#[test]
fn names_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.image("one").unwrap(), None);
    let layer = put_layer(&store, &[("f", "one")], Compression::None);
    let image = store.tag("one", &config(&[]), std::slice::from_ref(&layer)).unwrap();
    let again = Store::open(folder.path()).unwrap();
    assert_eq!(again.image("one").unwrap().as_ref(), Some(&image));
    assert_eq!(again.layers(&image).unwrap(), std::slice::from_ref(&layer));
    assert_eq!(image.config.rootfs().diff_ids(), &[format!("sha256:{}", layer.diff_id)]);

    // The same content under another name, another under the same.
    assert_eq!(store.tag("two", &config(&[]), std::slice::from_ref(&layer)).unwrap(), image);
    let other = put_layer(&store, &[("f", "other")], Compression::None);
    let replaced = store.tag("one", &config(&[]), std::slice::from_ref(&other)).unwrap();
    let names: Vec<_> = store.images().unwrap().into_iter().map(|(name, image)| (name, image.id)).collect();
    assert_eq!(names, [("one".to_owned(), replaced.id), ("two".to_owned(), image.id)]);

    let two = || std::collections::BTreeSet::from(["two".to_owned()]);
    assert!(matches!(store.prune(&two()), Err(StoreError::Busy { .. })));
    assert!(store.image("two").unwrap().is_some(), "nothing is taken from under others");
    assert!(matches!(again.prune(&two()), Err(StoreError::Busy { .. })), "nor from under who was refused that");
    drop(again);
    let space = store.prune(&std::collections::BTreeSet::new()).unwrap();
    assert_eq!(space.before, space.after);
    store.contents(&layer.digest).unwrap();
    let space = store.prune(&two()).unwrap();
    assert!(space.before - space.after > layer.size, "{space:?}");
    assert_eq!(store.prune(&two()).unwrap(), Space { before: space.after, after: space.after });
    assert!(!store.has(&layer.digest, layer.size));
    assert_eq!(store.image("one").unwrap(), Some(replaced));
    let missing = store.tag("two", &config(&[]), &[layer]);
    assert!(matches!(missing, Err(StoreError::Missing { .. })));
}

#[test]
fn a_layer_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let long = "x".repeat(70_000);
    let files = [("etc/group", long.as_str()), ("etc/passwd", "root:x:0:0"), ("etc/hosts", "h")];
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = put_layer(&store, &files, compression);
        let contents = store.contents(&layer.digest).unwrap();
        assert_eq!((contents.diff_id, contents.uncompressed), (layer.diff_id, layer.uncompressed));
        assert_eq!(contents.compression, compression);
        let want: Vec<_> =
            [(0, 70_000), (2, 1), (1, 10)].map(|(at, size)| entry(files[at].0, Kind::File { size })).into();
        assert_eq!(contents.entries, want);
        let blob = store.blob_path(layer.digest);
        let hidden = blob.with_extension("hidden");
        std::fs::rename(&blob, &hidden).unwrap();
        assert_eq!(store.index_of(&layer.digest).unwrap(), want);
        assert_eq!(store.small(&layer.digest, "etc/passwd").unwrap().as_deref(), Some(&b"root:x:0:0"[..]));
        assert_eq!(store.small(&layer.digest, "etc/group").unwrap(), None);
        assert_eq!(store.small(&layer.digest, "etc/hosts").unwrap(), None);

        // What was remembered wrongly is read again.
        let remembered = folder.path().join("entries").join(layer.digest.to_string());
        let mut bytes = std::fs::read(&remembered).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&remembered, bytes).unwrap();
        assert!(matches!(store.contents(&layer.digest), Err(StoreError::Missing { .. })));
        std::fs::rename(&hidden, &blob).unwrap();
        assert_eq!(store.contents(&layer.digest).unwrap(), contents);
    }
}

#[test]
fn every_kind_of_entry_is_remembered() {
    let kinds = [
        Kind::File { size: 1 << 40 },
        Kind::Dir,
        Kind::Symlink { target: "é".into() },
        Kind::Hardlink { target: "a".into() },
        Kind::CharDevice { major: 1, minor: u32::MAX },
        Kind::BlockDevice { major: 300, minor: 0 },
        Kind::Fifo,
        Kind::Whiteout,
        Kind::OpaqueDir,
    ];
    let contents = Contents {
        entries: kinds.into_iter().map(|kind| entry("a/b", kind)).collect(),
        small: BTreeMap::from([("p".into(), vec![1, 2])]),
        diff_id: Digest::of(b"x"),
        uncompressed: u64::MAX,
        compression: Compression::Zstd,
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.remember(&Digest::of(b"l"), &contents).unwrap();
    assert_eq!(store.contents(&Digest::of(b"l")).unwrap(), contents);
}

#[test]
fn damage_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let layer = put_layer(&store, &[("f", "content")], Compression::None);
    let image = store.tag("one", &config(&[]), std::slice::from_ref(&layer)).unwrap();
    let mut bytes = std::fs::read(store.blob_path(layer.digest)).unwrap();
    bytes[1536] ^= 1;
    std::fs::write(store.blob_path(layer.digest), &bytes).unwrap();
    assert!(matches!(store.contents(&layer.digest), Err(StoreError::Damaged { want, .. }) if want == layer.digest));
    assert!(!store.has(&layer.digest, layer.size), "nobody takes it for the right one any more");
    // Nor does its size speak for it where the right one comes.
    std::fs::write(store.blob_path(layer.digest), &bytes).unwrap();
    assert_eq!(put_layer(&store, &[("f", "content")], Compression::None), layer);
    store.verify(&layer.digest).unwrap();
    std::fs::write(store.blob_path(image.id), vec![b' '; image.config_bytes.len()]).unwrap();
    assert_eq!(store.put(&image.config_bytes).unwrap(), image.id);
    store.verify(&image.id).unwrap();
    bytes.truncate(600);
    std::fs::write(store.blob_path(layer.digest), &bytes).unwrap();
    assert!(matches!(store.contents(&layer.digest), Err(StoreError::Layer(LayerError::Read { .. }))));
    std::fs::write(store.blob_path(image.id), "{}").unwrap();
    assert!(matches!(store.image("one"), Err(StoreError::Damaged { want, .. }) if want == image.id));
    std::fs::File::options().write(true).open(store.blob_path(image.id)).unwrap().set_len(MAX_JSON + 1).unwrap();
    assert!(matches!(store.image("one"), Err(StoreError::TooLarge { .. })));
}

#[test]
fn writers_wait_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let folder = folder.path();
            scope.spawn(move || {
                let store = Store::open(folder).unwrap();
                for round in 0..5 {
                    store.tag(&format!("image-{number}-{round}"), &config(&[]), &[]).unwrap();
                }
            });
        }
    });
    assert_eq!(Store::open(folder.path()).unwrap().images().unwrap().len(), 40);
}

/// The store as another program sees it.
#[test]
fn another_program_reads_it() {
    if !has("skopeo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let layers =
        [Compression::None, Compression::Gzip].map(|compression| put_layer(&store, &[("a/b", "x")], compression));
    let image = store.tag("localhost/x:1", &config(&[("a", "1")]), &layers).unwrap();
    let reference = format!("oci:{}:localhost/x:1", folder.path().display());
    let output = Command::new("skopeo").args(["inspect", "--raw", &reference]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, image.manifest_bytes);
    let copy = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", copy.path().display());
    let output = Command::new("skopeo").args(["copy", &reference, &to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut copied = Vec::new();
    File::open(copy.path().join(layers[1].digest.to_string())).unwrap().read_to_end(&mut copied).unwrap();
    assert_eq!(Digest::of(&copied), layers[1].digest);
}

fn put_entries(store: &Store, entries: &[(Entry, &str)]) -> Layer {
    let mut writer = LayerWriter::new(store.layer_sink().unwrap(), Compression::Zstd, NonZero::<usize>::MIN);
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_bytes()).unwrap();
    }
    let (sink, layer) = writer.finish().unwrap();
    sink.keep(&layer).unwrap();
    layer
}

#[test]
fn images_are_compared_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let file =
        |path: &'static str, content: &'static str| (entry(path, Kind::File { size: content.len() as u64 }), content);
    let link = |path, target: &str| (entry(path, Kind::Hardlink { target: target.into() }), "");
    // What a link's bits are means nothing.
    let symlink = |mode| (Entry { mode, ..entry("link", Kind::Symlink { target: "same".into() }) }, "");
    let base = put_entries(
        &store,
        &[file("same", "s"), file("was", "w"), file("x/a", "1"), file("x/b", "2"), link("l", "same"), symlink(0o777)],
    );
    let mut moded = file("x/b", "2");
    moded.0.mode = 0o600;
    moded.0.uid = 3;
    moded.0.mtime = 1;
    moded.0.xattrs.clear();
    let whiteout = (Entry { xattrs: BTreeMap::new(), ..entry("was", Kind::Whiteout) }, "");
    let over = put_entries(
        &store,
        &[file("new", "n"), file("same", "s"), whiteout, file("x/a", "3"), moded, file("l", "s"), symlink(0o644)],
    );
    let one = store.tag("one", &config(&[]), std::slice::from_ref(&base)).unwrap();
    let two = store.tag("two", &config(&[]), &[base.clone(), over.clone()]).unwrap();
    let threads = NonZero::new(2).unwrap();
    let merged = store.merge(&[base, over], true, Compression::Gzip, threads).unwrap();
    let three = store.tag("three", &config(&[]), &[merged]).unwrap();
    let every = vec![Aspect::Mode, Aspect::Owner, Aspect::Time, Aspect::Attributes];
    let want = [
        ("new", Change::Added),
        ("was", Change::Removed),
        ("x/a", Change::Changed(vec![Aspect::Content])),
        ("x/b", Change::Changed(every)),
    ];
    let want = want.map(|(path, change)| Difference { path: path.to_owned(), change });
    assert_eq!(store.diff(&one, &two).unwrap(), want);
    assert_eq!(store.diff(&one, &three).unwrap(), want);
    assert_eq!(store.diff(&two, &three).unwrap(), []);
    assert_eq!(store.diff(&one, &one).unwrap(), []);
}
