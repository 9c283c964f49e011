//! Reads and checks the prefix tree that the arguments describe.
//!
//! Each argument is read once. Each thread reads a part of the order and marks the segments it sees; a
//! segment that two threads mark occurs twice.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::chunks::{on_threads, ranges, split};
use crate::error::{Error, Result};
use crate::memory::{prefetch, room_for};
use crate::parallel::threads_for;

/// How many segments ahead to prefetch, since the order visits memory at random.
pub(super) const AHEAD: usize = 32;

const TOO_MANY: usize = u32::MAX as usize;

/// A segment in the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    pub segment: u32,
    pub length: i32,
    /// The number of leading tokens it shares with the previous one.
    pub shared: i32,
}

impl Branch {
    /// Whether it can follow a segment of length `before` in lexicographic order.
    fn follows(self, before: i32) -> bool {
        // A segment comes before those that begin with all of it.
        let ends_early = self.length < before && self.shared == self.length;
        (0..=self.length.min(before)).contains(&self.shared) && !ends_early
    }
}

pub(crate) fn check_size(argument: &'static str, size: usize, expected: usize) -> Result<()> {
    if size == expected {
        Ok(())
    } else {
        Err(Error::Size { argument, size, expected, because: "one for each length" })
    }
}

/// The segments in the given order.
pub(crate) fn branches(lengths: &[i32], order: &[i64], shared: &[i32]) -> Result<Vec<Branch>> {
    check_size("order", order.len(), lengths.len())?;
    check_size("shared", shared.len(), lengths.len())?;
    if lengths.len() >= TOO_MANY {
        let value = lengths.len() as i64;
        return Err(Error::Value { argument: "the number of lengths", value, expected: "below 4294967295" });
    }
    let threads = threads_for(order.len());
    let mut branches: Vec<Branch> = room_for(order.len());
    let ranges = ranges(order.len(), threads);
    let slots = split(&mut branches.spare_capacity_mut()[..order.len()], &ranges);
    let parts = ranges.iter().cloned().zip(slots).collect();
    let read_part =
        |(range, slots): (Range<usize>, _)| read(lengths, &order[range.clone()], &shared[range], slots);
    let seen = on_threads(threads, parts, read_part);
    let Some(seen) = seen.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(refusal(lengths, order, shared));
    };
    // SAFETY: `read` writes every element of its part if it returns `Some`.
    unsafe { branches.set_len(order.len()) };
    let joined = ranges.iter().map(|range| range.start).all(|start| {
        let before = start.checked_sub(1).map_or(0, |before| branches[before].length);
        branches.get(start).is_none_or(|branch| branch.follows(before))
    });
    let words = lengths.len().div_ceil(64);
    let once = (0..words).all(|word| {
        seen.iter().map(|seen| seen[word].count_ones()).sum::<u32>()
            == seen.iter().fold(0, |all, seen| all | seen[word]).count_ones()
    });
    if joined && once { Ok(branches) } else { Err(refusal(lengths, order, shared)) }
}

/// Reads a part of the order; returns a bit for each segment, set if it occurs. `None` if a segment
/// cannot follow the one before it in the part, or occurs twice.
fn read(
    lengths: &[i32],
    order: &[i64],
    shared: &[i32],
    slots: &mut [MaybeUninit<Branch>],
) -> Option<Vec<u64>> {
    let mut seen = vec![0u64; lengths.len().div_ceil(64)];
    let mut before = None;
    for (index, ((&value, &shared), slot)) in order.iter().zip(shared).zip(slots).enumerate() {
        if let Some(&later) = order.get(index + AHEAD) {
            prefetch(lengths, later as usize);
        }
        let segment = value as usize; // negative ones become too large
        let branch = Branch { segment: segment as u32, length: *lengths.get(segment)?, shared };
        let (word, bit) = (&mut seen[segment / 64], 1 << (segment % 64));
        if *word & bit != 0 || before.is_some_and(|before| !branch.follows(before)) {
            return None;
        }
        *word |= bit;
        slot.write(branch);
        before = Some(branch.length);
    }
    Some(seen)
}

/// Why the arguments do not describe a prefix tree.
fn refusal(lengths: &[i32], order: &[i64], shared: &[i32]) -> Error {
    let mut seen = vec![false; lengths.len()];
    let mut before = 0;
    for (index, (&value, &shared)) in order.iter().zip(shared).enumerate() {
        let refused = |expected| Error::Element { argument: "order", index, value, expected };
        let segment = value as usize;
        let Some(&length) = lengths.get(segment) else {
            return refused("at least 0 and below the number of elements");
        };
        if std::mem::replace(&mut seen[segment], true) {
            return refused("a segment that has not come before: an order has each segment once");
        }
        if length < 0 {
            let (argument, index, value) = ("lengths", segment, length.into());
            return Error::Element { argument, index, value, expected: "at least 0" };
        }
        if !(Branch { segment: 0, length, shared }).follows(before) {
            return refused_shared(index, shared, length, before);
        }
        before = length;
    }
    Error::Changed { argument: "order" }
}

/// Why a segment of `length` tokens cannot share `shared` tokens with one of `before` tokens.
fn refused_shared(index: usize, shared: i32, length: i32, before: i32) -> Error {
    let (limit, because) = match () {
        () if index == 0 => (0, "since no segment comes before it"),
        () if before < length => (before, "the length of the segment before it in order"),
        () if length < before && shared == length => {
            (length - 1, "since a segment comes before the longer ones that begin with it")
        }
        () => (length, "its own length"),
    };
    let (argument, index, value) = ("shared", Some(index), shared.into());
    Error::Bound { argument, index, value, relation: "at least 0 and at most", limit: limit.into(), because }
}
