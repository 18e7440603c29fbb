//! What something depends on, as one digest: who asks for it again with the same one need not do it again.

use charly_ir::digest::Hasher;
use charly_ir::{Digest, Stamp};

/// All that something depends on, as far as it was told.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "it is half a digest")]
pub struct Fingerprint {
    hasher: Hasher,
    newest_ns: i64,
    is_incomplete: bool,
}

impl Fingerprint {
    /// Takes some bytes. What follows cannot be taken for their end.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    /// Takes a text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Takes a number.
    pub fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    /// Takes a file that is what it is as long as it has this stamp.
    pub fn stamp(&mut self, stamp: &Stamp) {
        let Stamp { device, inode, size, modified_ns, changed_ns } = stamp;
        let mut all = [0; 40];
        let numbers = [*device, *inode, *size, modified_ns.cast_unsigned(), changed_ns.cast_unsigned()];
        for (place, number) in all.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.hasher.update(&all);
        self.newest_ns = self.newest_ns.max(*modified_ns).max(*changed_ns);
    }

    /// Notes that something cannot be told.
    pub fn lacks(&mut self) {
        self.is_incomplete = true;
    }

    /// Returns the digest, and when the newest of all files was changed, in nanoseconds since 1970: as long as that is not over,
    /// a file may change and keep its stamp. Nothing where something could not be told.
    pub fn finish(self) -> Option<(Digest, i64)> {
        (!self.is_incomplete).then(|| (self.hasher.finish(), self.newest_ns))
    }
}
