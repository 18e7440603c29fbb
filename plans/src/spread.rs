//! The same work on many items, by all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A thread takes its share in about so many turns: few enough to cost nothing, and enough for all to end together.
const TURNS: usize = 16;

/// Does the same with each of many items, by several threads where it `is_much`. What comes of it is in the items' order.
pub(crate) fn spread<I: Sync, T: Send>(items: &[I], is_much: bool, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let threads = if is_much { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let run = (items.len() / (threads * TURNS)).max(1);
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done: Vec<(usize, Vec<T>)> = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(run) = items.chunks(run).nth(at)
        {
            done.push((at, run.iter().map(&work).collect()));
        }
        done
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().flat_map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_it_is_in_order() {
        for count in [0, 1, TURNS + 1, 1000] {
            let items: Vec<_> = (0..count).collect();
            for is_much in [false, true] {
                let doubled: Vec<_> = (0..count).map(|item| item * 2).collect();
                assert_eq!(spread(&items, is_much, |item| item * 2), doubled);
            }
        }
    }
}
