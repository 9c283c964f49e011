//! Packs several segments into one row.
//!
//! Best fit, longest segments first: each segment goes into the row where it leaves the least free space, and
//! opens a new row only if none has room. This takes at most 11/9 of the minimum number of rows plus one (D.
//! S. Johnson, 1973), and usually far fewer.
//!
//! ```text
//! lengths    [4, 3, 2, 3]    capacity 6
//! row        [0, 1, 0, 1]    4 opens row 0, 3 opens row 1, 3 fills row 1, 2 fills row 0
//! start      [0, 0, 4, 3]
//! ```
//!
//! Segments of equal length are placed together: a *stretch* of them fills rows with equal free space, one
//! per row, or a single row, one after another. One pass counts the lengths, each length in turn is placed in
//! as few stretches as possible, and a last pass assigns the places in the stretches to segments in the given
//! order. Nothing is sorted. In the worst case, when all lengths differ, this takes one step and a few dozen
//! bytes per segment.
//!
//! If `capacity` is far larger than the number of segments, a sorted list of lengths and an ordered map of
//! free spaces replace the tables, so that memory stays proportional to the number of segments. The rows are
//! the same.

mod free_spaces;
mod groups;

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use free_spaces::{FreeSpaces, Queues, Rows, Table};
use groups::{ByLength, ByRank, Groups};

/// Packs segments into rows of `capacity` tokens, at most `max_segments` per row,
/// and returns the number of rows.
///
/// Writes each segment's row into `row`, and its first position in that row into `start`. Rows are numbered
/// as they are opened, and a row's segments have no gaps, longest first. Segments of equal length are placed
/// in the given order; if several rows have the same free space, the one that reached it first is used. A
/// segment without tokens takes no space, but counts towards `max_segments`; it may start at `capacity`.
///
/// `row` and `start` must have as many elements as `lengths`; if the result is `Ok`,
/// all are written.
pub fn pack_rows(
    lengths: &[i32],
    capacity: i32,
    max_segments: i64,
    row: &mut [MaybeUninit<i64>],
    start: &mut [MaybeUninit<i32>],
) -> Result<usize> {
    for (argument, size) in [("row", row.len()), ("start", start.len())] {
        if size != lengths.len() {
            let because = "one for each length";
            return Err(Error::Size { argument, size, expected: lengths.len(), because });
        }
    }
    let mut slots = row.iter_mut().zip(start);
    pack_each(lengths, capacity, max_segments, |row, start| {
        let slots = slots.next().expect("there are as many as lengths");
        slots.0.write(row.into());
        slots.1.write(start);
    })
}

/// The same as [`pack_rows`], but calls `put` with the row and the start of each segment in turn.
pub(crate) fn pack_each(
    lengths: &[i32],
    capacity: i32,
    max_segments: i64,
    put: impl FnMut(u32, i32),
) -> Result<usize> {
    if lengths.len() >= u32::MAX as usize {
        let value = lengths.len() as i64;
        return Err(Error::Value { argument: "the number of lengths", value, expected: "below 4294967295" });
    }
    if capacity < 0 {
        return Err(Error::Value { argument: "capacity", value: capacity.into(), expected: "at least 0" });
    }
    if max_segments < 1 {
        return Err(Error::Value { argument: "max_segments", value: max_segments, expected: "at least 1" });
    }
    // There are fewer than `u32::MAX` segments, so a higher limit has no effect.
    let rows = Packing::new(capacity, u32::try_from(max_segments).unwrap_or(u32::MAX));
    if capacity as usize <= 2 * lengths.len() + (1 << 14) {
        let groups = ByLength::count(lengths, capacity)?;
        rows.place(&groups, Table::new(capacity)).deal(lengths, &groups, put)
    } else {
        let groups = ByRank::count(lengths, capacity)?;
        rows.place(&groups, BTreeMap::new()).deal(lengths, &groups, put)
    }
}

/// Places for segments of one length, used in order.
struct Stretch {
    /// The row of the next place.
    row: u32,
    /// The position in the row at which the next place begins.
    start: i32,
    /// The number of places left.
    left: u32,
    /// Whether each place is in a different row, or all are in the same one.
    new_rows: bool,
}

/// Rows being packed, and the places of segments in them.
struct Packing {
    capacity: i32,
    max_segments: u32,
    opened: u32,
    stretches: Vec<Stretch>,
    /// The first stretch of each group.
    first: Vec<u32>,
}

impl Packing {
    fn new(capacity: i32, max_segments: u32) -> Self {
        Self { capacity, max_segments, opened: 0, stretches: Vec::new(), first: Vec::new() }
    }

    /// Places all segments, longest first.
    fn place(mut self, groups: &impl Groups, queues: impl Queues) -> Self {
        let mut free_spaces = FreeSpaces::new(queues);
        self.first = vec![0; groups.groups()];
        for group in (0..groups.groups()).rev() {
            self.first[group] = self.stretches.len() as u32;
            let (length, mut left) = groups.group(group);
            while left > 0 {
                left -= self.place_some(length, left, &mut free_spaces);
            }
        }
        self
    }

    /// Places some of `left` segments of one length in the rows that fit them best, and returns their number.
    fn place_some(&mut self, length: i32, left: u32, free_spaces: &mut FreeSpaces<impl Queues>) -> u32 {
        let best = free_spaces.least(length);
        let (free, segments) = best.unwrap_or((self.capacity, 0));
        // A row that has taken one of them is the best fit for the next, until it is full.
        let fit = free.checked_div(length).map_or(u32::MAX, |fit| fit as u32);
        let in_each = fit.min(self.max_segments - segments).min(left);
        let needed = left.div_ceil(in_each);
        let rows = match best {
            Some(_) => free_spaces.take(free, needed),
            None => self.open(needed),
        };
        let (full, rest) = rows.split(left / in_each);
        let in_rest = if rest.count > 0 { left % in_each } else { 0 };
        for (rows, placed) in [(full, in_each), (rest, in_rest)] {
            self.stretch(rows, self.capacity - free, placed);
            let segments = segments + placed;
            if segments < self.max_segments {
                free_spaces.put(free - placed as i32 * length, Rows { segments, ..rows });
            }
        }
        full.count * in_each + in_rest
    }

    fn open(&mut self, count: u32) -> Rows {
        let rows = Rows { first: self.opened, count, segments: 0 };
        self.opened += count;
        rows
    }

    /// Makes `in_each` places from `start` on in each of `rows`.
    fn stretch(&mut self, rows: Rows, start: i32, in_each: u32) {
        if in_each == 1 && rows.count > 0 {
            self.stretches.push(Stretch { row: rows.first, start, left: rows.count, new_rows: true });
        } else {
            let each = rows.first..rows.first + rows.count;
            self.stretches.extend(each.map(|row| Stretch { row, start, left: in_each, new_rows: false }));
        }
    }

    /// Gives every segment the next place for its length; returns the number of rows.
    fn deal(mut self, lengths: &[i32], groups: &impl Groups, mut put: impl FnMut(u32, i32)) -> Result<usize> {
        // There is a place for each segment, unless another thread wrote to the lengths.
        const CHANGED: Error = Error::Changed { argument: "lengths" };
        for &length in lengths {
            let next = groups.find(length).and_then(|group| self.first.get_mut(group)).ok_or(CHANGED)?;
            let stretch = loop {
                match self.stretches.get_mut(*next as usize) {
                    None => return Err(CHANGED),
                    Some(stretch) if stretch.left == 0 => *next += 1,
                    Some(stretch) => break stretch,
                }
            };
            put(stretch.row, stretch.start);
            stretch.left -= 1;
            if stretch.new_rows {
                stretch.row += 1;
            } else {
                stretch.start = stretch.start.wrapping_add(length);
            }
        }
        Ok(self.opened as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests the case of another thread that writes to the lengths between the passes.
    #[test]
    fn lengths_that_change_meanwhile_are_refused_or_dealt_some_place() {
        for changed in [[4, 3, 3, 3], [4, 3, 2, 9], [-1; 4], [i32::MAX; 4], [0; 4], [2; 4], [4; 4]] {
            let by_length = ByLength::count(&[4, 3, 2, 3], 6).unwrap();
            let packing = Packing::new(6, 8).place(&by_length, Table::new(6));
            let dealt = packing.deal(&changed, &by_length, |_, _| ());
            assert!(matches!(dealt, Ok(2) | Err(Error::Changed { argument: "lengths" })));
            let by_rank = ByRank::count(&[4, 3, 2, 3], 6).unwrap();
            let packing = Packing::new(6, 8).place(&by_rank, BTreeMap::new());
            let dealt = packing.deal(&changed, &by_rank, |_, _| ());
            assert!(matches!(dealt, Ok(2) | Err(Error::Changed { argument: "lengths" })));
        }
    }
}
