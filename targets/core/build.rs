//! Builds the engine for the venue and hands it to the crate as bytes.
//!
//! `charly` carries `charly-guest` inside itself, so that `cargo build` and `cargo install` need no second command. The
//! nested build has its own target folder, shared by all profiles: a change of the controller never rebuilds the engine.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use charly_ir::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The workspace's root, seen from this crate.
const WORKSPACE: &str = "../..";

/// What the engine is built from.
const SOURCES: [&str; 6] = ["engine/src", "engine/Cargo.toml", "ir/src", "ir/Cargo.toml", "Cargo.toml", "Cargo.lock"];

/// Variables of the outer build that would bend the inner one.
const INHERITED: [&str; 13] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "LLVM_PROFILE_FILE",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];

fn main() {
    let workspace = Path::new(&var("CARGO_MANIFEST_DIR")).join(WORKSPACE);
    for source in SOURCES {
        println!("cargo::rerun-if-changed={WORKSPACE}/{source}");
    }
    let engine = build(&workspace, &var("TARGET"));
    let bytes = std::fs::read(&engine).unwrap_or_else(|error| panic!("cannot read {}: {error}", engine.display()));
    let packed = Path::new(&var("OUT_DIR")).join("charly-guest.gz");
    std::fs::write(&packed, gzip(&bytes)).unwrap_or_else(|error| panic!("cannot write {}: {error}", packed.display()));
    println!("cargo::rustc-env=CHARLY_ENGINE={}", packed.display());
    println!("cargo::rustc-env=CHARLY_ENGINE_SIZE={}", bytes.len());
    println!("cargo::rustc-env=CHARLY_ENGINE_DIGEST={}", Digest::of(&bytes));
}

/// Packs the engine for its way to a venue, which needs nothing but `gzip` to undo it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

/// Builds the engine as a static program and returns where it lies.
fn build(workspace: &Path, triple: &str) -> PathBuf {
    let folder = target_folder().join("guest");
    let mut cargo = Command::new(var("CARGO"));
    cargo.args(["build", "--release", "--locked", "--package", "charly-engine", "--bin", "charly-guest"]);
    cargo.arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    cargo.arg("--target").arg(triple).arg("--target-dir").arg(&folder);
    for name in INHERITED {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run {cargo:?}: {error}"));
    assert!(status.success(), "the engine `charly-guest` could not be built: {cargo:?} ended with {status}");
    folder.join(triple).join("release/charly-guest")
}

/// Returns the target folder that this build writes to: `OUT_DIR` is `<it>/<profile>/build/<package>/out`.
fn target_folder() -> PathBuf {
    let out = PathBuf::from(var("OUT_DIR"));
    out.ancestors().nth(4).map_or_else(|| out.clone(), Path::to_path_buf)
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
