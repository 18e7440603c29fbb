//! Images on disk, and podman's own where there is a podman.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use charly_target_core::Supply as _;

use super::*;
use crate::tests::has;

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[Vec<u8>]) -> String {
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", Digest::of(layer))).collect();
    serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } })
        .to_string()
}

/// Writes a layout of one image, its first layer as it is, the second by gzip, the third by zstd.
fn layout(folder: &Path, layers: &[Vec<u8>]) -> PathBuf {
    let path = folder.join("layout");
    fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(path.join(format!("blobs/sha256/{digest}")), bytes).unwrap();
        serde_json::json!({ "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let kept: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(number, layer)| match number % 3 {
            0 => put(layer),
            1 => put(&gzip(layer)),
            _ => put(&zstd::encode_all(&layer[..], 1).unwrap()),
        })
        .collect();
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": put(config(layers).as_bytes()), "layers": kept });
    let mut manifest = put(manifest.to_string().as_bytes());
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "web:1" });
    fs::write(path.join("index.json"), serde_json::json!({ "manifests": [manifest] }).to_string()).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    path
}

fn docker_archive(folder: &Path, layers: &[Vec<u8>]) -> PathBuf {
    let path = folder.join("docker.tar");
    let mut builder = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    for (name, layer) in names.iter().zip(layers) {
        add(name, layer);
    }
    add("config.json", config(layers).as_bytes());
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["web:1", "other:2"], "Layers": names }]);
    add("manifest.json", manifest.to_string().as_bytes());
    builder.finish().unwrap();
    path
}

fn served(text: &str) -> Result<Served, ServeError> {
    Served::open(&Reference::parse(text, Path::new("/")).unwrap())
}

/// Takes all of an image as an engine does.
fn take(image: Served) -> (String, Vec<Vec<u8>>) {
    let ids = image.diff_ids().unwrap();
    let mut supply = ImageSupply::new(image);
    let (image, sizes) = supply.image().unwrap();
    let layer = |id: &Digest| {
        let mut bytes = Vec::new();
        let mut blob = supply.blob(*id).unwrap();
        assert_eq!(sizes[id], blob.size());
        blob.read_to_end(&mut bytes).unwrap();
        bytes
    };
    (image.manifest, ids.iter().map(layer).collect())
}

fn three() -> Vec<Vec<u8>> {
    vec![layer(&[("a", "1"), ("b", "2")]), layer(&[("c", &"3".repeat(100_000))]), layer(&[("d", "")])]
}

#[test]
fn whatever_an_image_is_kept_in_its_layers_come_uncompressed() {
    let folder = tempfile::tempdir().unwrap();
    let layers = three();
    let oci = layout(folder.path(), &layers);
    let archive = folder.path().join("oci.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", &oci).unwrap();
    builder.finish().unwrap();
    let docker = docker_archive(folder.path(), &layers);
    for (text, kind) in [
        (oci.display().to_string(), "oci"),
        (format!("oci:{}:web:1", oci.display()), "oci"),
        (archive.display().to_string(), "oci"),
        (docker.display().to_string(), "docker"),
        (format!("docker-archive:{}:other:2", docker.display()), "docker"),
    ] {
        let image = served(&text).unwrap();
        assert_eq!(image.id(), Digest::of(config(&layers).as_bytes()), "{text}");
        assert_eq!(image.names[0], if text.ends_with("other:2") { "other:2" } else { "web:1" }, "{text}");
        let (manifest, found) = take(image);
        assert!(manifest.contains(kind), "{manifest}");
        assert!(found == layers, "{text}");
    }
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let layers = three();
    let oci = layout(folder.path(), &layers);
    let docker = docker_archive(folder.path(), &layers);
    let error = served(&format!("oci:{}:none", oci.display())).unwrap_err();
    assert!(matches!(&error, ServeError::Unknown { near, .. } if near == &["web:1"]), "{error}");
    let error = served(&format!("docker-archive:{}:none", docker.display())).unwrap_err();
    assert!(error.hint().unwrap().contains("`web:1`"), "{error}");
    let index = fs::read_to_string(oci.join("index.json")).unwrap();
    for harmed in ["{", "[]", &index.replace("sha256:", "sha256:../"), &index.replace("sha256:", "sha512:")] {
        fs::write(oci.join("index.json"), harmed).unwrap();
        assert!(served(&format!("oci:{}", oci.display())).is_err(), "{harmed}");
    }
}

#[test]
fn a_layer_that_is_not_what_it_should_be_is_never_sent_whole() {
    let folder = tempfile::tempdir().unwrap();
    let layers = three();
    let harms: BTreeMap<&str, fn(&mut Vec<u8>)> = BTreeMap::from([
        ("changed", (|bytes| bytes[600] ^= 1) as fn(&mut Vec<u8>)),
        ("shorter", |bytes| bytes.truncate(700)),
        ("longer", |bytes| bytes.push(0)),
    ]);
    for (what, harm) in harms {
        let oci = layout(folder.path(), &layers);
        let image = served(&oci.display().to_string()).unwrap();
        let id = image.diff_ids().unwrap()[0];
        let mut supply = ImageSupply::new(image);
        supply.image().unwrap();
        let file = oci.join(format!("blobs/sha256/{id}"));
        let mut bytes = fs::read(&file).unwrap();
        harm(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let result = supply.blob(id).unwrap().read_to_end(&mut Vec::new());
        assert!(result.is_err(), "{what}");
    }
}

/// Runs podman on a storage of its own.
#[test]
fn podmans_storage_gives_every_layer_byte_for_byte() {
    if !has("podman") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layers = three();
    let archive = docker_archive(folder.path(), &layers);
    let (root, run) = (folder.path().join("root"), folder.path().join("run"));
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--storage-driver", "overlay"]).arg("--root").arg(&root).arg("--runroot").arg(&run);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    podman(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
    let id = Digest::of(config(&layers).as_bytes());
    podman(&["tag", &id.to_string(), "localhost/web:1"]);
    let inspected = podman(&["image", "inspect", "localhost/web:1"]);
    let mut image = crate::podman::opened(&inspected, "web:1").unwrap();
    for layer in 0..layers.len() {
        image.layers.open(layer).unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
    // Nothing was asked of podman for that, which would write all of it to the disk first.
    let read = format!("{:?}", image.layers);
    assert!(read.contains("saved: None"), "{read}");
    assert_eq!((image.id(), image.names[0].as_str()), (id, "localhost/web:1"));
    assert!(take(image).1 == layers);
    // Its mounts are its own to take away.
    podman(&["system", "reset", "--force"]);
}
