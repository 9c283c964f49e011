//! Segments as slices of an array of tokens.

use std::ops::Range;

use super::segment_count;
use crate::error::{Error, Result};

/// The caller's ragged tokens. Other threads may write to them, so offsets are never trusted: an access with
/// them may find no tokens.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) tokens: &'a [i32],
    pub(crate) offsets: &'a [i64],
}

impl<'a> Segments<'a> {
    /// Rejects offsets that do not begin at 0 or do not end at the number of tokens.
    pub(crate) fn new(tokens: &'a [i32], offsets: &'a [i64]) -> Result<Self> {
        let count = segment_count(offsets)?;
        let end = offsets[count];
        if end != tokens.len() as i64 {
            let expected = "the number of tokens, since the last segment ends there";
            return Err(Error::Element { argument: "offsets", index: count, value: end, expected });
        }
        Ok(Segments { tokens, offsets })
    }

    /// The number of segments.
    pub(crate) fn count(self) -> usize {
        self.offsets.len() - 1
    }

    /// Rejects an output that does not have one element per segment.
    pub(crate) fn check_size(self, argument: &'static str, size: usize) -> Result<()> {
        if size == self.count() {
            return Ok(());
        }
        let because = "one for each segment";
        Err(Error::Size { argument, size, expected: self.count(), because })
    }

    /// The beginning and end of a segment.
    pub(crate) fn ends(self, segment: usize) -> (i64, i64) {
        (self.offsets[segment], self.offsets[segment + 1])
    }

    /// The tokens between two offsets, or `None` if there are no such tokens.
    pub(crate) fn between(self, (begin, end): (i64, i64)) -> Option<&'a [i32]> {
        self.tokens.get(begin as usize..end as usize) // negative ones become too large
    }
}

/// Where the elements of a segment are among `size` of them; `within` names what is expected of an offset that
/// is too large.
#[inline]
pub(crate) fn span(
    offsets: &[i64],
    segment: usize,
    size: usize,
    within: &'static str,
) -> Result<Range<usize>> {
    // Each offset is read only once, because another thread may write to the offsets.
    let (begin, end) = (offsets[segment], offsets[segment + 1]);
    if begin < 0 || begin > end {
        let expected = "at least 0 and at most the offset after it";
        return Err(Error::Element { argument: "offsets", index: segment, value: begin, expected });
    }
    if end as usize > size {
        return Err(Error::Element { argument: "offsets", index: segment + 1, value: end, expected: within });
    }
    Ok(begin as usize..end as usize)
}

/// The error for a segment that ends before it begins, or after the tokens.
pub(crate) fn refused(segment: usize, begin: i64, end: i64) -> Error {
    let expected = if end < begin { "at least the offset before it" } else { "at most the number of tokens" };
    Error::Element { argument: "offsets", index: segment + 1, value: end, expected }
}
