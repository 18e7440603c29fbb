//! Runs that outlast their request: what is known of each, within a bound of bytes and time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// What an entry takes besides the answer itself, rounded up.
const OVERHEAD: usize = 1024;

/// Holds the tasks, running and ended.
///
/// A running task counts with the most its answer may take. So a new one is turned away while there is no room, and a
/// result that was promised is never dropped before its time.
#[derive(Debug)]
pub(crate) struct Tasks {
    entries: Mutex<Entries>,
    most_bytes: usize,
    age: Duration,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<Uuid, Entry>,
    /// The ended ones, oldest first.
    by_end: BTreeSet<(Instant, Uuid)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    owner: String,
    bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Running { cancel: Option<oneshot::Sender<()>>, ended: watch::Receiver<()> },
    Ended { answer: Arc<[u8]>, at: Instant },
}

/// Says what is known of a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Pending,
    Ended(Arc<[u8]>),
    Nothing,
}

/// Holds a running task's entry, which it leaves its answer in.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) id: Uuid,
    tasks: Arc<Tasks>,
    _ended: watch::Sender<()>,
}

impl Tasks {
    pub(crate) fn new(most_bytes: usize, age: Duration) -> Self {
        Self { entries: Mutex::default(), most_bytes, age }
    }

    /// Enters a task whose answer takes at most `reserve` bytes; dropping `cancel` ends the run.
    pub(crate) fn enter(self: &Arc<Self>, owner: &str, reserve: usize, cancel: oneshot::Sender<()>) -> Option<Ticket> {
        let bytes = reserve.saturating_add(OVERHEAD);
        let (sender, ended) = watch::channel(());
        let id = Uuid::new_v4();
        let mut entries = self.lock();
        if entries.bytes.saturating_add(bytes) > self.most_bytes {
            return None;
        }
        entries.bytes += bytes;
        let state = State::Running { cancel: Some(cancel), ended };
        entries.by_id.insert(id, Entry { owner: owner.into(), bytes, state });
        Some(Ticket { id, tasks: self.clone(), _ended: sender })
    }

    /// Looks a task up for a caller; another caller's is as good as none.
    pub(crate) fn look_up(&self, id: Uuid, owner: &str) -> Known {
        match self.lock().by_id.get(&id) {
            Some(Entry { owner: own, state, .. }) if own == owner => match state {
                State::Running { .. } => Known::Pending,
                State::Ended { answer, .. } => Known::Ended(answer.clone()),
            },
            _ => Known::Nothing,
        }
    }

    /// Cancels a task if it runs, waits until it has ended, forgets it, and returns its answer.
    pub(crate) async fn end(&self, id: Uuid, owner: &str) -> Known {
        let ended = match self.lock().by_id.get_mut(&id) {
            Some(Entry { owner: own, state: State::Running { cancel, ended }, .. }) if own == owner => {
                drop(cancel.take());
                Some(ended.clone())
            }
            _ => None,
        };
        if let Some(mut ended) = ended {
            // The sender is dropped when the answer is there.
            while ended.changed().await.is_ok() {}
        }
        let known = self.look_up(id, owner);
        if matches!(known, Known::Ended(_)) {
            self.lock().remove(id);
        }
        known
    }

    /// Locks the entries and forgets the results whose time is over.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((at, id)) = entries.by_end.first().copied()
            && at.elapsed() >= self.age
        {
            entries.remove(id);
        }
        entries
    }

    /// Forgets expired results now; otherwise that happens whenever a task is asked for.
    pub(crate) fn sweep(&self) {
        drop(self.lock());
    }
}

impl Entries {
    fn remove(&mut self, id: Uuid) {
        if let Some(entry) = self.by_id.remove(&id) {
            self.bytes -= entry.bytes;
            if let State::Ended { at, .. } = entry.state {
                self.by_end.remove(&(at, id));
            }
        }
        if self.by_id.is_empty() {
            self.by_id.shrink_to_fit();
        }
    }
}

impl Ticket {
    /// Leaves the answer.
    pub(crate) fn finish(self, answer: Vec<u8>) {
        let mut entries = self.tasks.lock();
        let Entries { by_id, by_end, bytes } = &mut *entries;
        if let Some(entry) = by_id.get_mut(&self.id) {
            *bytes = *bytes - entry.bytes + answer.len() + OVERHEAD;
            entry.bytes = answer.len() + OVERHEAD;
            let at = Instant::now();
            entry.state = State::Ended { answer: answer.into(), at };
            by_end.insert((at, self.id));
        }
    }
}

impl Drop for Ticket {
    /// Forgets a task whose run went away without an answer; it would be pending for ever.
    fn drop(&mut self) {
        let mut entries = self.tasks.lock();
        if matches!(entries.by_id.get(&self.id), Some(Entry { state: State::Running { .. }, .. })) {
            entries.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(bytes: usize, age: Duration) -> Arc<Tasks> {
        Arc::new(Tasks::new(bytes, age))
    }

    fn enter(tasks: &Arc<Tasks>, reserve: usize) -> Option<(Ticket, oneshot::Receiver<()>)> {
        let (cancel, cancelled) = oneshot::channel();
        tasks.enter("agent", reserve, cancel).map(|ticket| (ticket, cancelled))
    }

    #[test]
    fn a_task_is_pending_then_ended_for_its_owner() {
        let tasks = tasks(1 << 20, Duration::from_secs(60));
        let (ticket, _cancelled) = enter(&tasks, 100).unwrap();
        let id = ticket.id;
        assert_eq!(tasks.look_up(id, "agent"), Known::Pending);
        assert_eq!(tasks.look_up(id, "other"), Known::Nothing);
        ticket.finish(b"answer".to_vec());
        assert_eq!(tasks.look_up(id, "agent"), Known::Ended(Arc::from(&b"answer"[..])));
        assert_eq!(tasks.look_up(id, "other"), Known::Nothing);
        assert_eq!(tasks.look_up(Uuid::new_v4(), "agent"), Known::Nothing);
    }

    #[test]
    fn results_expire() {
        let tasks = tasks(1 << 20, Duration::ZERO);
        let (ticket, _cancelled) = enter(&tasks, 100).unwrap();
        let id = ticket.id;
        assert_eq!(tasks.look_up(id, "agent"), Known::Pending, "a running task has no age");
        ticket.finish(b"answer".to_vec());
        assert_eq!(tasks.look_up(id, "agent"), Known::Nothing);
        assert_eq!(tasks.lock().bytes, 0);
    }

    #[test]
    fn room_is_reserved_and_given_back() {
        let tasks = tasks(2 * (1000 + OVERHEAD), Duration::from_secs(60));
        let (first, _keep) = enter(&tasks, 1000).unwrap();
        let (second, _keep) = enter(&tasks, 1000).unwrap();
        assert!(enter(&tasks, 1).is_none());
        first.finish(vec![0; 10]);
        assert!(enter(&tasks, 1000).is_none(), "the result takes some room");
        second.finish(vec![0; 10]);
        assert_eq!(tasks.lock().bytes, 2 * (10 + OVERHEAD));
        assert!(enter(&tasks, 900).is_some());
    }

    #[tokio::test]
    async fn ending_cancels_waits_and_forgets() {
        let tasks = tasks(1 << 20, Duration::from_secs(60));
        let (ticket, cancelled) = enter(&tasks, 100).unwrap();
        let id = ticket.id;
        assert_eq!(tasks.end(id, "other").await, Known::Nothing);
        tokio::spawn(async move {
            assert!(cancelled.await.is_err());
            ticket.finish(b"cut".to_vec());
        });
        assert_eq!(tasks.end(id, "agent").await, Known::Ended(Arc::from(&b"cut"[..])));
        assert_eq!(tasks.end(id, "agent").await, Known::Nothing);
        assert_eq!(tasks.lock().bytes, 0);
    }
}
