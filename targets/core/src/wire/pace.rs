//! Whether packing what is sent is worth its time.

use std::time::Duration;

use charly_ir::frame::Packing;

/// Packing a core's worth of bytes takes about as long as sending them over a link of this many bytes a second.
const WORTH: f64 = 60e6;

/// How many chunks are sent as they are after one that packing did not make shorter.
const REST: u32 = 32;

/// Decides chunk by chunk, from how fast the link took what came before.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rate: Option<f64>,
    resting: u32,
    always: bool,
}

impl Pace {
    /// Packs however fast the link is: what is saved matters more than the time.
    pub(super) fn always_worth_it() -> Self {
        Self { always: true, ..Self::default() }
    }

    /// Learns that the link took some bytes in some time.
    pub(super) fn took(&mut self, bytes: usize, time: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a rate is never exact")]
        let rate = bytes as f64 / time.as_secs_f64().max(1e-6);
        // What a window still had room for says little of the link: older readings keep their weight.
        self.rate = Some(self.rate.map_or(rate, |before| before * 0.75 + rate * 0.25));
    }

    /// Says how the next chunk goes.
    pub(super) fn packing(&mut self) -> Packing {
        if self.resting > 0 {
            self.resting -= 1;
            return Packing::None;
        }
        if self.always || self.rate.is_none_or(|rate| rate < WORTH) { Packing::Deflate } else { Packing::None }
    }

    /// Learns what packing made of a chunk.
    pub(super) fn packed(&mut self, before: usize, after: usize) {
        if after * 10 > before * 9 {
            self.resting = REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_links_are_worth_packing_for() {
        let mut pace = Pace::default();
        assert_eq!(pace.packing(), Packing::Deflate);
        pace.took(1 << 20, Duration::from_millis(1));
        assert_eq!(pace.packing(), Packing::None);
        for _ in 0..20 {
            pace.took(1 << 20, Duration::from_millis(500));
        }
        assert_eq!(pace.packing(), Packing::Deflate);
    }

    #[test]
    fn what_cannot_be_packed_is_not_tried_each_time() {
        let mut pace = Pace::default();
        pace.packed(65_536, 65_500);
        for _ in 0..REST {
            assert_eq!(pace.packing(), Packing::None);
        }
        assert_eq!(pace.packing(), Packing::Deflate);
    }
}
