//! Fills the rows of a batch: the model's inputs, and the tokens that follow them.
//!
//! A segment is a complete sequence. The model sees all of its tokens but the last, and the target of each is
//! the next token.
//!
//! ```text
//! segments     [7 8 9 4] and [5 6 3] packed into a row of length 6
//! inputs       [7, 8, 9, 5, 6, 0]
//! targets      [8, 9, 4, 6, 3, 0]
//! segment_ids  [1, 1, 1, 2, 2, 0]
//! positions    [0, 1, 2, 0, 1, 0]
//! row_lengths   5
//! ```
//!
//! In a row of trees, a segment fills only the positions of its own tokens; see [`reach`](super::reach).

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::plan::{Batch, Plan};

/// The tokens of all segments, concatenated, and the index at which each begins, with one more at the end.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    plan: &'a Plan,
    tokens: &'a [i32],
    offsets: &'a [i64],
}

impl<'a> Sequences<'a> {
    /// The sequences of a plan's segments. Each offset is checked where it is used.
    pub fn new(plan: &'a Plan, tokens: &'a [i32], offsets: &'a [i64]) -> Result<Self> {
        check_size(
            "offsets",
            offsets.len(),
            plan.lengths().len() + 1,
            "one more than the plan has segments",
        )?;
        Ok(Sequences { plan, tokens, offsets })
    }

    /// The tokens of a segment, including the last.
    pub(super) fn tokens(&self, segment: u32) -> Result<&'a [i32]> {
        let begin = sequence_begin(self.plan, self.offsets, segment)?;
        let index = segment as usize;
        let Ok(first) = usize::try_from(begin) else {
            return Err(Error::Element { argument: "offsets", index, value: begin, expected: "at least 0" });
        };
        let end = first + self.plan.lengths()[index] as usize + 1;
        self.tokens.get(first..end).ok_or(Error::Bound {
            argument: "offsets",
            index: Some(index + 1),
            value: end as i64,
            relation: "at most",
            limit: self.tokens.len() as i64,
            because: "the number of tokens",
        })
    }
}

/// The index at which a segment's tokens begin, if their number matches the plan.
pub(super) fn sequence_begin(plan: &Plan, offsets: &[i64], segment: u32) -> Result<i64> {
    let segment = segment as usize;
    let (begin, end) = (offsets[segment], offsets[segment + 1]);
    let expected = begin.saturating_add(plan.lengths()[segment].into()).saturating_add(1);
    if end == expected {
        return Ok(begin);
    }
    Err(Error::Bound {
        argument: "offsets",
        index: Some(segment + 1),
        value: end,
        relation: "exactly",
        limit: expected,
        because: "the offset before it plus the plan's length of that segment plus 1: a segment's last token is \
                  a target, not an input",
    })
}

pub(super) fn check_size(
    argument: &'static str,
    size: usize,
    expected: usize,
    because: &'static str,
) -> Result<()> {
    if size == expected {
        return Ok(());
    }
    Err(Error::Size { argument, size, expected, because })
}

/// Writes the model's inputs, `rows.len()` × the batch's length, row by row.
pub fn inputs(
    batch: Batch,
    rows: Range<usize>,
    sequences: Sequences,
    fill: i32,
    out: &mut [MaybeUninit<i32>],
) -> Result<()> {
    fill_rows(batch, rows, fill, out, |slots, segment, _| {
        copy(slots, &sequences.tokens(segment)?[batch.plan().own(segment as usize)..])
    })
}

/// Writes the token after each input; if several may follow, that of the segment that holds the input itself.
pub fn targets(
    batch: Batch,
    rows: Range<usize>,
    sequences: Sequences,
    fill: i32,
    out: &mut [MaybeUninit<i32>],
) -> Result<()> {
    fill_rows(batch, rows, fill, out, |slots, segment, _| {
        copy(slots, &sequences.tokens(segment)?[batch.plan().own(segment as usize) + 1..])
    })
}

/// Writes the number of the segment, or tree, in its row to which each position belongs, counted from 1; 0 if
/// there is none. A segment without tokens has no number.
pub fn segment_ids(batch: Batch, rows: Range<usize>, out: &mut [MaybeUninit<i32>]) -> Result<()> {
    fill_rows(batch, rows, 0, out, |slots, _, id| {
        slots.fill(MaybeUninit::new(id));
        Ok(())
    })
}

/// Writes each position's index in its segment, or its depth in a tree; 0 if there is no token.
pub fn positions(batch: Batch, rows: Range<usize>, out: &mut [MaybeUninit<i32>]) -> Result<()> {
    fill_rows(batch, rows, 0, out, |slots, segment, _| {
        for (position, slot) in (batch.plan().own(segment as usize) as i32..).zip(slots) {
            slot.write(position);
        }
        Ok(())
    })
}

/// Writes the number of filled positions in each row.
pub fn row_lengths(batch: Batch, rows: Range<usize>, out: &mut [MaybeUninit<i32>]) -> Result<()> {
    check_size("out", out.len(), rows.len(), "one for each row")?;
    for (slot, row) in out.iter_mut().zip(rows) {
        let end = batch.shared(row).map(|shared| batch.span(shared[0]).end).max();
        slot.write(end.unwrap_or(0) as i32);
    }
    Ok(())
}

fn copy(slots: &mut [MaybeUninit<i32>], tokens: &[i32]) -> Result<()> {
    for (slot, &token) in slots.iter_mut().zip(tokens) {
        slot.write(token);
    }
    Ok(())
}

/// Calls `write` to fill the positions of every segment that has any, with the segment and its number, or its
/// tree's, in the row, and writes `fill` everywhere else.
fn fill_rows(
    batch: Batch,
    rows: Range<usize>,
    fill: i32,
    out: &mut [MaybeUninit<i32>],
    mut write: impl FnMut(&mut [MaybeUninit<i32>], u32, i32) -> Result<()>,
) -> Result<()> {
    check_size("out", out.len(), rows.len() * batch.length, "rows × length")?;
    for (slots, row) in out.chunks_exact_mut(batch.length).zip(rows) {
        let mut filled = 0;
        let mut id = 0;
        for shared in batch.shared(row) {
            let span = batch.span(shared[0]);
            if span.is_empty() {
                continue;
            }
            id += i32::from(batch.plan().own(shared[0] as usize) == 0);
            slots[filled..span.start].fill(MaybeUninit::new(fill));
            filled = span.end;
            write(&mut slots[span], shared[0], id)?;
        }
        slots[filled..].fill(MaybeUninit::new(fill));
    }
    Ok(())
}
