//! Digests of a project's files, remembered between commands.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use charly_ir::{Digest, Stamp};
use charly_plans::load::Digests;

/// What the file begins with; a file that does not is as good as none.
const MAGIC: &[u8; 16] = b"charly digests1\n";

/// A stamp's five numbers and a digest.
const RECORD: usize = 5 * 8 + 32;

/// A stamp is only as fine as the kernel's clock: a file that was written to again within one tick of it has the same. What was
/// changed less than this before anything was read is read again the next time.
const YOUNG_NS: i64 = 100_000_000;

/// The same where a file system writes whole seconds down, or every other one.
const YOUNG_IN_SECONDS_NS: i64 = 2_100_000_000;

/// More are not kept, so that what is no more does not stay for ever.
const MOST: usize = 200_000;

/// A file of digests, read when the first is asked for and written when it is dropped.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    /// When nothing had been read yet, in nanoseconds since 1970.
    began_ns: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<HashMap<Stamp, Digest>>,
    learnt: HashMap<Stamp, Digest>,
}

impl Remembered {
    /// Remembers in a file, which need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, began_ns: now_ns(), state: Mutex::default() }
    }

    fn read(&self) -> HashMap<Stamp, Digest> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let records = bytes.strip_prefix(MAGIC).unwrap_or_default().chunks_exact(RECORD);
        records.filter_map(parse).collect()
    }

    fn write(&self, known: &HashMap<Stamp, Digest>, learnt: &HashMap<Stamp, Digest>) -> std::io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        let old = known.iter().filter(|(stamp, _)| !learnt.contains_key(stamp));
        for (stamp, digest) in learnt.iter().chain(old).take(MOST) {
            let Stamp { device, inode, size, modified_ns, changed_ns } = stamp;
            for number in [*device, *inode, *size, modified_ns.cast_unsigned(), changed_ns.cast_unsigned()] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(digest.bytes());
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// Tells whether a file that was changed at a moment would get another stamp by whatever is done to it since something began.
pub(crate) fn is_settled(changed_ns: i64, began_ns: i64) -> bool {
    let young = if changed_ns % 1_000_000_000 == 0 { YOUNG_IN_SECONDS_NS } else { YOUNG_NS };
    began_ns.saturating_sub(changed_ns) > young
}

/// Returns the moment, in nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    i64::try_from(now).unwrap_or(i64::MAX)
}

impl Digests for Remembered {
    fn known(&self, stamp: &Stamp) -> Option<Digest> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.get_or_insert_with(|| self.read()).get(stamp).copied()
    }

    fn learn(&self, stamp: &Stamp, digest: Digest) {
        if is_settled(stamp.changed_ns.max(stamp.modified_ns), self.began_ns) {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).learnt.insert(*stamp, digest);
        }
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let State { known, learnt } = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (known, learnt) = (known.take().unwrap_or_default(), std::mem::take(learnt));
        if !learnt.is_empty() {
            // Without it, the next command digests once more.
            self.write(&known, &learnt).ok();
        }
    }
}

fn parse(record: &[u8]) -> Option<(Stamp, Digest)> {
    let number = |at: usize| Some(u64::from_le_bytes(record.get(at * 8..at * 8 + 8)?.try_into().ok()?));
    let stamp = Stamp {
        device: number(0)?,
        inode: number(1)?,
        size: number(2)?,
        modified_ns: number(3)?.cast_signed(),
        changed_ns: number(4)?.cast_signed(),
    };
    Some((stamp, Digest::from_bytes(record.get(40..72)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, changed_ns: i64) -> Stamp {
        Stamp { device: 1, inode, size: 3, modified_ns: -5, changed_ns }
    }

    #[test]
    fn what_was_learnt_is_known_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/digests");
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let remembered = Remembered::new(path.clone());
        assert_eq!(remembered.known(&stamp(1, 7)), None);
        remembered.learn(&stamp(1, 7), one);
        drop(remembered);
        let remembered = Remembered::new(path.clone());
        assert_eq!(remembered.known(&stamp(1, 7)), Some(one));
        assert_eq!(remembered.known(&stamp(1, 8)), None);
        remembered.learn(&stamp(2, 7), two);
        drop(remembered);
        let remembered = Remembered::new(path.clone());
        assert_eq!((remembered.known(&stamp(1, 7)), remembered.known(&stamp(2, 7))), (Some(one), Some(two)));
        fs::write(&path, "junk").unwrap();
        assert_eq!(Remembered::new(path).known(&stamp(1, 7)), None);
    }

    #[test]
    fn what_may_still_change_within_a_tick_is_not_learnt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digests");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let remembered = Remembered::new(path.clone());
        remembered.learn(&stamp(1, i64::try_from(now).unwrap()), Digest::of(b"x"));
        drop(remembered);
        assert!(!path.exists());
        let second = 1_000_000_000;
        for (changed, age, want) in [
            (5 * second + 1, second / 10, false),
            (5 * second + 1, second / 5, true),
            (5 * second, second, false),
            (5 * second, 3 * second, true),
        ] {
            assert_eq!(is_settled(changed, changed + age), want, "{changed} {age}");
        }
    }
}
