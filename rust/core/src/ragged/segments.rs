//! Segments as slices of one array of tokens.

use super::segment_count;
use crate::error::{Error, Result};

/// Ragged tokens as they are given. Others may write to them meanwhile, so offsets
/// are never trusted: they only ever ask for tokens that may not be there.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) tokens: &'a [i32],
    pub(crate) offsets: &'a [i64],
}

impl<'a> Segments<'a> {
    /// Refuses offsets that do not begin at 0 or do not end with the tokens.
    pub(crate) fn new(tokens: &'a [i32], offsets: &'a [i64]) -> Result<Self> {
        let count = segment_count(offsets)?;
        let end = offsets[count];
        if end != tokens.len() as i64 {
            let expected = "the number of tokens, since the last segment ends there";
            return Err(Error::Element { argument: "offsets", index: count, value: end, expected });
        }
        Ok(Segments { tokens, offsets })
    }

    /// How many segments there are.
    pub(crate) fn count(self) -> usize {
        self.offsets.len() - 1
    }

    /// Refuses an output that has not one element for each segment.
    pub(crate) fn check_size(self, argument: &'static str, size: usize) -> Result<()> {
        if size == self.count() {
            return Ok(());
        }
        let because = "one for each segment";
        Err(Error::Size { argument, size, expected: self.count(), because })
    }

    /// Where a segment begins and ends.
    pub(crate) fn ends(self, segment: usize) -> (i64, i64) {
        (self.offsets[segment], self.offsets[segment + 1])
    }

    /// The tokens between two offsets, or nothing where there are none such.
    pub(crate) fn between(self, (begin, end): (i64, i64)) -> Option<&'a [i32]> {
        self.tokens.get(begin as usize..end as usize) // negative ones become too large
    }
}

/// The refusal of a segment that ends before it begins, or behind the tokens.
pub(crate) fn refused(segment: usize, begin: i64, end: i64) -> Error {
    let expected = if end < begin { "at least the offset before it" } else { "at most the number of tokens" };
    Error::Element { argument: "offsets", index: segment + 1, value: end, expected }
}
