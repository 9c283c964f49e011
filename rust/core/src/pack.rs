//! Packing several segments into one row.
//!
//! Best fit, longest segments first: each segment goes where it leaves the least
//! space free, and opens a new row only where no row has room. That needs at most
//! 11/9 of the fewest possible rows plus one (D. S. Johnson, 1973) and almost
//! always far fewer.
//!
//! ```text
//! lengths    [4, 3, 2, 3]    capacity 6
//! row        [0, 1, 0, 1]    4 opens row 0, 3 opens row 1, 3 fills row 1, 2 fills row 0
//! start      [0, 0, 4, 3]
//! ```
//!
//! A row is found in constant time: rows with the same free space form a list
//! threaded through the rows themselves, and a tree of bits, 64 to a word, tells
//! which free spaces have a list. Where the capacity is far above the number of
//! segments, an ordered map takes the tree's place, so that memory stays in
//! proportion to the segments. Both find the same rows.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::order::length_order;

/// Packs segments into rows of `capacity` tokens, at most `max_segments` to a
/// row, and returns how many rows that takes.
///
/// Writes into `row` each segment's row, and into `start` where in it the segment
/// begins. Rows are numbered as they are opened, and the segments of a row lie
/// without gaps, longest first. Segments of equal length are placed in the order
/// given; of several rows with equally little space, the one that came to it last
/// is taken. A segment without tokens takes no space, but counts towards
/// `max_segments`; it may start at `capacity`.
///
/// `row` and `start` must have as many elements as `lengths`; where the result
/// is `Ok`, all are written.
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
    for (index, &length) in lengths.iter().enumerate() {
        check(index, length, capacity)?;
    }
    let mut order = vec![MaybeUninit::uninit(); lengths.len()];
    length_order(lengths, true, &mut order)?;
    // More than `u32::MAX` segments there are not, so such a limit is none.
    let max_segments = u32::try_from(max_segments).unwrap_or(u32::MAX);
    let placed = Segments { lengths, order: &order, row, start };
    if capacity as usize <= 4 * lengths.len() + (1 << 16) {
        place(placed, capacity, max_segments, BitTree::new(capacity))
    } else {
        place(placed, capacity, max_segments, BTreeMap::new())
    }
}

/// Refuses a length that no row can hold.
fn check(index: usize, length: i32, capacity: i32) -> Result<()> {
    if length < 0 {
        let expected = "at least 0";
        return Err(Error::Element { argument: "lengths", index, value: length.into(), expected });
    }
    if length > capacity {
        return Err(Error::Limit {
            argument: "lengths",
            index,
            value: length.into(),
            limit: "capacity",
            at_most: capacity.into(),
        });
    }
    Ok(())
}

/// The segments, the order to place them in, and where to write their places.
struct Segments<'a> {
    lengths: &'a [i32],
    order: &'a [MaybeUninit<i64>],
    row: &'a mut [MaybeUninit<i64>],
    start: &'a mut [MaybeUninit<i32>],
}

/// A row that has been opened.
struct Row {
    /// The next row with as much free space, [`NONE`] after the last.
    next: u32,
    segments: u32,
}

/// No row. Rows are counted from 1 where they are linked, so that zeroed memory
/// holds no rows.
const NONE: u32 = 0;

/// For each free space, the first row that has exactly that.
trait FreeSpaces {
    /// The least free space of at least `length` that a row has, and that row.
    fn least(&self, length: i32) -> Option<(i32, u32)>;

    /// Makes `row` the first with `free` and returns the one that was.
    fn replace(&mut self, free: i32, row: u32) -> u32;
}

fn place(
    segments: Segments,
    capacity: i32,
    max_segments: u32,
    mut free_spaces: impl FreeSpaces,
) -> Result<usize> {
    let mut rows: Vec<Row> = Vec::new();
    for segment in segments.order {
        // SAFETY: `length_order` has written every element.
        let segment = unsafe { segment.assume_init() } as usize;
        let length = segments.lengths[segment];
        // Checked again: the lengths may have been written to meanwhile.
        check(segment, length, capacity)?;
        let (free, row) = match free_spaces.least(length) {
            Some((free, row)) => {
                free_spaces.replace(free, rows[row as usize - 1].next);
                (free, row)
            }
            None => {
                rows.push(Row { next: NONE, segments: 0 });
                (capacity, rows.len() as u32)
            }
        };
        segments.row[segment].write(i64::from(row) - 1);
        segments.start[segment].write(capacity - free);
        let used = &mut rows[row as usize - 1];
        used.segments += 1;
        if used.segments < max_segments {
            used.next = free_spaces.replace(free - length, row);
        }
    }
    Ok(rows.len())
}

/// First rows by free space, with a tree of bits over them: a bit of the lowest
/// level tells whether a free space has rows, a bit of any other whether a word
/// of the level below has bits.
struct BitTree {
    first: Vec<u32>,
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    fn new(capacity: i32) -> Self {
        let spaces = capacity as usize + 1;
        let mut levels = Vec::new();
        let mut words = spaces.div_ceil(64);
        levels.push(vec![0; words]);
        while words > 1 {
            words = words.div_ceil(64);
            levels.push(vec![0; words]);
        }
        Self { first: vec![NONE; spaces], levels }
    }

    /// The least free space of at least `at` that has rows.
    fn find(&self, at: usize) -> Option<usize> {
        let mut at = at;
        for (level, words) in self.levels.iter().enumerate() {
            let word = *words.get(at / 64)? & (!0 << (at % 64));
            if word != 0 {
                let mut found = at / 64 * 64 + word.trailing_zeros() as usize;
                for words in self.levels[..level].iter().rev() {
                    found = found * 64 + words[found].trailing_zeros() as usize;
                }
                return Some(found);
            }
            at = at / 64 + 1;
        }
        None
    }

    fn mark(&mut self, space: usize) {
        let mut at = space;
        for words in &mut self.levels {
            words[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    fn clear(&mut self, space: usize) {
        let mut at = space;
        for words in &mut self.levels {
            words[at / 64] &= !(1 << (at % 64));
            if words[at / 64] != 0 {
                break;
            }
            at /= 64;
        }
    }
}

impl FreeSpaces for BitTree {
    fn least(&self, length: i32) -> Option<(i32, u32)> {
        let free = self.find(length as usize)?;
        Some((free as i32, self.first[free]))
    }

    fn replace(&mut self, free: i32, row: u32) -> u32 {
        let space = free as usize;
        let before = std::mem::replace(&mut self.first[space], row);
        if before == NONE && row != NONE {
            self.mark(space);
        } else if before != NONE && row == NONE {
            self.clear(space);
        }
        before
    }
}

impl FreeSpaces for BTreeMap<i32, u32> {
    fn least(&self, length: i32) -> Option<(i32, u32)> {
        self.range(length..).next().map(|(&free, &row)| (free, row))
    }

    fn replace(&mut self, free: i32, row: u32) -> u32 {
        let before = if row == NONE { self.remove(&free) } else { self.insert(free, row) };
        before.unwrap_or(NONE)
    }
}
