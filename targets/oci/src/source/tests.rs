use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use charly_target_core::Interrupts;
use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};

use super::*;
use crate::layer::tree::implied;
use crate::layer::{Compression, Entry, Kind, Layer, LayerError, LayerWriter};
use crate::tests::has;

fn access() -> Access {
    Access {
        agent: ureq::Agent::config_builder().proxy(None).build().into(),
        credentials: Credentials::default(),
        insecure: BTreeSet::new(),
        platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
        interrupts: Interrupts::default(),
    }
}

fn at(place: &str) -> Source {
    Source { place: Place::parse(place).unwrap(), access: access() }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn layer(store: &Store, path: &str, content: &[u8], compression: Compression) -> Layer {
    let mut writer = LayerWriter::new(store.layer_sink().unwrap(), compression, NonZero::<usize>::MIN);
    let entry = Entry { kind: Kind::File { size: content.len() as u64 }, ..implied(path) };
    writer.append(&entry, &mut &content[..]).unwrap();
    let (sink, layer) = writer.finish().unwrap();
    sink.keep(&layer).unwrap();
    layer
}

fn configuration() -> ImageConfiguration {
    serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}, "rootfs": {"type": "layers", "diff_ids": []},
    }))
    .unwrap()
}

fn an_image(store: &Store) -> Image {
    let layers = [
        layer(store, "a/one", &vec![7; 100_000], Compression::Gzip),
        layer(store, "two", b"2", Compression::Zstd),
        layer(store, "three", b"3", Compression::None),
    ];
    store.tag("localhost/x:1", &configuration(), &layers).unwrap()
}

/// An image that programs take which know gzip alone.
fn gzip_image(store: &Store) -> Image {
    let layers = [layer(store, "a/b", b"b", Compression::Gzip), layer(store, "c", &vec![3; 90_000], Compression::Gzip)];
    store.tag("gzip", &configuration(), &layers).unwrap()
}

fn quiet() -> impl FnMut(Progress) {
    |_| {}
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn images_go_out_and_come_back() {
    let (_folder, from) = store();
    let image = an_image(&from);
    let place = tempfile::tempdir().unwrap();
    for (form, keeps_manifest) in [("oci", true), ("oci-archive", true), ("docker-archive", false)] {
        let path = format!("{form}:{}/{form}", place.path().display());
        let named = format!("{path}:localhost/x:1");
        export(&from, &image, &at(&named), &mut quiet()).unwrap();
        let (_folder, to) = store();
        for source in [&named, &path] {
            let mut bytes = BTreeMap::new();
            let got = import(&to, &at(source), "new", &mut |progress| {
                bytes.insert(progress.blob, progress.done);
            })
            .unwrap();
            assert_eq!(got.id, image.id, "{source}");
            assert_eq!(got.manifest_digest == image.manifest_digest, keeps_manifest, "{source}");
            assert_eq!(to.image("new").unwrap(), Some(got));
            // What is known already is not fetched again.
            assert_eq!(bytes.len(), if *source == named { 3 } else { 0 }, "{source}");
        }
        let missing = import(&to, &at(&format!("{path}:other")), "other", &mut quiet());
        assert!(matches!(missing, Err(SourceError::Which { names, .. }) if names == ["localhost/x:1"]));
        assert_eq!(to.image("other").unwrap(), None);
        if form != "oci" {
            let again = format!("{form}:{}/again:localhost/x:1", place.path().display());
            export(&from, &image, &at(&again), &mut quiet()).unwrap();
            let read = |name: &str| std::fs::read(place.path().join(name)).unwrap();
            assert!(read(form) == read("again"), "{form}");
        }
    }
}

#[test]
fn a_layout_holds_several_images() {
    let (_folder, from) = store();
    let one = an_image(&from);
    let two = from.tag("two", &configuration(), &[]).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = format!("oci:{}", place.path().display());
    for (image, name) in [(&two, "one"), (&two, "two"), (&one, "one")] {
        export(&from, image, &at(&format!("{path}:{name}")), &mut quiet()).unwrap();
    }
    let (_folder, to) = store();
    assert!(
        matches!(import(&to, &at(&path), "x", &mut quiet()), Err(SourceError::Which { names, .. }) if names == ["two", "one"])
    );
    assert_eq!(import(&to, &at(&format!("{path}:one")), "x", &mut quiet()).unwrap(), one);
    assert_eq!(import(&to, &at(&format!("{path}:two")), "x", &mut quiet()).unwrap(), two);
}

/// Writes a docker archive of these files, compressed or not.
fn archive(path: &std::path::Path, files: &[(&str, &[u8])], links: &[(&str, &str)], compression: Compression) {
    let mut writer = LayerWriter::new(Vec::new(), compression, NonZero::<usize>::MIN);
    for (name, content) in files {
        let entry = Entry { kind: Kind::File { size: content.len() as u64 }, ..implied(name) };
        writer.append(&entry, &mut &content[..]).unwrap();
    }
    for (name, target) in links {
        writer
            .append(&Entry { kind: Kind::Symlink { target: (*target).into() }, ..implied(name) }, &mut io::empty())
            .unwrap();
    }
    std::fs::write(path, writer.finish().unwrap().0).unwrap();
}

#[test]
fn docker_archives_are_read_as_they_are_written_anywhere() {
    let (_folder, to) = store();
    let plain = layer(&to, "f", b"content", Compression::None);
    let tar = std::fs::read(to.blob_path(plain.digest)).unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", plain.diff_id)]},
    })
    .to_string();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.tar");
    let try_with = |manifest: Value, compression: Compression, links: &[(&str, &str)], tar: &[u8]| {
        let manifest = manifest.to_string();
        let files = [("manifest.json", manifest.as_bytes()), ("c.json", config.as_bytes()), ("l/layer.tar", tar)];
        archive(&path, &files, links, compression);
        let (_folder, to) = store();
        import(&to, &at(&format!("docker-archive:{}", path.display())), "x", &mut quiet())
            .map(|image| to.layers(&image).unwrap())
    };
    let saved = |config: &str, layer: &str| json!([{ "Config": config, "RepoTags": ["x:1"], "Layers": [layer] }]);
    let links = [
        ("k/layer.tar", "../l/layer.tar"),
        ("out", "../../../../etc/passwd"),
        ("loop", "loop"),
        ("abs", "/l/layer.tar"),
    ];
    for (layer, compression) in [
        ("l/layer.tar", Compression::None),
        ("./l//layer.tar", Compression::Gzip),
        ("k/layer.tar", Compression::None),
        ("l/layer.tar", Compression::Zstd),
    ] {
        assert_eq!(try_with(saved("c.json", layer), compression, &links, &tar).unwrap(), std::slice::from_ref(&plain));
    }
    for (config, layer) in [
        ("../../etc/passwd", "l/layer.tar"),
        ("/etc/passwd", "l/layer.tar"),
        ("c.json", "../l/layer.tar"),
        ("c.json", "out"),
        ("c.json", "loop"),
        ("c.json", "nothing"),
    ] {
        let got = try_with(saved(config, layer), Compression::None, &links, &tar);
        assert!(matches!(got, Err(SourceError::Missing { .. })), "{config} {layer}: {got:?}");
    }
    let mut other = tar.clone();
    other[512] ^= 1;
    let got = try_with(saved("c.json", "l/layer.tar"), Compression::None, &[], &other);
    assert!(matches!(got, Err(SourceError::Store(StoreError::DiffId { want, .. })) if want == plain.diff_id));
    for manifest in [json!([]), json!({}), json!([{ "Config": "c.json", "Layers": [] }]), json!([{ "Layers": [] }])] {
        assert!(try_with(manifest, Compression::None, &[], &tar).is_err());
    }
    std::fs::write(&path, &tar[..700]).unwrap();
    let cut = import(&to, &at(&format!("docker-archive:{}", path.display())), "x", &mut quiet());
    assert!(
        matches!(cut, Err(SourceError::Layer(LayerError::Read { layer, .. })) if layer == path.display().to_string())
    );
}

/// A registry that says what it is told to.
struct Fake {
    address: String,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

/// By the path that is asked for: each time the next, and the last for ever.
type Answers = Arc<Mutex<BTreeMap<String, Vec<Vec<u8>>>>>;

impl Fake {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers: Answers = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let fake = Self { address, answers: answers.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut input = BufReader::new(stream.try_clone().unwrap());
                let lines = input.by_ref().lines().map_while(Result::ok);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let length =
                    head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                io::copy(&mut input.take(length.unwrap_or(0)), &mut io::sink()).ok();
                let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)).map(str::to_owned) else {
                    continue;
                };
                asked.lock().unwrap().push(head.join("\n"));
                let mut answers = answers.lock().unwrap();
                let answer = match answers.get_mut(&path) {
                    Some(answers) if answers.len() > 1 => answers.remove(0),
                    Some(answers) => answers[0].clone(),
                    None => b"HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
                };
                // Whoever asked may have gone.
                stream.write_all(&answer).ok();
            }
        });
        fake
    }

    fn answer(&self, path: &str, answers: &[Vec<u8>]) {
        self.answers.lock().unwrap().insert(path.to_owned(), answers.to_vec());
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.answer(&format!("/v2/x/blobs/sha256:{digest}"), &[ok(bytes)]);
        digest
    }

    fn manifest(&self, name: &str, value: &Value) -> Digest {
        let bytes = value.to_string();
        self.answer(&format!("/v2/x/manifests/{name}"), &[ok(bytes.as_bytes())]);
        Digest::of(bytes.as_bytes())
    }

    fn source(&self, reference: &str) -> Source {
        at(&format!("docker://{}/x{reference}", self.address))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn http(status: &str, headers: &str, bytes: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    answer.extend(bytes);
    answer
}

fn ok(bytes: &[u8]) -> Vec<u8> {
    http("200 OK", &format!("content-length: {}\r\n", bytes.len()), bytes)
}

fn described(media_type: &str, digest: Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of one layer in a registry, and its parts.
struct Served {
    fake: Fake,
    layer: Layer,
    blob: Vec<u8>,
    config: Value,
    manifest: Value,
}

fn served() -> Served {
    let (_folder, store) = store();
    // Random enough not to shrink to nothing.
    let content: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let layer = layer(&store, "f", &content, Compression::Gzip);
    let blob = std::fs::read(store.blob_path(layer.digest)).unwrap();
    let fake = Fake::new();
    fake.blob(&blob);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.diff_id)]},
    });
    let manifest = manifest_of(&fake, &config, &[described(GZIP, layer.digest, blob.len())]);
    fake.manifest("latest", &manifest);
    Served { fake, layer, blob, config, manifest }
}

fn manifest_of(fake: &Fake, config: &Value, layers: &[Value]) -> Value {
    let bytes = config.to_string();
    let digest = fake.blob(bytes.as_bytes());
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": described("application/vnd.oci.image.config.v1+json", digest, bytes.len()),
        "layers": layers,
    })
}

fn pull(source: &Source) -> Result<(Image, Vec<Layer>), SourceError> {
    let (_folder, to) = store();
    let image = import(&to, source, "x", &mut quiet())?;
    assert_eq!(std::fs::read_dir(to.partial()).unwrap().count(), 0);
    let layers = to.layers(&image).unwrap();
    Ok((image, layers))
}

#[test]
fn a_registry_is_believed_only_what_can_be_checked() {
    let Served { fake, layer, blob, config, manifest } = served();
    let (image, layers) = pull(&fake.source("")).unwrap();
    assert_eq!(layers, std::slice::from_ref(&layer));
    assert_eq!(image.manifest_bytes, manifest.to_string().into_bytes());
    let url = format!("/v2/x/blobs/sha256:{}", layer.digest);

    // A type that it is not called by is no matter.
    let text = manifest.to_string();
    let lie =
        http("200 OK", &format!("content-type: text/html\r\ncontent-length: {}\r\n", text.len()), text.as_bytes());
    fake.answer("/v2/x/manifests/latest", &[lie]);
    pull(&fake.source("")).unwrap();

    // Other bytes, more bytes, bytes without end.
    let mut other = blob.clone();
    other[1000] ^= 1;
    let mut more = blob.clone();
    more.push(0);
    let endless = http("200 OK", "", &more);
    for (answer, is_size) in [(ok(&other), false), (ok(&more), true), (endless, true)] {
        fake.answer(&url, &[answer]);
        match pull(&fake.source("")) {
            Err(SourceError::Size { .. }) => assert!(is_size),
            Err(SourceError::Digest { want, .. }) => assert!(!is_size && want == layer.digest),
            other => panic!("{other:?}"),
        }
    }
    fake.answer(&url, &[ok(&blob)]);

    // A digest that was asked for is what must come.
    let by_digest = fake.source(&format!("@sha256:{}", Digest::of(b"other")));
    fake.answer(&format!("/v2/x/manifests/sha256:{}", Digest::of(b"other")), &[ok(text.as_bytes())]);
    assert!(matches!(pull(&by_digest), Err(SourceError::Digest { .. })));

    // A configuration that lists something else.
    let mut wrong = config.clone();
    wrong["rootfs"]["diff_ids"][0] = format!("sha256:{}", Digest::of(b"other")).into();
    let layers = [described(GZIP, layer.digest, blob.len())];
    fake.manifest("latest", &manifest_of(&fake, &wrong, &layers));
    assert!(matches!(pull(&fake.source("")), Err(SourceError::Store(StoreError::DiffId { .. }))));
    fake.manifest("latest", &manifest_of(&fake, &config, &[]));
    assert!(matches!(pull(&fake.source("")), Err(SourceError::Store(StoreError::Unequal { .. }))));

    // What is no layer, or larger than any.
    for descriptor in [
        described("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", layer.digest, blob.len()),
        described("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", layer.digest, blob.len()),
        described(GZIP, layer.digest, 40 << 30),
    ] {
        fake.manifest("latest", &manifest_of(&fake, &config, &[descriptor]));
        let got = pull(&fake.source(""));
        assert!(matches!(got, Err(SourceError::Document { .. } | SourceError::TooLarge { .. })), "{got:?}");
    }

    // A layer that is not compressed as the manifest says is called what it is.
    let docker = described("application/vnd.docker.image.rootfs.diff.tar", layer.digest, blob.len());
    fake.manifest("latest", &manifest_of(&fake, &config, &[docker]));
    let (image, _) = pull(&fake.source("")).unwrap();
    assert_eq!(image.manifest.layers()[0].media_type().as_ref(), GZIP);
}

#[test]
fn documents_that_mislead_are_refused() {
    let Served { fake, manifest, .. } = served();
    let digest = fake.manifest("m", &manifest);
    fake.manifest(&format!("sha256:{digest}"), &manifest);
    let size = manifest.to_string().len();
    let index_of = |entries: &[Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let amd64 = |mut entry: Value, architecture: &str| {
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let one = described(MANIFEST, digest, size);
    fake.manifest("latest", &index_of(&[amd64(one.clone(), "arm64"), amd64(one.clone(), "amd64")]));
    pull(&fake.source("")).unwrap();
    fake.manifest("latest", &index_of(&[amd64(one.clone(), "arm64"), amd64(one.clone(), "s390x")]));
    let none = pull(&fake.source("")).unwrap_err();
    assert_eq!(none.to_string(), "there is no image for linux/amd64, only for `linux/arm64`, `linux/s390x`");

    // Indexes within indexes, as deep as they like.
    let mut inner = one.clone();
    for depth in 0..5 {
        let index = index_of(&[inner]);
        let digest = Digest::of(index.to_string().as_bytes());
        fake.manifest(&format!("sha256:{digest}"), &index);
        fake.manifest("latest", &index);
        inner = described(INDEX, digest, index.to_string().len());
        assert_eq!(pull(&fake.source("")).is_ok(), depth < 3, "{depth}");
    }

    // One that names itself: its digest cannot be right.
    let own = Digest::of(b"itself");
    let index = index_of(&[described(INDEX, own, 100)]);
    fake.manifest("latest", &index);
    fake.manifest(&format!("sha256:{own}"), &index);
    assert!(pull(&fake.source("")).is_err());

    let mut both = manifest.clone();
    both["manifests"] = json!([one]);
    let mut first = manifest.clone();
    first["schemaVersion"] = 1.into();
    for document in [both, first, json!({ "schemaVersion": 2 }), json!([]), json!({"schemaVersion": 2, "layers": "x"})]
    {
        fake.manifest("latest", &document);
        assert!(matches!(pull(&fake.source("")), Err(SourceError::Document { .. })), "{document}");
    }
    fake.answer("/v2/x/manifests/latest", &[http("200 OK", "", &vec![b' '; (4 << 20) + 1])]);
    assert!(matches!(pull(&fake.source("")), Err(SourceError::Answer { .. })));
    let told = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"}]}"#;
    fake.answer("/v2/x/manifests/latest", &[http("403 No", &format!("content-length: {}\r\n", told.len()), told)]);
    let denied = pull(&fake.source("")).unwrap_err().to_string();
    assert_eq!(
        denied,
        format!("`http://{}/v2/x/manifests/latest` answers with status 403: no\\u{{1b}}[31m way", fake.address)
    );
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let Served { fake, layer, blob, .. } = served();
    let url = format!("/v2/x/blobs/sha256:{}", layer.digest);
    let length = blob.len();
    let half = length / 2;
    let cut = http("200 OK", &format!("content-length: {length}\r\n"), &blob[..half]);
    let part = |start: usize, bytes: &[u8]| {
        let headers =
            format!("content-length: {}\r\ncontent-range: bytes {start}-{}/{length}\r\n", bytes.len(), length - 1);
        http("206 Partial", &headers, bytes)
    };
    // The rest; all again; a part that was not asked for, then all; a rest that is wrong.
    let mut wrong = blob[half..].to_vec();
    wrong[0] ^= 1;
    for (answers, good) in [
        (vec![cut.clone(), part(half, &blob[half..])], true),
        (vec![cut.clone(), ok(&blob)], true),
        (vec![cut.clone(), part(half + 1, &blob[half + 1..]), ok(&blob)], true),
        (vec![cut.clone(), http("416 No", "content-length: 0\r\n", b""), ok(&blob)], true),
        (vec![http("503 Later", "content-length: 0\r\n", b""), ok(&blob)], true),
        (vec![cut.clone(), part(half, &wrong)], false),
    ] {
        fake.answer(&url, &answers);
        fake.asked();
        let got = pull(&fake.source(""));
        assert_eq!(got.is_ok(), good, "{got:?}");
        let asked = fake.asked();
        let ranges: Vec<_> =
            asked.iter().filter(|head| head.contains(&url)).map(|head| head.contains("range: bytes=")).collect();
        let cut_first = answers[0] == cut;
        assert_eq!(ranges[..2], [false, cut_first]);
    }

    // What one run left the next goes on from.
    let (_folder, to) = store();
    std::fs::write(to.partial().join(layer.digest.to_string()), &blob[..half]).unwrap();
    fake.answer(&url, &[part(half, &blob[half..])]);
    import(&to, &fake.source(""), "x", &mut quiet()).unwrap();

    // The user stops it.
    fake.answer(&url, &[ok(&blob)]);
    let source = fake.source("");
    let (_folder, to) = store();
    let interrupts = source.access.interrupts.clone();
    let stopped = import(&to, &source, "x", &mut |_| interrupts.raise());
    assert!(matches!(stopped, Err(SourceError::Interrupted)));
}

#[test]
fn passwords_go_where_they_belong() {
    let Served { fake, layer, blob, manifest, .. } = served();
    let other = Fake::new();
    let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "me:secret");
    let mut source = fake.source("");
    let auths = json!({ "auths": { fake.address.clone(): { "auth": secret } } }).to_string();
    source.access.credentials = Credentials::parse(&auths).unwrap();

    let text = manifest.to_string();
    let challenge = |realm: &str| {
        let header = format!("www-authenticate: Bearer realm=\"{realm}\",service=\"reg\"\r\ncontent-length: 0\r\n");
        http("401 Who", &header, b"")
    };
    let url = format!("/v2/x/blobs/sha256:{}", layer.digest);
    // The token is had for the password; the blob is elsewhere, where neither goes.
    fake.answer("/v2/x/manifests/latest", &[challenge(&format!("http://{}/token", fake.address)), ok(text.as_bytes())]);
    fake.answer("/token?scope=repository:x:pull&service=reg", &[ok(br#"{"token":"T0"}"#)]);
    let redirect = format!("location: http://{}/stored?signature=s\r\ncontent-length: 0\r\n", other.address);
    fake.answer(&url, &[http("307 There", &redirect, b"")]);
    other.answer("/stored?signature=s", &[ok(&blob)]);
    pull(&source).unwrap();
    let asked = fake.asked();
    assert!(!asked[0].contains("authorization"), "{asked:?}");
    assert!(
        asked[1].starts_with("GET /token") && asked[1].contains(&format!("authorization: Basic {secret}")),
        "{asked:?}"
    );
    assert!(asked[2..].iter().all(|head| head.contains("authorization: Bearer T0")), "{asked:?}");
    let asked = other.asked();
    assert!(asked.len() == 1 && !asked[0].contains("authorization"), "{asked:?}");

    // Basic, where the registry asks for that.
    fake.answer(
        "/v2/x/manifests/latest",
        &[http("401 Who", "www-authenticate: Basic realm=\"r\"\r\ncontent-length: 0\r\n", b""), ok(text.as_bytes())],
    );
    fake.answer(&url, &[ok(&blob)]);
    pull(&source).unwrap();
    assert!(fake.asked()[1].contains(&format!("authorization: Basic {secret}")));

    // No password over an open line to somebody else, and no endless asking.
    fake.answer("/v2/x/manifests/latest", &[challenge("http://tokens.example/t")]);
    assert!(matches!(pull(&source), Err(SourceError::Answer { .. })));
    fake.answer("/v2/x/manifests/latest", &[challenge(&format!("http://{}/token", fake.address))]);
    assert!(matches!(pull(&source), Err(SourceError::Status { status: 401, .. })));
    fake.answer("/token?scope=repository:x:pull&service=reg", &[ok(b"{\"token\":\"a\\r\\nb\"}")]);
    assert!(matches!(pull(&source), Err(SourceError::Answer { .. })));
}

/// A real registry, as Debian ships it.
struct Real {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Real {
    fn new() -> Option<Self> {
        if !has("docker-registry") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // The port is free now, and nobody else is told of it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\nlog: {{level: error}}\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let real = Self { child, address, _folder: folder };
        while std::net::TcpStream::connect(&real.address).is_err() {
            std::thread::yield_now();
        }
        Some(real)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_real_registry_takes_and_gives() {
    let Some(real) = Real::new() else {
        return;
    };
    let (_folder, from) = store();
    let image = an_image(&from);
    let place = format!("docker://{}/team/app:1", real.address);
    export(&from, &image, &at(&place), &mut quiet()).unwrap();
    export(&from, &image, &at(&place), &mut quiet()).unwrap();
    let (_folder, to) = store();
    assert_eq!(import(&to, &at(&place), "x", &mut quiet()).unwrap(), image);
    let by_digest = format!("docker://{}/team/app@sha256:{}", real.address, image.manifest_digest);
    assert_eq!(import(&to, &at(&by_digest), "x", &mut quiet()).unwrap(), image);
    let none = import(&to, &at(&format!("docker://{}/team/app:2", real.address)), "x", &mut quiet());
    assert!(matches!(none, Err(SourceError::Status { status: 404, .. })), "{none:?}");

    if !has("skopeo") {
        return;
    }
    let raw = run("skopeo", &["inspect", "--raw", "--no-creds", "--tls-verify=false", &place]);
    assert_eq!(raw, image.manifest_bytes);
    // What another program pushed, in docker's own form.
    let (folder, _) = store();
    let layout = format!("oci:{}:x", folder.path().display());
    let image = gzip_image(&from);
    export(&from, &image, &at(&layout), &mut quiet()).unwrap();
    let docker = format!("docker://{}/team/docker:1", real.address);
    run(
        "skopeo",
        &["copy", "--insecure-policy", "--dest-no-creds", "--dest-tls-verify=false", "--format=v2s2", &layout, &docker],
    );
    let (_folder, to) = store();
    let got = import(&to, &at(&docker), "x", &mut quiet()).unwrap();
    assert_eq!(got.config.rootfs().diff_ids(), image.config.rootfs().diff_ids());
    assert!(got.manifest.media_type().as_ref().is_some_and(|media_type| media_type.as_ref() == MANIFEST));
}

#[test]
fn other_programs_take_what_is_written() {
    let (_folder, from) = store();
    let image = an_image(&from);
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    if has("umoci") {
        export(&from, &gzip_image(&from), &at(&format!("oci:{}:1", path("layout"))), &mut quiet()).unwrap();
        run("umoci", &["raw", "unpack", "--rootless", "--image", &format!("{}:1", path("layout")), &path("unpacked")]);
        assert_eq!(std::fs::read(place.path().join("unpacked/a/b")).unwrap(), b"b");
    }
    if has("skopeo") {
        for form in ["oci-archive", "docker-archive"] {
            let to = format!("{form}:{}", path(form));
            export(&from, &image, &at(&format!("{to}:localhost/x:1")), &mut quiet()).unwrap();
            let back = format!("dir:{}", path(&format!("{form}-dir")));
            run("skopeo", &["copy", "--insecure-policy", &to, &back]);
            let config = run("skopeo", &["inspect", "--config", "--raw", &to]);
            assert_eq!(Digest::of(&config), image.id, "{form}");
        }
        // And what they write is taken.
        let image = gzip_image(&from);
        export(&from, &image, &at(&format!("oci-archive:{}:g", path("gzip"))), &mut quiet()).unwrap();
        let (_folder, to) = store();
        let written = format!("docker-archive:{}", path("theirs"));
        run(
            "skopeo",
            &[
                "copy",
                "--insecure-policy",
                &format!("oci-archive:{}", path("gzip")),
                &format!("{written}:localhost/y:1"),
            ],
        );
        assert_eq!(import(&to, &at(&written), "x", &mut quiet()).unwrap().config.rootfs(), image.config.rootfs());
    }
}

#[test]
fn an_upload_is_patient_and_the_manifest_comes_last() {
    let (_folder, from) = store();
    let blob = layer(&from, "f", b"content", Compression::Gzip);
    let image = from.tag("x", &configuration(), std::slice::from_ref(&blob)).unwrap();
    let fake = Fake::new();
    let empty = |status: &str, headers: &str| http(status, &format!("content-length: 0\r\n{headers}"), b"");
    let there = |digest: Digest| format!("/v2/x/blobs/uploads/?mount=sha256:{digest}");
    // The configuration is there already; the layer is wanted after a while, at a place named by its path alone.
    fake.answer(&format!("/v2/x/blobs/sha256:{}", image.id), &[empty("200 OK", "")]);
    let later = empty("503 Later", "");
    fake.answer(&there(blob.digest), &[later.clone(), empty("202 Go", "location: /up?state=1\r\n")]);
    fake.answer(&format!("/up?state=1&digest=sha256:{}", blob.digest), &[later, empty("201 Done", "")]);
    fake.answer("/v2/x/manifests/latest", &[empty("201 Done", "")]);
    export(&from, &image, &fake.source(""), &mut quiet()).unwrap();
    let asked: Vec<_> = fake.asked().iter().map(|head| head.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(asked, ["HEAD", "POST", "POST", "PUT", "POST", "PUT", "HEAD", "PUT"]);

    // A layer that is refused leaves nothing with a name.
    let denied = empty("403 No", "");
    for answers in [denied.clone(), empty("202 Go", ""), empty("202 Go", "location: ftp://x/\r\n")] {
        fake.answer(&there(blob.digest), &[answers]);
        assert!(export(&from, &image, &fake.source(""), &mut quiet()).is_err());
        assert!(fake.asked().iter().all(|head| !head.contains("/manifests/")));
    }
}
