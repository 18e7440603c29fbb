//! How many runs there may be: a bounded number at one time, and a bounded number that wait.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::name::SkillName;

/// Lets runs in. A run first takes a place, or is turned away at once; with a place it waits for its turn.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    capacity: u32,
    turns: Arc<Semaphore>,
    /// The turns of the skills that have fewer of their own.
    by_skill: BTreeMap<SkillName, Arc<Semaphore>>,
}

/// Holds a place among the runs that go on or wait.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Holds the right to run now.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their drop")]
pub(crate) struct Turn(Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Gate {
    pub(crate) fn new(runs: usize, queue: usize, by_skill: impl IntoIterator<Item = (SkillName, usize)>) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count));
        let capacity = u32::try_from(runs.saturating_add(queue)).unwrap_or(u32::MAX).min(u32::MAX >> 4);
        Self {
            places: semaphore(capacity as usize),
            capacity,
            turns: semaphore(runs),
            by_skill: by_skill.into_iter().map(|(skill, count)| (skill, semaphore(count))).collect(),
        }
    }

    /// Takes a place, if there is one.
    pub(crate) fn enter(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok().map(Place)
    }

    /// Waits for a turn; whoever came first goes first.
    pub(crate) async fn turn(&self, skill: &SkillName) -> Turn {
        // The skill's own turn first: who waits for it keeps nobody else waiting.
        let own = match self.by_skill.get(skill) {
            Some(turns) => Some(acquire(turns).await),
            None => None,
        };
        Turn(own, acquire(&self.turns).await)
    }

    /// Waits until every place is free.
    pub(crate) async fn empty(&self) {
        drop(self.places.acquire_many(self.capacity).await);
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.unwrap_or_else(|_| unreachable!("the gate never closes its semaphores"))
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn places_and_turns() {
        let (slow, fast) = (SkillName::parse("slow").unwrap(), SkillName::parse("fast").unwrap());
        let gate = Arc::new(Gate::new(2, 1, [(slow.clone(), 1)]));
        let places = [gate.enter().unwrap(), gate.enter().unwrap(), gate.enter().unwrap()];
        assert!(gate.enter().is_none());

        let first = gate.turn(&slow).await;
        let waiting = tokio::spawn({
            let (gate, slow) = (gate.clone(), slow.clone());
            async move { gate.turn(&slow).await }
        });
        yield_now().await;
        let other = gate.turn(&fast).await;
        assert!(!waiting.is_finished(), "the skill has one turn");
        drop(first);
        drop(waiting.await.unwrap());
        drop(other);

        drop(places);
        gate.empty().await;
        assert!(gate.enter().is_some());
    }
}
