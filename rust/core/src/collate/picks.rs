//! Finds the picks in rows of trees, in which several segments may read the same position.

use std::ops::Range;

use crate::plan::Plan;

/// Finds the positions of tokens that a segment shares with its parents.
#[derive(Default)]
pub(super) struct Path {
    /// Ranges of positions in the row; the last part of the path comes first.
    stretches: Vec<Range<usize>>,
}

impl Path {
    /// The positions in the row of a segment's tokens at these depths, as ranges in order.
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
                let begin = plan.start(segment) + first - own;
                self.stretches.push(begin..begin + end - first);
                end = first;
            }
            next = plan.parent(segment);
        }
        self.stretches.drain(..).rev()
    }
}

/// The pick at each position of a row.
#[derive(Default)]
pub(super) struct Picks {
    /// For each position, the row in which it was last picked, counted from 1, and the number of the pick.
    of_position: Vec<(u32, i32)>,
    row: u32,
    /// The number of picks.
    pub(super) count: i32,
}

impl Picks {
    /// Starts over. Entries of earlier rows are never mistaken for those of later ones.
    pub(super) fn begin(&mut self) {
        self.count = 0;
    }

    /// Moves on to another row.
    pub(super) fn next_row(&mut self) {
        self.row += 1;
    }

    /// The number of the pick at a position; calls `picked` the first time.
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
