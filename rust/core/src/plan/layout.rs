//! Maps segments to rows, and rows to batches and back.

use crate::error::{Error, Result};
use crate::memory::{collected, prefetch, zeroed};
use crate::order::length_order;
use crate::pack::pack_rows;

use super::policy::{Packing, PaddedLengths, Policy};
use super::shapes::{Run, Stretch, round_up};

/// Lengths are `i32`.
const LONGEST: i64 = i32::MAX as i64;

/// How far ahead to prefetch, since an order visits memory at random.
const AHEAD: usize = 32;

/// Rows before sorting; each holds one segment, or several packed ones.
pub(super) struct Rows {
    /// The number of filled positions in each row.
    pub filled: Vec<i32>,
    /// The places of packed segments; `None` if row `r` holds the `r`-th segment.
    pub packed: Option<Packed>,
}

/// The place of each packed segment.
pub(super) struct Packed {
    pub row: Vec<i64>,
    pub start: Vec<i32>,
}

/// The rows for segments of these lengths; segments that share a row count once.
pub(super) fn rows(policy: &Policy, lengths: Vec<i32>) -> Result<Rows> {
    match policy.packing {
        None => Ok(Rows { filled: lengths, packed: None }),
        Some(Packing { max_segments }) => pack(policy, &lengths, max_segments),
    }
}

fn pack(policy: &Policy, lengths: &[i32], max_segments: Option<i64>) -> Result<Rows> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let capacity = match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => *lengths.last().expect("checked: not empty"),
        _ => padded(longest, policy.multiple()) as i32,
    };
    let mut row = Vec::with_capacity(lengths.len());
    let mut start = Vec::with_capacity(lengths.len());
    let (row_slots, start_slots) = (row.spare_capacity_mut(), start.spare_capacity_mut());
    let slots = (&mut row_slots[..lengths.len()], &mut start_slots[..lengths.len()]);
    let count = pack_rows(lengths, capacity, max_segments.unwrap_or(i64::MAX), slots.0, slots.1)?;
    // SAFETY: `pack_rows` writes every element if it returns `Ok`.
    unsafe {
        row.set_len(lengths.len());
        start.set_len(lengths.len());
    }
    let mut filled = vec![0; count];
    for (index, &length) in lengths.iter().enumerate() {
        let filled: &mut i32 = &mut filled[row[index] as usize];
        *filled = (*filled).max(start[index] + length);
    }
    Ok(Rows { filled, packed: Some(Packed { row, start }) })
}

/// Rejects segments that no padded length holds; the longest has `longest` tokens.
pub(super) fn check_longest(policy: &Policy, lengths: &[i32], longest: i32) -> Result<()> {
    let (limit, because) = match &policy.padded_lengths {
        PaddedLengths::Given(given) => (
            i64::from(*given.last().expect("checked: not empty")),
            "the last of padded_lengths; add a longer one or cut the segment",
        ),
        _ => (
            LONGEST / policy.multiple() * policy.multiple(),
            "the last multiple of padding_multiple within int32",
        ),
    };
    let too_long = |&length: &i32| i64::from(length) > limit;
    match Some(longest).filter(too_long).and_then(|_| lengths.iter().position(too_long)) {
        None => Ok(()),
        Some(index) => Err(Error::Bound {
            argument: "lengths",
            index: Some(index),
            value: lengths[index].into(),
            relation: "at most",
            limit,
            because,
        }),
    }
}

/// A length rounded up to a multiple; rows have at least one token.
pub(super) fn padded(length: i32, multiple: i64) -> i64 {
    round_up(length.max(1).into(), multiple)
}

/// Rows sorted longest first, stably.
pub(super) struct Sorted {
    /// The position of each row among the sorted ones.
    pub position: Vec<u32>,
    /// The runs of equal padded length.
    pub runs: Vec<Run>,
}

/// Sorts rows by the number of filled positions.
pub(super) fn sort(filled: &[i32], multiple: i64) -> Result<Sorted> {
    let mut order: Vec<i64> = Vec::with_capacity(filled.len());
    length_order(filled, true, &mut order.spare_capacity_mut()[..filled.len()])?;
    // SAFETY: `length_order` writes every element if it returns `Ok`.
    unsafe { order.set_len(filled.len()) };
    let mut position = vec![0; filled.len()];
    let mut runs: Vec<Run> = Vec::new();
    for (first_row, row) in order.into_iter().enumerate() {
        position[row as usize] = first_row as u32;
        let length = padded(filled[row as usize], multiple);
        if runs.last().is_none_or(|run| run.length != length) {
            runs.push(Run { length, first_row });
        }
    }
    Ok(Sorted { position, runs })
}

/// The segments in every row, and their positions in it.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// The segments, ordered by row, start and number; rows are in sorted order.
    pub segments: Vec<u32>,
    /// The index at which each sorted row's segments begin, and one more at the end.
    pub ends: Vec<u32>,
}

/// The sorted row of each segment. `firsts` gives the segment with which each shares its row.
pub(super) fn sorted_rows(
    count: usize,
    firsts: Option<&[u32]>,
    packed: Option<&Packed>,
    position: Vec<u32>,
) -> Vec<u32> {
    if firsts.is_none() && packed.is_none() {
        return position;
    }
    let mut distinct = 0;
    let mut rows: Vec<u32> = Vec::with_capacity(count);
    for segment in 0..count {
        let first = firsts.map_or(segment, |firsts| firsts[segment] as usize);
        if first < segment {
            rows.push(rows[first]);
        } else {
            let row = packed.map_or(distinct, |packed| packed.row[distinct] as usize);
            rows.push(position[row]);
            distinct += 1;
        }
    }
    rows
}

/// Where in its row each segment begins.
pub(super) fn starts(count: usize, firsts: Option<&[u32]>, packed: Option<Packed>) -> Vec<i32> {
    let Some(Packed { start, .. }) = packed else {
        return vec![0; count];
    };
    let Some(firsts) = firsts else {
        return start;
    };
    let mut starts: Vec<i32> = Vec::with_capacity(count);
    let mut distinct = start.into_iter();
    for (segment, &first) in firsts.iter().enumerate() {
        let shared = starts.get(first as usize).copied();
        starts.push(shared.unwrap_or_else(|| distinct.next().expect("each first segment was packed")));
        debug_assert!(first as usize <= segment);
    }
    starts
}

/// Collects the segments of every row, sorted by start and number; `rows` are sorted rows.
///
/// `order` has every segment once. A row whose segments are in it by start and number need not be sorted.
pub(super) fn members(
    rows: &[u32],
    row_count: usize,
    starts: &[i32],
    order: impl Iterator<Item = u32> + Clone,
) -> Members {
    // Each row's count is stored two places further, so that after the running sum, the next place holds the
    // index at which the row begins. It is then incremented for every segment put there, and finally holds
    // the index at which the row ends.
    let mut ends = vec![0u32; row_count + 2];
    for &row in rows {
        ends[row as usize + 2] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let mut segments = collected((0..rows.len() as u32).map(|_| 0));
    let mut ahead = order.clone().skip(AHEAD);
    for segment in order {
        ahead.next().inspect(|&later| prefetch(rows, later as usize));
        let slot = &mut ends[rows[segment as usize] as usize + 1];
        segments[*slot as usize] = segment;
        *slot += 1;
    }
    ends.pop();
    let mut members = Members { segments, ends };
    members.sort(starts);
    members
}

impl Members {
    /// Sorts the segments of every row by start and number.
    pub(super) fn sort(&mut self, starts: &[i32]) {
        let Members { segments, ends } = self;
        for borders in ends.windows(2) {
            let (begin, end) = (borders[0] as usize, borders[1] as usize);
            let later = segments.get(begin + AHEAD..segments.len().min(end + AHEAD)).unwrap_or_default();
            later.iter().for_each(|&segment| prefetch(starts, segment as usize));
            let segments = &mut segments[begin..end];
            let place = |&segment: &u32| (starts[segment as usize], segment);
            if !segments.is_sorted_by_key(place) {
                segments.sort_unstable_by_key(place);
            }
        }
    }
}

/// The batch of a sorted row, and the row's index in it.
fn batch_of(stretches: &[Stretch], longest_first: bool) -> impl Fn(u32) -> (i32, i32) {
    let last = stretches.last().map_or(0, |last| last.first_batch + last.batches - 1);
    move |row: u32| {
        let row = row as usize;
        let stretch = &stretches[stretches.partition_point(|stretch| stretch.first_row <= row) - 1];
        let past = (row - stretch.first_row) as u32;
        let batch = stretch.first_batch + (past / stretch.rows as u32) as usize;
        let batch = if longest_first { batch } else { last - batch };
        (batch as i32, (past % stretch.rows as u32) as i32)
    }
}

/// The batch of every segment, and its row in it.
pub(super) fn batches(stretches: &[Stretch], members: &Members, longest_first: bool) -> [Vec<i32>; 2] {
    let Members { segments, ends } = members;
    let (mut batches, mut rows) = (zeroed(segments.len()), zeroed(segments.len()));
    let place = batch_of(stretches, longest_first);
    for (row, borders) in (0..).zip(ends.windows(2)) {
        let (begin, end) = (borders[0] as usize, borders[1] as usize);
        for &later in segments.get(begin + AHEAD..segments.len().min(end + AHEAD)).unwrap_or_default() {
            prefetch(&batches, later as usize);
            prefetch(&rows, later as usize);
        }
        let place = place(row);
        for &segment in &segments[begin..end] {
            (batches[segment as usize], rows[segment as usize]) = place;
        }
    }
    [batches, rows]
}
