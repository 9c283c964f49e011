//! Padded lengths: chooses the cheapest few, and assigns each segment to one.
//!
//! Each distinct padded length is one more program to compile, so there should be few; every padded token is
//! computed, so they should fit tightly. [`choose_lengths`] finds the optimum from the number of times each
//! length occurs.
//!
//! ```text
//! lengths            [3, 9, 4, 5]
//! to multiples of 4  [4, 12, 4, 8]
//! best 2             [5, 9]           3 × 5 + 9 = 24 padded tokens
//! bucket ids         [0, 1, 0, 0]
//! ```

mod cost;

use std::mem::MaybeUninit;

pub use cost::least_cost_lengths;

use crate::chunks::fill_chunks;
use crate::error::{Error, Result};
use crate::lengths::{extremes, first_bad, occurrences};

/// Writes each length, rounded up to a multiple of `multiple`, into `rounded`; 0 stays 0.
///
/// Negative lengths are an error, as are lengths whose multiple does not fit `i32`. `rounded` must have as
/// many elements as `lengths`; if the result is `Ok`, all are written.
pub fn round_up(lengths: &[i32], multiple: i32, rounded: &mut [MaybeUninit<i32>]) -> Result<()> {
    if rounded.len() != lengths.len() {
        let because = "one for each length";
        return Err(Error::Size {
            argument: "rounded",
            size: rounded.len(),
            expected: lengths.len(),
            because,
        });
    }
    let raise = Raise::to(multiple)?;
    fill_chunks(rounded, |range, slots| {
        let mut bad = 0;
        for (slot, &length) in slots.iter_mut().zip(&lengths[range]) {
            let raised = raise.up(length);
            bad |= length | raised; // either is negative where it is refused
            slot.write(raised);
        }
        if bad < 0 { Err(raise.refusal(lengths)) } else { Ok(()) }
    })
}

/// Chooses at most `max_shapes` padded lengths, in ascending order, to minimize the total number of tokens
/// when each segment is padded to the smallest length that holds it.
///
/// Padded lengths are multiples of `multiple`. Among equal totals, the choice with the fewest lengths is
/// used. Without segments, there are no lengths.
pub fn choose_lengths(lengths: &[i32], max_shapes: i64, multiple: i32) -> Result<Vec<i32>> {
    if max_shapes < 1 {
        return Err(Error::Value { argument: "max_shapes", value: max_shapes, expected: "at least 1" });
    }
    let raise = Raise::to(multiple)?;
    let Some((least, most)) = extremes(lengths)? else { return Ok(Vec::new()) };
    if raise.up(most) < 0 {
        return Err(raise.refusal(lengths));
    }
    let mut candidates: Vec<i64> = Vec::new();
    let mut starts: Vec<i64> = Vec::new();
    let mut longer = 0;
    for (length, count) in occurrences(lengths, least, most).into_iter().rev() {
        let length = i64::from(raise.up(length));
        if candidates.last() != Some(&length) {
            candidates.push(length);
            starts.push(longer);
        }
        longer += count;
    }
    if max_shapes >= candidates.len() as i64 {
        return Ok(candidates.into_iter().rev().map(|length| length as i32).collect());
    }
    let ends = vec![longer; candidates.len()];
    let chosen = least_cost_lengths(&candidates, &starts, &ends, max_shapes as usize, 0);
    Ok(chosen.into_iter().rev().map(|candidate| candidates[candidate] as i32).collect())
}

/// For each length, writes the index of the smallest of `bucket_lengths` that holds it into `ids`.
///
/// `bucket_lengths` must be at least 0 and ascending, and the last must hold every
/// length. `ids` must have as many elements as `lengths`; if the result is `Ok`, all
/// are written.
pub fn bucket_ids(lengths: &[i32], bucket_lengths: &[i32], ids: &mut [MaybeUninit<i32>]) -> Result<()> {
    if ids.len() != lengths.len() {
        let because = "one for each length";
        return Err(Error::Size { argument: "ids", size: ids.len(), expected: lengths.len(), because });
    }
    let buckets = Buckets::of(bucket_lengths)?;
    let table = buckets.table(lengths.len());
    fill_chunks(ids, |range, slots| {
        let lengths = &lengths[range.clone()];
        let mut bad = 0;
        for (slot, &length) in slots.iter_mut().zip(lengths) {
            let id = match &table {
                Some(table) => table[(length as u32 as usize).min(table.len() - 1)],
                None => buckets.id(length),
            };
            bad |= id;
            slot.write(id);
        }
        if bad < 0 { Err(buckets.refusal(lengths, range.start)) } else { Ok(()) }
    })
}

/// Rounds lengths up to a multiple with a multiplication instead of a division, which
/// vector units lack (T. Granlund and P. Montgomery, 1994).
#[derive(Clone, Copy)]
struct Raise {
    multiple: u32,
    /// `2^shift / multiple`, rounded up.
    inverse: u64,
    shift: u32,
}

impl Raise {
    fn to(multiple: i32) -> Result<Self> {
        if multiple < 1 {
            return Err(Error::Value {
                argument: "multiple",
                value: multiple.into(),
                expected: "at least 1",
            });
        }
        let multiple = multiple as u32;
        let shift = 31 + multiple.next_power_of_two().ilog2();
        Ok(Self { multiple, inverse: (1u64 << shift).div_ceil(multiple.into()), shift })
    }

    /// The multiple, or a negative number if it does not fit `i32` or `length` is negative.
    fn up(self, length: i32) -> i32 {
        let length = length as u32;
        let below = (((u64::from(length) * self.inverse) >> self.shift) as u32).wrapping_mul(self.multiple);
        let missing = if below == length { 0 } else { self.multiple };
        below.wrapping_add(missing) as i32
    }

    fn refusal(self, lengths: &[i32]) -> Error {
        let at_most = i64::from(i32::MAX) / i64::from(self.multiple) * i64::from(self.multiple);
        let argument = "lengths";
        match first_bad(lengths, |length| length < 0 || i64::from(length) > at_most) {
            None => Error::Changed { argument },
            Some((index, value)) if value < 0 => {
                Error::Element { argument, index, value: value.into(), expected: "at least 0" }
            }
            Some((index, value)) => {
                let limit = "the greatest multiple of `multiple` in int32";
                Error::Limit { argument, index, value: value.into(), limit, at_most }
            }
        }
    }
}

/// A checked copy of the bucket lengths, because the caller's array may change.
struct Buckets(Vec<i32>);

impl Buckets {
    fn of(bucket_lengths: &[i32]) -> Result<Self> {
        let buckets = bucket_lengths.to_vec();
        let mut before = -1;
        for (index, &value) in buckets.iter().enumerate() {
            if value <= before {
                let expected = if value < 0 { "at least 0" } else { "above the one before it" };
                return Err(Error::Element {
                    argument: "bucket_lengths",
                    index,
                    value: value.into(),
                    expected,
                });
            }
            before = value;
        }
        Ok(Self(buckets))
    }

    /// The bucket of a length, or -1 if none holds it.
    fn id(&self, length: i32) -> i32 {
        let id = self.0.partition_point(|&bucket| bucket < length);
        if length < 0 || id == self.0.len() { -1 } else { id as i32 }
    }

    /// The bucket of each length, followed by -1, if the table is worth building.
    fn table(&self, lengths: usize) -> Option<Vec<i32>> {
        let last = *self.0.last()?;
        if last as usize / 4 > lengths {
            return None;
        }
        let mut table = Vec::with_capacity(last as usize + 2);
        for (id, &bucket) in self.0.iter().enumerate() {
            table.resize(bucket as usize + 1, id as i32);
        }
        table.push(-1);
        Some(table)
    }

    fn refusal(&self, lengths: &[i32], begin: usize) -> Error {
        let argument = "lengths";
        let last = self.0.last().copied();
        match first_bad(lengths, |length| length < 0 || Some(length) > last) {
            None => Error::Changed { argument },
            Some((index, value)) if value < 0 => {
                Error::Element { argument, index: begin + index, value: value.into(), expected: "at least 0" }
            }
            Some((index, value)) => match last {
                Some(last) => {
                    let limit = "the last of bucket_lengths";
                    let index = begin + index;
                    Error::Limit { argument, index, value: value.into(), limit, at_most: last.into() }
                }
                None => {
                    let because = "or more, because there are lengths";
                    Error::Size { argument: "bucket_lengths", size: 0, expected: 1, because }
                }
            },
        }
    }
}
