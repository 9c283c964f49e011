//! Ragged tokens: all segments concatenated in one array, and the offset at which each begins.
//!
//! ```text
//! tokens     [7, 8, 7, 8, 5]
//! offsets    [0, 2, 4, 4, 5]     segments [7, 8], [7, 8], [] and [5]
//! lengths    [2, 2, 0, 1]
//! first      [0, 0, 2, 3]        segment 1 has the same tokens as segment 0
//! ```

mod deal;
mod find;
mod group;
mod hash;
mod segments;
mod spread;

use std::mem::MaybeUninit;

pub use group::{group_identical, group_identical_by};
pub(crate) use segments::{Segments, span};
pub use spread::spread;

use crate::chunks::fill_chunks;
use crate::error::{Error, Result};

/// Writes the number of tokens in each segment into `lengths`.
///
/// `offsets` has one more element than there are segments; it must begin at 0 and not descend. `lengths` must
/// have one element per segment; if the result is `Ok`, all are written.
pub fn token_lengths(offsets: &[i64], lengths: &mut [MaybeUninit<i32>]) -> Result<()> {
    let segments = segment_count(offsets)?;
    if lengths.len() != segments {
        let because = "one for each segment";
        return Err(Error::Size { argument: "lengths", size: lengths.len(), expected: segments, because });
    }
    fill_chunks(lengths, |range, slots| {
        let offsets = &offsets[range.start..=range.end];
        let mut bad = false;
        for (slot, ends) in slots.iter_mut().zip(offsets.windows(2)) {
            let length = ends[1].wrapping_sub(ends[0]);
            bad |= i32::try_from(length).is_err() | (length < 0) | (ends[1] < 0);
            slot.write(length as i32);
        }
        if bad { Err(refused_offset(offsets, range.start)) } else { Ok(()) }
    })
}

/// The number of segments in `offsets`; an error if they do not begin at 0.
pub(crate) fn segment_count(offsets: &[i64]) -> Result<usize> {
    match offsets {
        [] => {
            let because = "plus one for each segment";
            Err(Error::Size { argument: "offsets", size: 0, expected: 1, because })
        }
        [0, rest @ ..] => Ok(rest.len()),
        [value, ..] => {
            let expected = "0, where the first segment begins";
            Err(Error::Element { argument: "offsets", index: 0, value: *value, expected })
        }
    }
}

/// The error for the first offset that descends or makes a segment too long; `offsets` are those from segment
/// `begin` on.
pub(crate) fn refused_offset(offsets: &[i64], begin: usize) -> Error {
    for (segment, ends) in offsets.windows(2).enumerate() {
        let (first, value) = (ends[0], ends[1]);
        let expected = if value < first {
            "at least the offset before it"
        } else if value.abs_diff(first) > i32::MAX as u64 {
            "at most 2147483647 above the offset before it"
        } else {
            continue;
        };
        return Error::Element { argument: "offsets", index: begin + segment + 1, value, expected };
    }
    Error::Changed { argument: "offsets" }
}
