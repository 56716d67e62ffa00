//! Texts that repeat each other, small.
//!
//! Objects of one kind repeat each other nearly word for word. Each is compressed against a [sample](Samples) of its kind, which is a
//! text that came before, so that what remains is what only it says: a few hundred bytes of a few thousand. The format is LZ4's block
//! format with a dictionary; nothing of it leaves the process.
//!
//! # Guarantees
//! What was packed comes back byte for byte: it is read back before it is handed out.

use std::collections::BTreeMap;
use std::sync::Arc;

use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use parking_lot::Mutex;

/// Samples of a kind: as many forms of it are told apart.
const SAMPLES: usize = 5;
/// After so many texts that are like none of the samples, the oldest of these makes room.
const MISSES: u32 = 64;
/// The longest sample. The format refers back 64 KiB at most.
const SAMPLE_LENGTH: usize = 32 << 10;

/// A text that does not come back, which is a defect of this program or of its memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a packed text of {length} bytes cannot be read back: {problem}")]
pub struct Damaged {
    length: u32,
    problem: String,
}

/// What others are compressed against.
type Sample = Arc<Box<[u8]>>;

/// A compressed text. There are many: it takes three words beside its bytes.
#[derive(Debug, Clone)]
pub struct Packed {
    /// How long the text is, in as many bytes as that takes, and then the compressed text.
    bytes: Box<[u8]>,
    sample: Sample,
}

impl Packed {
    /// The text.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn text(&self) -> Result<Vec<u8>, Damaged> {
        unpack(&self.bytes, &self.sample)
    }

    /// Bytes that it takes beside its sample, which many share.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

fn unpack(packed: &[u8], sample: &[u8]) -> Result<Vec<u8>, Damaged> {
    let (length, bytes) = length_of(packed);
    decompress_with_dict(bytes, length as usize, sample).map_err(|error| Damaged {
        length,
        problem: error.to_string(),
    })
}

/// Appends a length, seven bits a byte, the lowest first; all but the last byte have the eighth bit.
fn put_length(mut length: u32, into: &mut Vec<u8>) {
    while length >= 0x80 {
        into.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    into.push(length.to_le_bytes()[0]);
}

/// The length, and what follows it.
fn length_of(mut packed: &[u8]) -> (u32, &[u8]) {
    let (mut length, mut shift) = (0_u32, 0);
    while let Some((byte, rest)) = packed.split_first() {
        length |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        shift += 7;
        packed = rest;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (length, packed)
}

/// What texts are compressed against, by kind.
#[derive(Debug)]
pub struct Samples<K> {
    by_kind: Mutex<BTreeMap<K, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Oldest first.
    samples: Vec<Sample>,
    /// Texts that were like none of them since the last one came.
    misses: u32,
}

impl<K> Default for Samples<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Samples<K> {
    /// None yet: the first text of a kind is its first sample.
    pub const fn new() -> Self {
        Self {
            by_kind: Mutex::new(BTreeMap::new()),
        }
    }
}

impl<K: Ord + Clone> Samples<K> {
    /// Packs a text; `None` if it is too long (4 GiB) or would not come back.
    pub fn pack(&self, kind: &K, text: &[u8]) -> Option<Packed> {
        let length = u32::try_from(text.len()).ok()?;
        let mut best: Option<(Vec<u8>, Sample)> = None;
        let samples = self.by_kind.lock().get(kind).map(|known| known.samples.clone());
        for sample in samples.iter().flatten() {
            let bytes = compress_with_dict(text, sample);
            if best.as_ref().is_none_or(|(known, _)| bytes.len() < known.len()) {
                best = Some((bytes, Arc::clone(sample)));
            }
            if best
                .as_ref()
                .is_some_and(|(known, _)| fits(known.len(), text.len()))
            {
                break;
            }
        }
        if !best
            .as_ref()
            .is_some_and(|(known, _)| fits(known.len(), text.len()))
            && let Some(sample) = self.sample(kind, text)
        {
            best = Some((compress_with_dict(text, &sample), sample));
        }
        let (compressed, sample) = best?;
        let mut bytes = Vec::with_capacity(compressed.len() + 5);
        put_length(length, &mut bytes);
        bytes.extend(compressed);
        // Cheap beside what a wrong object would cost.
        let returns = unpack(&bytes, &sample).ok()? == text;
        returns.then(|| Packed {
            bytes: bytes.into_boxed_slice(),
            sample,
        })
    }
}

impl<K: Ord + Clone> Samples<K> {
    /// Makes a text that is like none of the samples one of them, if there is room or it is time for another.
    fn sample(&self, kind: &K, text: &[u8]) -> Option<Sample> {
        let mut by_kind = self.by_kind.lock();
        let known = by_kind.entry(kind.clone()).or_default();
        known.misses += 1;
        if known.samples.len() >= SAMPLES {
            if known.misses < MISSES {
                return None;
            }
            // What was packed against it keeps it.
            known.samples.remove(0);
        }
        known.misses = 0;
        let sample: Sample = Arc::new(Box::from(text.get(..SAMPLE_LENGTH).unwrap_or(text)));
        known.samples.push(Arc::clone(&sample));
        Some(sample)
    }
}

/// Whether it is not worth looking for a better sample.
fn fits(packed: usize, text: usize) -> bool {
    packed * 8 <= text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(texts in prop::collection::vec((0..3_u8, prop::collection::vec(any::<u8>(), 0..2000), 0..40_usize), 1..20)) {
            let samples = Samples::new();
            for (kind, text, repeat) in texts {
                let text = text.repeat(repeat);
                prop_assert_eq!(samples.pack(&kind, &text).unwrap().text().unwrap(), text);
            }
            prop_assert!(samples.by_kind.lock().values().all(|known| known.samples.len() <= SAMPLES));
        }
    }

    #[test]
    fn what_was_said_before_takes_no_room() {
        let samples = Samples::new();
        let text = |name: &str| {
            format!(
                "{name}{}",
                "{\"the same in all of them\":\"and long enough to matter\"}".repeat(20)
            )
        };
        let first = samples.pack(&(), text("a").as_bytes()).unwrap();
        let second = samples.pack(&(), text("b").as_bytes()).unwrap();
        assert!(
            first.size() < 100 && second.size() < 100,
            "{} {}",
            first.size(),
            second.size()
        );
        assert!(Arc::ptr_eq(&first.sample, &second.sample));
    }

    #[test]
    fn samples_that_are_of_no_use_any_more_make_room() {
        let samples = Samples::new();
        // Words of a text that has nothing of another, by a fixed walk over numbers.
        let mut state = 1_u64;
        let mut text = move |words: usize| -> Vec<u8> {
            let word = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()
            };
            (0..words).flat_map(word).collect()
        };
        for _ in 0..SAMPLES {
            samples.pack(&(), &text(100)).unwrap();
        }
        let new = text(100);
        let sizes: Vec<usize> = (0..MISSES)
            .map(|_| samples.pack(&(), &new).unwrap().size())
            .collect();
        assert!(
            sizes[..sizes.len() - 1].iter().all(|size| *size > 800),
            "{sizes:?}"
        );
        assert!(sizes[sizes.len() - 1] < 100, "{sizes:?}");
        assert!(samples.pack(&(), &new).unwrap().size() < 100);
    }

    proptest! {
        #[test]
        fn a_length_comes_back(length in any::<u32>(), rest in prop::collection::vec(any::<u8>(), 0..5)) {
            let mut bytes = Vec::new();
            put_length(length, &mut bytes);
            prop_assert!(bytes.len() <= 5);
            bytes.extend(&rest);
            prop_assert_eq!(length_of(&bytes), (length, rest.as_slice()));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let samples = Samples::new();
        let mut packed = samples
            .pack(&(), "some text, some text, some text".as_bytes())
            .unwrap();
        packed.bytes = Box::from([31, 0xff, 0xff]);
        let error = packed.text().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a packed text of 31 bytes cannot be read back"),
            "{error}"
        );
    }
}
