//! Parts of lists as they were encoded, for those who list the same soon after.
//!
//! Informers of many clients list the same collections, most of which has not changed in between. A list is cut into blocks of some
//! hundred objects, and a block whose objects are those of before, by revision, is sent as it was. Where it is cut depends on the
//! objects and not on how many come before them, so that one that comes or goes changes the block that it is in and no other.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Objects of a block: at least, about, and at most.
const LEAST: usize = 64;
const ABOUT: u64 = 256;
const MOST: usize = 1024;

/// Bytes that are kept at most, in each logical cluster.
const BUDGET: usize = 32 << 20;

/// For how long a block is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(10);

/// Where to cut a list of objects with these revisions. The ranges are all of it, in order.
pub(crate) fn cut(revisions: &[u64]) -> Vec<Range<usize>> {
    let mut cuts = Vec::with_capacity(revisions.len() / LEAST + 1);
    let mut start = 0;
    for (at, revision) in revisions.iter().enumerate() {
        let length = at + 1 - start;
        // Revisions of neighbours are neighbours, too; multiplied, they are as good as drawn.
        let drawn = (revision.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % ABOUT == 0;
        if length >= MOST || (length >= LEAST && drawn) {
            cuts.push(start..at + 1);
            start = at + 1;
        }
    }
    if start < revisions.len() {
        cuts.push(start..revisions.len());
    }
    cuts
}

/// Which objects a block has, and as what they were encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of<'a> {
    /// `apiVersion` and kind.
    pub(crate) kind: (&'a str, &'a str),
    /// Of the objects, in order. A revision is one version of one object.
    pub(crate) revisions: &'a [u64],
}

#[derive(Debug)]
struct Block {
    kind: (String, String),
    revisions: Box<[u64]>,
    bytes: Bytes,
    used: Instant,
}

impl Block {
    fn is(&self, of: Of<'_>) -> bool {
        (self.kind.0.as_str(), self.kind.1.as_str()) == of.kind && *self.revisions == *of.revisions
    }

    fn size(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.revisions) + size_of::<Block>()
    }
}

/// The blocks of the latest lists.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    hasher: RandomState,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: HashMap<u64, Block>,
    bytes: usize,
    /// Whether somebody drops what nobody asks for.
    is_swept: bool,
}

impl Kept {
    fn remove(&mut self, hash: u64) {
        if let Some(block) = self.blocks.remove(&hash) {
            self.bytes -= block.size();
        }
    }

    fn sweep(&mut self, now: Instant) {
        let old: Vec<u64> = self
            .blocks
            .iter()
            .filter(|(_, block)| now.duration_since(block.used) >= KEPT)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in old {
            self.remove(hash);
        }
        if self.blocks.is_empty() {
            self.blocks = HashMap::new();
        }
    }
}

impl Blocks {
    fn hash(&self, of: Of<'_>) -> u64 {
        self.hasher.hash_one((of.kind, of.revisions))
    }

    /// The block as it was encoded, if somebody asked for it lately.
    pub(crate) fn get(&self, of: Of<'_>) -> Option<Bytes> {
        let mut kept = self.kept.lock();
        let block = kept.blocks.get_mut(&self.hash(of)).filter(|block| block.is(of))?;
        block.used = Instant::now();
        Some(block.bytes.clone())
    }

    /// Keeps a block for a while. What nobody has asked for longest goes if there is no room.
    pub(crate) fn keep(self: &Arc<Self>, of: Of<'_>, bytes: Bytes) {
        let block = Block {
            kind: (of.kind.0.to_owned(), of.kind.1.to_owned()),
            revisions: of.revisions.into(),
            bytes,
            used: Instant::now(),
        };
        if block.size() > BUDGET {
            return;
        }
        let hash = self.hash(of);
        let mut kept = self.kept.lock();
        kept.remove(hash);
        while kept.bytes + block.size() > BUDGET {
            let Some(oldest) = kept.blocks.iter().min_by_key(|(_, block)| block.used) else {
                break;
            };
            let oldest = *oldest.0;
            kept.remove(oldest);
        }
        kept.bytes += block.size();
        kept.blocks.insert(hash, block);
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Drops what nobody asks for, until nothing is left.
async fn sweep(blocks: Weak<Blocks>) {
    loop {
        tokio::time::sleep(KEPT / 2).await;
        let Some(blocks) = blocks.upgrade() else { return };
        let mut kept = blocks.kept.lock();
        kept.sweep(Instant::now());
        if kept.blocks.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(revisions: &[u64]) -> Of<'_> {
        Of {
            kind: ("v1", "ConfigMap"),
            revisions,
        }
    }

    #[test]
    fn cuts_are_all_of_it_and_of_bounded_size() {
        let same = vec![7; 5000];
        let next: Vec<u64> = (1..=20_000).collect();
        for revisions in [&[][..], &[1], &same, &next] {
            let cuts = cut(revisions);
            let mut at = 0;
            for range in &cuts {
                assert_eq!(range.start, at);
                at = range.end;
                assert!(range.len() <= MOST && (range.len() >= LEAST || at == revisions.len()));
            }
            assert_eq!(at, revisions.len());
        }
        let count = cut(&next).len();
        assert!((30..200).contains(&count), "{count} blocks");
    }

    #[test]
    fn one_that_comes_or_goes_or_changes_leaves_other_blocks_as_they_were() {
        let before: Vec<u64> = (1..=20_000).collect();
        let blocks = |revisions: &[u64]| -> std::collections::HashSet<Vec<u64>> {
            cut(revisions)
                .into_iter()
                .map(|range| revisions[range].to_vec())
                .collect()
        };
        let known = blocks(&before);
        for change in [
            |all: &mut Vec<u64>| all.insert(5_000, 30_001),
            |all: &mut Vec<u64>| all[10_000] = 30_001,
            |all: &mut Vec<u64>| all.truncate(19_999),
        ] {
            let mut after = before.clone();
            change(&mut after);
            let new = blocks(&after).difference(&known).count();
            assert!((1..=3).contains(&new), "{new} blocks are new");
        }
    }

    #[tokio::test]
    async fn only_the_same_objects_in_the_same_form_are_found() {
        let blocks = Arc::new(Blocks::default());
        blocks.keep(of(&[1, 2, 3]), Bytes::from_static(b"one"));
        assert_eq!(blocks.get(of(&[1, 2, 3])).unwrap(), "one");
        for other in [&[1, 2][..], &[1, 2, 4], &[3, 2, 1], &[]] {
            assert_eq!(blocks.get(of(other)), None);
        }
        let kind = ("autoscaling/v2", "ConfigMap");
        let revisions = &[1, 2, 3][..];
        assert_eq!(blocks.get(Of { kind, revisions }), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let blocks = Arc::new(Blocks::default());
        let large = Bytes::from(vec![0; BUDGET / 4 - 1024]);
        for revision in 0..4 {
            blocks.keep(of(&[revision]), large.clone());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(blocks.get(of(&[0])).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        blocks.keep(of(&[4]), large.clone());
        let there: Vec<bool> = (0..5)
            .map(|revision| blocks.get(of(&[revision])).is_some())
            .collect();
        assert_eq!(
            there,
            [true, false, true, true, true],
            "the one that nobody asked for longest goes"
        );
        blocks.keep(of(&[5]), Bytes::from(vec![0; BUDGET]));
        assert_eq!(blocks.get(of(&[5])), None);
        assert!(blocks.kept.lock().bytes <= BUDGET);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_goes() {
        let blocks = Arc::new(Blocks::default());
        for _ in 0..2 {
            blocks.keep(of(&[1]), Bytes::from_static(b"one"));
            blocks.keep(of(&[2]), Bytes::from_static(b"two"));
            for _ in 0..4 {
                tokio::time::sleep(KEPT / 2).await;
                assert!(blocks.get(of(&[1])).is_some());
            }
            assert_eq!(blocks.get(of(&[2])), None);
            tokio::time::sleep(2 * KEPT).await;
            let kept = blocks.kept.lock();
            assert_eq!((kept.blocks.len(), kept.bytes, kept.is_swept), (0, 0, false));
        }
    }
}
