//! Picks in rows of trees, where several segments may read one position.

use std::ops::Range;

use crate::plan::Plan;

/// Finds the positions of tokens that a segment shares with its parents.
#[derive(Default)]
pub(super) struct Path {
    /// Positions of the row, the last stretch of the path first.
    stretches: Vec<Range<usize>>,
}

impl Path {
    /// The positions in their row of a segment's tokens at these depths, in stretches, the first first.
    pub(super) fn positions(
        &mut self,
        plan: &Plan,
        segment: u32,
        depths: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> {
        self.stretches.clear();
        let Range { start, mut end } = depths;
        let mut next = Some(segment as usize);
        while let Some(segment) = next.filter(|_| end > start) {
            let own = plan.own(segment);
            if own < end {
                let first = own.max(start);
                let begin = plan.starts()[segment] as usize + first - own;
                self.stretches.push(begin..begin + end - first);
                end = first;
            }
            next = plan.parent(segment);
        }
        self.stretches.drain(..).rev()
    }
}

/// Which pick each position of a row is.
#[derive(Default)]
pub(super) struct Picks {
    /// The row that a position was last picked in, counted from 1, and the number of the pick.
    of_position: Vec<(u32, i32)>,
    row: u32,
    /// How many picks there are.
    pub(super) count: i32,
}

impl Picks {
    /// Begins anew. What earlier rows left behind is never taken for a later one's.
    pub(super) fn begin(&mut self) {
        self.count = 0;
    }

    /// Goes on to another row.
    pub(super) fn next_row(&mut self) {
        self.row += 1;
    }

    /// The number of a position's pick; calls `picked` where it is the first time.
    pub(super) fn number<E>(
        &mut self,
        position: usize,
        picked: impl FnOnce() -> Result<(), E>,
    ) -> Result<i32, E> {
        if self.of_position.len() <= position {
            self.of_position.resize(position + 1, (0, 0));
        }
        let (row, number) = &mut self.of_position[position];
        if *row != self.row {
            picked()?;
            (*row, *number) = (self.row, self.count);
            self.count += 1;
        }
        Ok(*number)
    }
}
