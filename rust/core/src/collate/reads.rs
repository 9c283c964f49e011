//! Finds where scores are read.
//!
//! The logits at a position predict the next token, so the token at index `k` of a segment is scored by the
//! logits at its input position `k − 1`. A *read* is one scored token; a *pick* is a position that some read
//! needs. Segments that share a row have the same input and are scored from some token to the last, so the
//! picks of a row are those of the segment with the most scored tokens, and the row has fewer picks than
//! reads. In a row of trees, segments read along their path, and again no position is picked twice.
//!
//! Picks are numbered within a *group* of rows, the rows of one device, so that each device picks among its
//! own positions. Every group has as many picks and reads as the largest one, so that one compiled program
//! serves all batches of a shape; unused entries refer to pick 0 and target 0.
//!
//! ```text
//! segments       [7 8 9 4] scored from 3, and [7 8 9 5] scored from 2, in row 1 of length 6
//! pick_index     [7, 8]      row 1, positions 1 and 2
//! read_pick      [1, 0, 1]   9 → 4 of the first; 8 → 9 and 9 → 5 of the second
//! read_target    [4, 9, 5]
//! ```

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::plan::{Batch, Plan, round_up};

use super::batch::{Sequences, check_size, sequence_begin};
use super::picks::{Path, Picks};

/// Rows of a batch, split into equal groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    rows: Range<usize>,
    rows_per_group: usize,
}

impl Groups {
    /// The groups, out of the batch's `groups` groups, that make up `rows`.
    pub fn new(batch: Batch, rows: Range<usize>, groups: i64) -> Result<Self> {
        let rows_per_group = rows_per_group(batch.rows, groups)?;
        for (argument, row) in [("row_start", rows.start), ("row_stop", rows.end)] {
            if row % rows_per_group != 0 {
                return Err(Error::Bound {
                    argument,
                    index: None,
                    value: row as i64,
                    relation: "a multiple of",
                    limit: rows_per_group as i64,
                    because: "the rows of a group",
                });
            }
        }
        Ok(Groups { rows, rows_per_group })
    }

    /// The number of groups.
    pub fn count(&self) -> usize {
        self.rows.len() / self.rows_per_group
    }

    /// The rows of each group.
    fn each(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows_per_group = self.rows_per_group;
        self.rows.clone().step_by(rows_per_group).map(move |first| first..first + rows_per_group)
    }
}

fn rows_per_group(rows: usize, groups: i64) -> Result<usize> {
    match usize::try_from(groups) {
        Ok(groups @ 1..) if rows.is_multiple_of(groups) => Ok(rows / groups),
        _ => Err(Error::Bound {
            argument: "groups",
            index: None,
            value: groups,
            relation: "at least 1 and a divisor of",
            limit: rows as i64,
            because: "the rows of a batch",
        }),
    }
}

/// The index of each segment's first scored token, checked when used.
#[derive(Clone, Copy)]
struct Scores<'a> {
    plan: &'a Plan,
    starts: &'a [i32],
}

impl<'a> Scores<'a> {
    fn new(plan: &'a Plan, starts: &'a [i32]) -> Result<Self> {
        check_size("score_starts", starts.len(), plan.lengths().len(), "one for each segment of the plan")?;
        Ok(Scores { plan, starts })
    }

    /// The indices of a segment's scored tokens.
    fn scored(&self, segment: u32) -> Result<Range<usize>> {
        let index = segment as usize;
        let (start, length) = (self.starts[index], self.plan.lengths()[index]);
        if start < 1 || start > length {
            return Err(Error::Bound {
                argument: "score_starts",
                index: Some(index),
                value: start.into(),
                relation: "at least 1 and at most",
                limit: length.into(),
                because: "so that one token or more is scored, each by the logits at the token before it",
            });
        }
        Ok(start as usize..length as usize + 1)
    }

    /// Among segments that share a row, the scored tokens of the segment that has the most, and the total
    /// number of scored tokens.
    fn shared(&self, segments: &[u32]) -> Result<(Range<usize>, usize)> {
        let mut longest = self.scored(segments[0])?;
        let mut reads = longest.len();
        for &segment in &segments[1..] {
            let scored = self.scored(segment)?;
            longest.start = longest.start.min(scored.start);
            reads += scored.len();
        }
        Ok((longest, reads))
    }

    /// The number of picks and reads of a group.
    fn count(&self, batch: Batch, rows: Range<usize>, picks: &mut Picks) -> Result<(usize, usize)> {
        let rows = batch.filled(rows);
        if self.plan.has_trees() {
            return self.count_in_trees(batch, rows, picks);
        }
        let (mut picks, mut reads) = (0, 0);
        for shared in rows.flat_map(|row| batch.shared(row)) {
            let (longest, more) = self.shared(shared)?;
            picks += longest.len();
            reads += more;
        }
        Ok((picks, reads))
    }

    fn count_in_trees(&self, batch: Batch, rows: Range<usize>, picks: &mut Picks) -> Result<(usize, usize)> {
        let (mut path, mut reads) = (Path::default(), 0);
        picks.begin();
        for row in rows {
            picks.next_row();
            for &segment in batch.segments(row..row + 1) {
                let scored = self.scored(segment)?;
                reads += scored.len();
                let read = scored.start - 1..scored.end - 1;
                for position in path.positions(self.plan, segment, read).flatten() {
                    picks.number(position, || Ok(()))?;
                }
            }
        }
        Ok((picks.count as usize, reads))
    }
}

/// The output of [`reads`]: `groups` × capacity each, group by group.
pub struct ReadArrays<'a> {
    /// Positions whose logits are needed, `row × length + position` within the group.
    pub pick_index: &'a mut [MaybeUninit<i32>],
    /// For each scored token, the pick that scores it.
    pub read_pick: &'a mut [MaybeUninit<i32>],
    /// The scored tokens.
    pub read_target: &'a mut [MaybeUninit<i32>],
}

/// Writes where the scores of these groups are read. A group's reads are in the order of the segments in its
/// rows, and each segment's tokens are in order.
pub fn reads(
    batch: Batch,
    groups: &Groups,
    sequences: Sequences,
    score_starts: &[i32],
    out: ReadArrays,
) -> Result<()> {
    let scores = Scores::new(batch.plan(), score_starts)?;
    let count = groups.count();
    if count == 0 {
        return Ok(());
    }
    let (pick_capacity, read_capacity) = (out.pick_index.len() / count, out.read_pick.len() / count);
    check_size("pick_index", out.pick_index.len(), count * pick_capacity, "as many for each group")?;
    check_size("read_pick", out.read_pick.len(), count * read_capacity, "as many for each group")?;
    check_size("read_target", out.read_target.len(), out.read_pick.len(), "as many as read_pick")?;
    let mut seen = Picks::default();
    for (index, rows) in groups.each().enumerate() {
        let (picks, reads) = scores.count(batch, rows.clone(), &mut seen)?;
        check_capacity("pick_capacity", pick_capacity, picks)?;
        check_capacity("read_capacity", read_capacity, reads)?;
        let of_group = |capacity: usize| index * capacity..(index + 1) * capacity;
        let mut group = Group {
            picks: Cursor::new("pick_capacity", &mut out.pick_index[of_group(pick_capacity)]),
            read_picks: Cursor::new("read_capacity", &mut out.read_pick[of_group(read_capacity)]),
            targets: Cursor::new("read_capacity", &mut out.read_target[of_group(read_capacity)]),
        };
        if batch.plan().has_trees() {
            group.add_trees(batch, batch.filled(rows), scores, sequences, &mut seen)?;
        } else {
            for (local_row, row) in batch.filled(rows).enumerate() {
                for shared in batch.shared(row) {
                    let first = local_row * batch.length + batch.span(shared[0]).start;
                    group.add(first, shared, scores, sequences)?;
                }
            }
        }
        group.picks.finish();
        group.read_picks.finish();
        group.targets.finish();
    }
    Ok(())
}

fn check_capacity(argument: &'static str, capacity: usize, needed: usize) -> Result<()> {
    if needed <= capacity {
        return Ok(());
    }
    Err(Error::Bound {
        argument,
        index: None,
        value: capacity as i64,
        relation: "at least",
        limit: needed as i64,
        because: "the need of a group in this batch; read_capacities returns the need of all batches of its shape",
    })
}

/// One group's part of the arrays.
struct Group<'a> {
    picks: Cursor<'a>,
    read_picks: Cursor<'a>,
    targets: Cursor<'a>,
}

impl Group<'_> {
    /// Adds segments that share the input starting at position `first`.
    fn add(&mut self, first: usize, shared: &[u32], scores: Scores, sequences: Sequences) -> Result<()> {
        let (longest, _) = scores.shared(shared)?;
        let first_pick = self.picks.used;
        self.picks.extend(longest.clone().map(|token| (first + token - 1) as i32))?;
        for &segment in shared {
            let scored = scores.scored(segment)?;
            let past =
                scored.start.checked_sub(longest.start).ok_or(Error::Changed { argument: "score_starts" })?;
            self.read_picks.extend((0..scored.len()).map(|token| (first_pick + past + token) as i32))?;
            self.targets.extend(sequences.tokens(segment)?[scored].iter().copied())?;
        }
        Ok(())
    }

    /// Adds rows in which segments share prefixes.
    fn add_trees(
        &mut self,
        batch: Batch,
        rows: Range<usize>,
        scores: Scores,
        sequences: Sequences,
        picks: &mut Picks,
    ) -> Result<()> {
        let mut path = Path::default();
        picks.begin();
        for (local_row, row) in rows.enumerate() {
            picks.next_row();
            let first = local_row * batch.length;
            for &segment in batch.segments(row..row + 1) {
                let scored = scores.scored(segment)?;
                self.targets.extend(sequences.tokens(segment)?[scored.clone()].iter().copied())?;
                let read = scored.start - 1..scored.end - 1;
                for position in path.positions(batch.plan(), segment, read).flatten() {
                    let pick = picks.number(position, || self.picks.push((first + position) as i32))?;
                    self.read_picks.push(pick)?;
                }
            }
        }
        Ok(())
    }
}

/// A range of memory that is written from its beginning on.
struct Cursor<'a> {
    argument: &'static str,
    slots: &'a mut [MaybeUninit<i32>],
    used: usize,
}

impl<'a> Cursor<'a> {
    fn new(argument: &'static str, slots: &'a mut [MaybeUninit<i32>]) -> Self {
        Cursor { argument, slots, used: 0 }
    }

    fn extend(&mut self, values: impl ExactSizeIterator<Item = i32>) -> Result<()> {
        let end = self.used + values.len();
        check_capacity(self.argument, self.slots.len(), end)?;
        for (slot, value) in self.slots[self.used..end].iter_mut().zip(values) {
            slot.write(value);
        }
        self.used = end;
        Ok(())
    }

    fn push(&mut self, value: i32) -> Result<()> {
        self.extend(std::iter::once(value))
    }

    /// Fills the rest with zeros.
    fn finish(self) {
        self.slots[self.used..].fill(MaybeUninit::new(0));
    }
}

/// Writes where each segment's reads begin and end in the concatenated reads of all groups: a pair for each
/// segment in the rows of these groups, in their order.
pub fn read_spans(
    batch: Batch,
    groups: &Groups,
    score_starts: &[i32],
    read_capacity: usize,
    out: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let scores = Scores::new(batch.plan(), score_starts)?;
    let segments = batch.segments(groups.rows.clone());
    check_size("out", out.len(), 2 * segments.len(), "two for each segment")?;
    let mut spans = out.chunks_exact_mut(2);
    for (index, rows) in groups.each().enumerate() {
        let first = index * read_capacity;
        let mut end = first;
        for (&segment, span) in batch.segments(rows).iter().zip(&mut spans) {
            span[0].write(end as i64);
            end += scores.scored(segment)?.len();
            span[1].write(end as i64);
        }
        check_capacity("read_capacity", read_capacity, end - first)?;
    }
    Ok(())
}

/// For each of the plan's shapes, writes the maximum numbers of picks and reads in a group of any of its
/// batches, each rounded up to a multiple.
pub fn read_capacities(
    plan: &Plan,
    offsets: &[i64],
    score_starts: &[i32],
    groups: i64,
    multiple: i64,
    out: &mut [MaybeUninit<i32>],
) -> Result<()> {
    check_size("offsets", offsets.len(), plan.lengths().len() + 1, "one more than the plan has segments")?;
    let scores = Scores::new(plan, score_starts)?;
    if !(1..=i32::MAX.into()).contains(&multiple) {
        let expected = "at least 1 and at most 2147483647";
        return Err(Error::Value { argument: "multiple", value: multiple, expected });
    }
    check_size("out", out.len(), 2 * plan.shapes().len(), "two for each shape")?;
    for segment in 0..plan.lengths().len() {
        sequence_begin(plan, offsets, segment as u32)?;
    }
    let (mut first_batch, mut seen) = (0, Picks::default());
    for (shape, slots) in plan.shapes().zip(out.chunks_exact_mut(2)) {
        let mut most = (0, 0);
        for batch in first_batch..first_batch + shape.batches {
            let batch = plan.batch(batch as i64)?;
            for rows in Groups::new(batch, 0..batch.rows, groups)?.each() {
                let (picks, reads) = scores.count(batch, rows, &mut seen)?;
                most = (most.0.max(picks), most.1.max(reads));
            }
        }
        first_batch += shape.batches;
        slots[0].write(capacity(most.0, multiple)?);
        slots[1].write(capacity(most.1, multiple)?);
    }
    Ok(())
}

fn capacity(most: usize, multiple: i64) -> Result<i32> {
    let rounded = round_up(most as i64, multiple);
    i32::try_from(rounded).map_err(|_| Error::Bound {
        argument: "a group's picks or reads, rounded up to multiple,",
        index: None,
        value: rounded,
        relation: "at most",
        limit: i32::MAX.into(),
        because: "so that int32 can count them; use more groups or smaller batches",
    })
}
