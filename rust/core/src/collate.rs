//! Fills the arrays of a batch, each in one pass.
//!
//! ```text
//! tokens     [7, 8, 9, 5, 6]
//! offsets    [0, 3, 5]          segments [7, 8, 9] and [5, 6]
//! rows       [1, -1, 0]         length 4, fill 0
//! padded     [[5, 6, 0, 0],
//!             [0, 0, 0, 0],
//!             [7, 8, 9, 0]]
//! ```
//!
//! Each output element is written once, and each token is read once.

mod line;

mod batch;
mod picks;
mod reads;
mod trees;

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::ragged::span;
use line::{prefetch, write_line};

pub use batch::{Sequences, inputs, positions, row_lengths, segment_ids, targets};
pub use reads::{Groups, ReadArrays, read_capacities, read_spans, reads};
pub use trees::reach;

/// Marks a row without a segment, which completes a batch.
pub const FILLER: i64 = -1;

/// The number of elements in `rows` rows of `length` tokens; an error if that is too large to address.
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

/// Writes `length` tokens into `padded` for each of `rows`: the tokens of that segment, or none for
/// [`FILLER`], followed by `fill`.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`. Only the offsets of segments in `rows` are read.
/// `padded` must have [`padded_size`] elements; if the result is `Ok`, all are written, each once.
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
    let lines = Lines { tokens, offsets, rows, length, fill };
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { lines.write_with_avx2(padded) };
    }
    lines.write(padded)
}

/// The arguments of [`pad_rows`].
struct Lines<'a> {
    tokens: &'a [i32],
    offsets: &'a [i64],
    rows: &'a [i64],
    length: i32,
    fill: i32,
}

impl Lines<'_> {
    /// The same as [`Self::write`] in wider steps, which takes 0.8 of the time.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn write_with_avx2(&self, padded: &mut [MaybeUninit<i32>]) -> Result<()> {
        self.write(padded)
    }

    #[inline(always)]
    fn write(&self, padded: &mut [MaybeUninit<i32>]) -> Result<()> {
        let mut left = padded;
        for (index, &row) in self.rows.iter().enumerate() {
            self.prefetch(index + 4);
            let (line, rest) = left.split_at_mut(self.length as usize);
            left = rest;
            let segment = if row == FILLER { &[] } else { segment(self.tokens, self.offsets, index, row)? };
            if segment.len() > line.len() {
                let (tokens, length) = (segment.len(), self.length);
                return Err(Error::TooLong { index, segment: row, tokens, length });
            }
            write_line(line, segment, self.fill);
        }
        Ok(())
    }

    /// Rows may be scattered, which the processor cannot predict, so this prefetches them.
    #[inline(always)]
    fn prefetch(&self, index: usize) {
        if let Some(&row) = self.rows.get(index)
            && let Some(&begin) = self.offsets.get(row as usize)
        {
            prefetch(self.tokens, begin);
        }
    }
}

/// The tokens of the segment that `rows[index]` names.
fn segment<'a>(tokens: &'a [i32], offsets: &[i64], index: usize, row: i64) -> Result<&'a [i32]> {
    let known = usize::try_from(row).ok().filter(|&segment| segment < offsets.len().saturating_sub(1));
    let Some(segment) = known else {
        let segments = offsets.len().saturating_sub(1);
        return Err(Error::Segment { argument: "rows", index, value: row, segments });
    };
    Ok(&tokens[span(offsets, segment, tokens.len(), "at most the number of tokens")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pad_rows` chooses its code by processor; this tests the code for any processor.
    #[test]
    fn both_ways_write_the_same() {
        let tokens: Vec<i32> = (1..=2145).collect();
        let offsets: Vec<i64> = (0..=65).map(|segment| segment * (segment + 1) / 2).collect();
        let rows: Vec<i64> = (-1..65).rev().collect();
        let (length, fill) = (70, -7);
        let mut chosen = vec![MaybeUninit::new(0); rows.len() * length as usize];
        let mut plain = chosen.clone();
        pad_rows(&tokens, &offsets, &rows, length, fill, &mut chosen).unwrap();
        Lines { tokens: &tokens, offsets: &offsets, rows: &rows, length, fill }.write(&mut plain).unwrap();
        // SAFETY: every element was initialized from the start.
        let values =
            |slots: Vec<MaybeUninit<i32>>| slots.into_iter().map(|slot| unsafe { slot.assume_init() });
        assert!(values(chosen).eq(values(plain)));
    }
}
