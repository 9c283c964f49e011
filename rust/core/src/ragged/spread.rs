//! Copies values that were computed for some segments to the places of those segments.
//!
//! ```text
//! offsets    [0, 2, 3, 6]        three segments, with 2, 1 and 3 values
//! segments   [2, 0]
//! values     [1, 2, 3, 4, 5]     three of segment 2, two of segment 0
//! out        [4, 5, _, 1, 2, 3]
//! ```
//!
//! Each value is copied once.

use super::span;
use crate::error::{Error, Result};

/// Writes the values of `segments`, which follow each other in `values`, to
/// `out[offsets[segment]..offsets[segment + 1]]` each. Other elements of `out` stay as they are, and values
/// after those of the last segment are ignored. After an error, some may have been written.
pub fn spread<T: Copy>(segments: &[i64], offsets: &[i64], values: &[T], out: &mut [T]) -> Result<()> {
    let mut left = values;
    for (index, &segment) in segments.iter().enumerate() {
        let place = place(index, segment, offsets, out)?;
        let Some((own, rest)) = left.split_at_checked(place.len()) else {
            return Err(Error::Bound {
                argument: "the number of values",
                index: None,
                value: values.len() as i64,
                relation: "at least",
                limit: (values.len() - left.len() + place.len()) as i64,
                because: "the number of values of the segments up to one that has too few",
            });
        };
        place.copy_from_slice(own);
        left = rest;
    }
    Ok(())
}

/// Where the values of a segment belong.
fn place<'a, T>(index: usize, segment: i64, offsets: &[i64], out: &'a mut [T]) -> Result<&'a mut [T]> {
    let count = offsets.len().saturating_sub(1);
    let Some(at) = usize::try_from(segment).ok().filter(|&at| at < count) else {
        return Err(Error::Bound {
            argument: "segments",
            index: Some(index),
            value: segment,
            relation: "at least 0 and less than",
            limit: count as i64,
            because: "the number of segments",
        });
    };
    let span = span(offsets, at, out.len(), "at most the number of elements to write")?;
    Ok(&mut out[span])
}
