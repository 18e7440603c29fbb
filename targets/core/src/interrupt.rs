//! How often the user asked a run to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts interrupts. Clones share the count, so that a signal handler raises what a run watches.
///
/// The first asks for an end at the next step boundary, the second kills what runs, the third stops waiting for it.
#[derive(Debug, Clone, Default)]
pub struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// Counts one more.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how many there were.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
