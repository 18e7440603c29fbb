//! Work on many files, by all processors.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does the same with each of many items, by several threads where it `is_much`. What comes of it is in the items' order.
pub(super) fn spread<I: Sync, T: Send>(
    items: &[I],
    is_much: bool,
    work: impl Fn(&I) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let threads = if is_much { thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || -> io::Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(at)
        {
            done.push((at, work(item)?));
        }
        Ok(done)
    };
    let mut all = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let mut all = take()?;
        for other in others {
            all.extend(other.join().unwrap_or_else(|_| Err(io::Error::other("a thread ended")))?);
        }
        Ok::<_, io::Error>(all)
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_it_is_in_order_and_the_first_that_fails_is_told() {
        let items: Vec<_> = (0..1000).collect();
        for is_much in [false, true] {
            assert_eq!(
                spread(&items, is_much, |item| Ok(item * 2)).unwrap(),
                (0..1000).map(|item| item * 2).collect::<Vec<_>>()
            );
            let fail = |item: &i32| if *item == 700 { Err(io::Error::other("no")) } else { Ok(()) };
            assert_eq!(spread(&items, is_much, fail).unwrap_err().to_string(), "no");
        }
    }
}
