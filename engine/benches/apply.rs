//! Forty and four thousand steps added, added again, and taken away, in this process and on a root in memory: the engine's own
//! work, without the wire, the disk's flushes and the start of a program. `benches/local.py` has the whole command.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "../tests/it/kit.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod kit;

use charly_ir::plan::{InstallPlan, Step};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kit::{Venueish, dir, plan, text};

/// A quarter of the steps makes folders, the rest places files of 2.7 kB.
fn workload(steps: usize) -> InstallPlan {
    let folders = steps / 4;
    let folder = |number: usize| dir(&format!("{{{{.Home}}}}/work/d{number}"), 0o755);
    let file = |number: usize| {
        let content = format!("{number:08} {}\n", "x".repeat(61)).repeat(38);
        text(&format!("{{{{.Home}}}}/work/d{}/f{number}", number % folders), &content)
    };
    let all: Vec<Step> = (0..folders).map(folder).chain((folders..steps).map(file)).collect();
    plan(&[("work", all)])
}

fn apply(c: &mut Criterion) {
    for steps in [40, 4000] {
        let plan = workload(steps);
        let added = || {
            let venue = Venueish::new();
            venue.apply(&plan).ok();
            venue
        };
        let mut group = c.benchmark_group(format!("{steps} steps"));
        group.sample_size(if steps > 1000 { 10 } else { 50 });
        group.bench_function("add", |b| {
            b.iter_batched_ref(Venueish::new, |venue| venue.apply(&plan).ok(), BatchSize::PerIteration);
        });
        let there = added();
        group.bench_function("again", |b| b.iter(|| assert_eq!(there.apply(&plan).ok().changed(), 0)));
        group.bench_function("del", |b| {
            b.iter_batched_ref(added, |venue| venue.remove(&[]).ok(), BatchSize::PerIteration);
        });
        group.finish();
    }
}

criterion_group!(benches, apply);
criterion_main!(benches);
