//! Sorts segments by length, and inverts orders.
//!
//! Lengths are small numbers, so this is a counting sort: one pass counts the occurrences of each length,
//! prefix sums give the position at which the segments of each length begin in the order, and a second pass
//! puts each segment in its place. The sort is stable. Each thread counts and places its own part. This takes
//! two passes over the lengths, one over the order, and 8 bytes of memory per possible length.
//!
//! If the longest length is far larger than the number of segments, few segments are sorted by comparison,
//! and many by a radix sort with 16-bit digits, which takes 8 bytes of memory per segment.
//!
//! ```text
//! lengths            [3, 1, 2, 3]
//! descending order   [0, 3, 2, 1]
//! inverse            [0, 3, 2, 1]
//! ```

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::chunks::{on_threads, ranges};
use crate::error::{Error, Result};
use crate::lengths::extremes;
use crate::memory::zeroed;
use crate::parallel::{SMALL, threads_for};
use crate::place::{Places, place_all};

/// The maximum number of buckets in one counting pass.
const MOST_BUCKETS: usize = 1 << 16;
/// The maximum number of threads that check a permutation; each has its own bitmap of the segments it has
/// seen.
const MOST_MARKING_THREADS: usize = 8;
/// The number of low bits for a segment's number, below a digit of its length.
const SEGMENT_BITS: u32 = 48;

const CHANGED: Result<()> = Err(Error::Changed { argument: "lengths" });

/// Writes the segments, sorted by length, into `order`, longest first if `descending`; equal lengths keep
/// their order.
///
/// `order` must have as many elements as `lengths`; all are written.
pub fn length_order(lengths: &[i32], descending: bool, order: &mut [MaybeUninit<i64>]) -> Result<()> {
    same_size("order", order.len(), lengths.len(), "one for each length")?;
    let Some((least, most)) = extremes(lengths)? else { return Ok(()) };
    let keys = Keys { lengths, first: if descending { most } else { least }, flip: -i32::from(descending) };
    let span = (most - least) as usize;
    if span < MOST_BUCKETS && span / 4 <= lengths.len() {
        let order = Places::new(order);
        let bucket = |segment| keys.of(segment).min(span);
        let placed = place_all(lengths.len(), span + 1, bucket, |at, segment| order.put(at, segment as i64));
        if placed { Ok(()) } else { CHANGED }
    } else if lengths.len() < SMALL {
        order_by_comparison(keys, order);
        Ok(())
    } else {
        order_by_digits(keys, order)
    }
}

fn same_size(argument: &'static str, size: usize, expected: usize, because: &'static str) -> Result<()> {
    if size == expected { Ok(()) } else { Err(Error::Size { argument, size, expected, because }) }
}

/// Maps lengths to their distance from the one that comes first.
#[derive(Clone, Copy)]
struct Keys<'a> {
    lengths: &'a [i32],
    first: i32,
    /// -1 (all bits set) if the longest comes first, else 0. Flipping all bits reverses the order.
    flip: i32,
}

impl Keys<'_> {
    fn of(self, segment: usize) -> usize {
        (self.lengths[segment] ^ self.flip).wrapping_sub(self.first ^ self.flip) as u32 as usize
    }
}

fn order_by_comparison(keys: Keys, order: &mut [MaybeUninit<i64>]) {
    let mut sorted: Vec<u64> =
        (0..order.len()).map(|segment| (keys.of(segment) as u64) << 32 | segment as u64).collect();
    sorted.sort_unstable();
    for (slot, key) in order.iter_mut().zip(sorted) {
        slot.write((key & u64::from(u32::MAX)) as i64);
    }
}

/// Two counting passes, the lower 16 bits of the keys first.
fn order_by_digits(keys: Keys, order: &mut [MaybeUninit<i64>]) -> Result<()> {
    let count = order.len();
    let mut by_low = zeroed(count);
    let places = Places::over(&mut by_low);
    let low = |segment| keys.of(segment) % MOST_BUCKETS;
    let placed = place_all(count, MOST_BUCKETS, low, |at, segment| {
        let high = (keys.of(segment) / MOST_BUCKETS) as i64;
        places.put(at, high << SEGMENT_BITS | segment as i64);
    });
    let order = Places::new(order);
    let high = |at: usize| (by_low[at] >> SEGMENT_BITS) as usize;
    let placed_again = place_all(count, MOST_BUCKETS, high, |to, at| {
        order.put(to, (by_low[at] & ((1 << SEGMENT_BITS) - 1)) as i64);
    });
    if placed && placed_again { Ok(()) } else { CHANGED }
}

/// Writes the position of each segment in `order` into `inverse`: `inverse[order[i]] == i`. An order that is
/// not a permutation is an error.
///
/// `inverse` must have as many elements as `order`; if the result is `Ok`, all are
/// written.
pub fn invert_order(order: &[i64], inverse: &mut [MaybeUninit<i64>]) -> Result<()> {
    same_size("inverse", inverse.len(), order.len(), "one for each segment of the order")?;
    let count = order.len();
    let places = Places::new(inverse);
    let threads = threads_for(count).min(MOST_MARKING_THREADS);
    let mut seen = on_threads(threads, ranges(count, threads), |range: Range<usize>| {
        let mut seen = vec![0u64; count.div_ceil(64)];
        for at in range {
            let segment = order[at] as usize; // negative ones become too large
            if segment < count {
                seen[segment / 64] |= 1 << (segment % 64);
                places.put(segment, at as i64);
            }
        }
        seen
    });
    // There are as many elements as segments: if every segment was seen, none was seen twice.
    let mut all = seen.swap_remove(0);
    for other in seen {
        all.iter_mut().zip(other).for_each(|(all, other)| *all |= other);
    }
    let distinct: usize = all.iter().map(|word| word.count_ones() as usize).sum();
    if distinct == count { Ok(()) } else { Err(not_a_permutation(order)) }
}

fn not_a_permutation(order: &[i64]) -> Error {
    let mut seen = vec![false; order.len()];
    for (index, &value) in order.iter().enumerate() {
        let mark = usize::try_from(value).ok().and_then(|segment| seen.get_mut(segment));
        let expected = match mark {
            Some(mark @ false) => {
                *mark = true;
                continue;
            }
            Some(true) => "a segment that has not come before: an order has each segment once",
            None => "at least 0 and below the number of elements",
        };
        return Error::Element { argument: "order", index, value, expected };
    }
    Error::Changed { argument: "order" }
}
