//! A thousand candies of ten steps: read from memory, loaded from a folder, and compiled.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;

use charly_ir::boot::BootMark;
use charly_ir::facts::{Facts, Init, Os, PackageManager, User};
use charly_plans::compile::{Options, compile};
use charly_plans::load::{Settings, Workspace};
use charly_plans::resolve::LayerRef;
use charly_plans::schema;
use charly_plans::source::Source;
use criterion::{Criterion, criterion_group, criterion_main};

const CANDIES: usize = 1000;

fn candy(number: usize) -> String {
    let mut text = format!(
        "candy:\n  name: c{number}\n  version: 2026.165.0930\n  description: Candy {number}\n  package: [p{number}, q{number}]\n"
    );
    if number > 0 {
        writeln!(text, "  require: [c{}, c{}]", number - 1, number / 2).unwrap();
    }
    text += "  env: {DEMO: value}\n  plan:\n";
    for step in 0..4 {
        writeln!(text, "    - run: write file {step}\n      write: /opt/c{number}/file-{step}\n      mode: \"0644\"")
            .unwrap();
        writeln!(text, "      content: |\n        line one of {step}\n        line two").unwrap();
    }
    for step in 0..3 {
        writeln!(
            text,
            "    - {{run: \"folder {step}\", mkdir: \"${{HOME}}/c{number}/{step}\", run_as: \"${{USER}}\"}}"
        )
        .unwrap();
    }
    text += "    - run: a command\n      command: |\n        set -eu\n        echo done\n      run_as: root\n";
    for step in 0..2 {
        writeln!(
            text,
            "    - {{check: \"file {step}\", file: /opt/c{number}/file-{step}, exists: true, contains: [line]}}"
        )
        .unwrap();
    }
    text
}

fn thousand(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<_> = (0..CANDIES).map(candy).collect();
    for (number, text) in texts.iter().enumerate() {
        let home = folder.path().join(format!("candy/c{number}"));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("charly.yml"), text).unwrap();
    }
    let sources: Vec<_> = texts.iter().map(|text| Source::new("charly.yml", text.as_str())).collect();
    let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
    let facts = Facts {
        os: Os::parse("ID=debian\nVERSION_ID=13\n"),
        arch: "x86_64".into(),
        hostname: "venue".into(),
        boot: BootMark::default(),
        init: Init::Systemd,
        package_manager: Some(PackageManager::Apt),
        user: User { name: "ann".into(), uid: 1000, gid: 1000, home: "/home/ann".into(), shell: "/bin/bash".into() },
    };
    let options = Options::default();
    let layers = [LayerRef::parse(&format!("c{}", CANDIES - 1)).unwrap()];

    c.bench_function("floor: read 1000 files", |b| {
        b.iter(|| {
            for number in 0..CANDIES {
                black_box(fs::read(folder.path().join(format!("candy/c{number}/charly.yml"))).unwrap());
            }
        });
    });
    c.bench_function("parse 1000 candies", |b| {
        b.iter(|| sources.iter().for_each(|source| drop(black_box(schema::parse_candy(source)))));
    });
    c.bench_function("load 1000 candies", |b| b.iter_with_large_drop(|| Workspace::load(&settings)));
    let mut workspace = Workspace::load(&settings).0;
    c.bench_function("resolve 1000 candies", |b| b.iter(|| black_box(workspace.resolve(&layers).unwrap())));
    let resolved = workspace.resolve(&layers).unwrap();
    c.bench_function("compile 1000 candies", |b| {
        b.iter_with_large_drop(|| compile(&resolved, &facts, &options).unwrap());
    });
    // What it costs to put all of it away again is not counted, here and above.
    c.bench_function("load, resolve and compile 1000 candies", |b| {
        b.iter_with_large_drop(|| {
            let mut workspace = Workspace::load(&settings).0;
            let resolved = workspace.resolve(&layers).unwrap();
            assert_eq!(resolved.candies.len(), CANDIES);
            let compiled = compile(&resolved, &facts, &options).unwrap();
            (workspace, resolved, compiled)
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = thousand
}
criterion_main!(benches);
