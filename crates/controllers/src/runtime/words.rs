//! A few short texts in one piece.

use std::num::NonZeroU16;

/// Texts that are asked for without reading the object, one after the other.
#[derive(Debug)]
pub(super) struct Words {
    text: Box<str>,
    /// Where each of them ends, if there is such a text.
    ends: [Option<NonZeroU16>; WORDS],
}

/// The resource version, the UID, and the label that says which release the object belongs to.
pub(super) const WORDS: usize = 3;
pub(super) const VERSION: usize = 0;
pub(super) const UID: usize = 1;
pub(super) const MARK: usize = 2;

impl Words {
    pub(super) fn new(words: [Option<&str>; WORDS]) -> Self {
        let mut text = String::with_capacity(words.iter().flatten().map(|word| word.len()).sum());
        let ends = words.map(|word| {
            text.push_str(word?);
            // One more than the end, so that an empty text is one, too. None of them is as long as an object may be.
            u16::try_from(text.len() + 1).ok().and_then(NonZeroU16::new)
        });
        Self {
            text: text.into_boxed_str(),
            ends,
        }
    }

    pub(super) fn get(&self, word: usize) -> Option<&str> {
        let end = |word: usize| Some(usize::from((*self.ends.get(word)?)?.get()) - 1);
        let begin = (0..word).rev().find_map(end).unwrap_or(0);
        self.text.get(begin..end(word)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for words in [
            [Some("12"), Some("uid"), Some("release")],
            [None, Some("uid"), None],
            [Some(""), None, Some("")],
            [Some("12"), None, Some("release")],
            [None, None, None],
        ] {
            let kept = Words::new(words);
            assert_eq!([VERSION, UID, MARK].map(|word| kept.get(word)), words);
        }
    }
}
