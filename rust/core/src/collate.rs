//! Filling a batch's arrays, each in one pass.
//!
//! ```text
//! tokens     [7, 8, 9, 5, 6]
//! offsets    [0, 3, 5]          segments [7, 8, 9] and [5, 6]
//! rows       [1, -1, 0]         length 4, fill 0
//! padded     [[5, 6, 0, 0],
//!             [0, 0, 0, 0],
//!             [7, 8, 9, 0]]
//! ```

mod batch;
mod reads;

use std::mem::MaybeUninit;

use crate::error::{Error, Result};

pub use batch::{Sequences, inputs, positions, row_lengths, segment_ids, targets};
pub use reads::{Groups, ReadArrays, read_capacities, read_spans, reads};

/// Stands for a row without a segment, which completes a batch.
pub const FILLER: i64 = -1;

/// The number of elements in `rows` rows of `length` tokens; a refusal where
/// memory cannot be that large.
pub fn padded_size(rows: usize, length: i32) -> Result<usize> {
    if length < 0 {
        return Err(Error::Value { argument: "length", value: length.into(), expected: "at least 0" });
    }
    let most = isize::MAX as usize / size_of::<i32>();
    match rows.checked_mul(length as usize) {
        Some(size) if size <= most => Ok(size),
        _ => Err(Error::TooLarge { rows, length }),
    }
}

/// Writes into `padded` one line of `length` tokens for each of `rows`: the
/// tokens of that segment, or none for [`FILLER`], then `fill` to the line's end.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`. Offsets of segments that
/// are not in `rows` are not looked at. `padded` must have [`padded_size`]
/// elements; where the result is `Ok`, all are written, each once.
pub fn pad_rows(
    tokens: &[i32],
    offsets: &[i64],
    rows: &[i64],
    length: i32,
    fill: i32,
    padded: &mut [MaybeUninit<i32>],
) -> Result<()> {
    let size = padded_size(rows.len(), length)?;
    if padded.len() != size {
        let because = "rows × length";
        return Err(Error::Size { argument: "padded", size: padded.len(), expected: size, because });
    }
    let mut left = padded;
    for (index, &row) in rows.iter().enumerate() {
        let (line, rest) = left.split_at_mut(length as usize);
        left = rest;
        let segment = if row == FILLER { &[] } else { segment(tokens, offsets, index, row)? };
        if segment.len() > line.len() {
            return Err(Error::TooLong { index, segment: row, tokens: segment.len(), length });
        }
        let (real, padding) = line.split_at_mut(segment.len());
        // SAFETY: initialised elements are also ones that may not be initialised.
        real.copy_from_slice(unsafe { std::slice::from_raw_parts(segment.as_ptr().cast(), segment.len()) });
        padding.fill(MaybeUninit::new(fill));
    }
    Ok(())
}

/// The tokens of the segment that `rows[index]` names.
fn segment<'a>(tokens: &'a [i32], offsets: &[i64], index: usize, row: i64) -> Result<&'a [i32]> {
    let known = usize::try_from(row).ok().filter(|&segment| segment < offsets.len().saturating_sub(1));
    let Some(segment) = known else {
        let segments = offsets.len().saturating_sub(1);
        return Err(Error::Segment { argument: "rows", index, value: row, segments });
    };
    // Read once each: the offsets may be written to meanwhile.
    let (begin, end) = (offsets[segment], offsets[segment + 1]);
    if begin < 0 || begin > end {
        let expected = "at least 0 and at most the offset after it";
        return Err(Error::Element { argument: "offsets", index: segment, value: begin, expected });
    }
    tokens.get(begin as usize..end as usize).ok_or(Error::Element {
        argument: "offsets",
        index: segment + 1,
        value: end,
        expected: "at most the number of tokens",
    })
}
