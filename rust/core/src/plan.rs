//! The plan: assigns each segment to a row, a batch and a shape.
//!
//! A plan is made once from the segments' lengths and never changes. It uses only integers and no hash
//! tables, so every host makes the same plan.
//!
//! # Rules
//!
//! 1. *Sharing.* Segments with equal inputs share a row. `identities` gives, for each segment, the first one
//!    with the same input.
//! 2. *Packing*, if requested, puts several segments into one row, end to end.
//! 3. *Order.* Rows are sorted longest first; rows of equal length keep their order.
//! 4. *Batches* take rows in that order. A batch has a fixed number of rows, or as many as a token budget
//!    allows: `R₀` rows at the longest padded length, and twice as many each time the length has become small
//!    enough, but not more than there are rows. Only the batch of the shortest rows can have spare rows,
//!    which are *filler*. Under a budget, the batches of the shortest rows share these rows evenly, so there
//!    is hardly any filler, and plans with at most 256 rows never cost more than with batches of 32: if they
//!    would, batches of 32 are used (or of 16, 8, … rows if the budget does not allow 32).
//! 5. *Padded lengths* are all multiples of a number, a given list, or the best few. The length of a batch is
//!    the smallest chosen length that holds its first row, except that a batch must begin at a multiple of
//!    its number of rows: until then, rows use the longer length, and the spare rows of a longer batch take
//!    the next shorter segments.
//! 6. *The best lengths* are those with the lowest cost: rows × length of whole batches, filler included,
//!    plus a price in tokens for each shape after the first, which accounts for its compilation.
//!
//! ```text
//! lengths                 [5, 1, 3, 5, 2]
//! identities              [0, 1, 2, 0, 4]      segment 3 has the input of segment 0
//! rows, longest first      0+3, 2, 4, 1
//! 2 rows a batch           [0+3, 2] [4, 1]     longest 5 and 2
//! shapes                   2 × 5,   2 × 2
//!
//! batches                 [0, 1, 0, 0, 1]
//! rows                    [0, 1, 1, 0, 0]
//! starts                  [0, 0, 0, 0, 0]
//! ```
//!
//! # Cost
//!
//! Planning takes linear time in the number of segments, apart from the choice of lengths (see `bucket`), and
//! keeps 16 bytes per segment, 20 if rows are shared, or 32 if they hold trees. The batch and row of each
//! segment, another 8 bytes, and the fingerprint are computed when they are first requested.

mod bytes;
mod layout;
mod policy;
mod shapes;
mod sharing;
mod statistics;
mod tree_lengths;
mod trees;

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{Error, Result};

pub use policy::{BatchRows, Packing, PaddedLengths, Policy, SHAPE_PRICE};
pub use shapes::Stretch;
pub(crate) use shapes::round_up;
pub use statistics::{Statistics, TreeTokens};
pub use trees::{Choice, Prefixes};

/// An immutable plan; see the [module](self).
#[derive(Clone, Debug)]
pub struct Plan {
    policy: Policy,
    lengths: Vec<i32>,
    /// The first segment with the same input; `None` if no row is shared.
    firsts: Option<Vec<u32>>,
    /// How segments share prefixes; `None` if they do not.
    trees: Option<trees::Trees>,
    /// Where in its row each segment begins; empty if rows hold trees, which know it.
    starts: Vec<i32>,
    members: layout::Members,
    /// Longest first, in whichever order the batches run.
    stretches: Vec<Stretch>,
    statistics: Statistics,
    /// The batch of each segment, and its row there; computed when they are first requested.
    places: OnceLock<[Vec<i32>; 2]>,
    /// Computed when it is first requested.
    fingerprint: OnceLock<u64>,
}

/// One batch of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'plan> {
    plan: &'plan Plan,
    /// The number of rows, filler included.
    pub rows: usize,
    /// The padded length.
    pub length: usize,
    /// The index of its first row among all rows.
    first_row: usize,
}

impl Plan {
    /// Plans segments of these lengths. `identities[i]` is the first segment with the same input as segment
    /// `i`, from `group_identical`; without it, nothing is shared.
    pub fn new(lengths: &[i32], identities: Option<&[i64]>, policy: Policy) -> Result<Self> {
        policy.check()?;
        let (lengths, longest) = sharing::admit_lengths(lengths)?;
        let firsts = match identities {
            Some(identities) => sharing::admit_identities(identities, &lengths)?,
            None => None,
        };
        layout::check_longest(&policy, &lengths, longest)?;
        let distinct = sharing::distinct(&lengths, firsts.as_deref());
        let mut statistics = Statistics::of_segments(&lengths, &distinct);
        let layout::Rows { filled, packed } = layout::rows(&policy, distinct)?;
        let sorted = layout::sort(&filled, policy.multiple())?;
        let row_count = filled.len();
        drop(filled);
        let stretches = shapes::choose_stretches(&policy, &sorted.runs, row_count)?;
        statistics.add_batches(row_count, &stretches);
        let rows = layout::sorted_rows(lengths.len(), firsts.as_deref(), packed.as_ref(), sorted.position);
        let starts = layout::starts(rows.len(), firsts.as_deref(), packed);
        let members = layout::members(&rows, row_count, &starts, 0..lengths.len() as u32);
        Ok(Plan {
            policy,
            lengths,
            firsts,
            trees: None,
            starts,
            members,
            stretches,
            statistics,
            places: OnceLock::new(),
            fingerprint: OnceLock::new(),
        })
    }

    /// Plans segments of these lengths so that each row holds a shared prefix only once.
    ///
    /// Row lengths are those of the given padded lengths with the lowest cost, or else the length of the
    /// longest segment, rounded up.
    pub fn of_trees(lengths: &[i32], prefixes: Prefixes, policy: Policy) -> Result<Self> {
        policy.check()?;
        let (lengths, longest) = sharing::admit_lengths(lengths)?;
        layout::check_longest(&policy, &lengths, longest)?;
        let laid = trees::lay(&policy, &lengths, longest, prefixes)?;
        Ok(Plan {
            policy,
            lengths,
            firsts: None,
            trees: Some(laid.trees),
            starts: Vec::new(),
            members: laid.members,
            stretches: laid.stretches,
            statistics: laid.statistics,
            places: OnceLock::new(),
            fingerprint: OnceLock::new(),
        })
    }

    /// Which segments share a row.
    fn shared(&self) -> bytes::Shared<'_> {
        match (&self.firsts, &self.trees) {
            (None, None) => bytes::Shared::Nothing,
            (Some(firsts), _) => bytes::Shared::Firsts(firsts),
            (None, Some(trees)) => bytes::Shared::Trees(trees),
        }
    }

    /// The policy of the plan.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The number of input tokens of each segment.
    pub fn lengths(&self) -> &[i32] {
        &self.lengths
    }

    /// The batch of each segment.
    pub fn batches(&self) -> &[i32] {
        &self.places()[0]
    }

    /// The row of each segment within its batch.
    pub fn rows(&self) -> &[i32] {
        &self.places()[1]
    }

    fn places(&self) -> &[Vec<i32>; 2] {
        let find = || layout::batches(&self.stretches, &self.members, self.policy.longest_first);
        self.places.get_or_init(find)
    }

    /// The position at which each segment begins in its row.
    pub fn starts(&self) -> &[i32] {
        self.trees.as_ref().map_or(&self.starts, |trees| &trees.columns()[0])
    }

    /// The position at which a segment begins in its row.
    pub fn start(&self, segment: usize) -> usize {
        self.trees.as_ref().map_or_else(|| self.starts[segment], |trees| trees.seats[segment][0]) as usize
    }

    /// The distinct shapes, in the order in which they first run.
    pub fn shapes(&self) -> impl ExactSizeIterator<Item = &Stretch> + Clone {
        let count = self.stretches.len();
        (0..count).map(move |index| {
            &self.stretches[if self.policy.longest_first { index } else { count - 1 - index }]
        })
    }

    /// Writes the rows and length of each shape, in the order in which they first run.
    pub fn write_shapes(&self, out: &mut [MaybeUninit<i32>]) {
        for (slots, shape) in out.chunks_exact_mut(2).zip(self.shapes()) {
            slots[0].write(shape.rows as i32);
            slots[1].write(shape.length as i32);
        }
    }

    /// Writes the rows and length of each batch.
    pub fn write_batch_shapes(&self, out: &mut [MaybeUninit<i32>]) {
        let shapes = self.shapes().flat_map(|shape| std::iter::repeat_n(shape, shape.batches));
        for (slots, shape) in out.chunks_exact_mut(2).zip(shapes) {
            slots[0].write(shape.rows as i32);
            slots[1].write(shape.length as i32);
        }
    }

    /// The statistics of the plan.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// A number that is the same on every platform for plans of the same segments under the same policy, and
    /// different otherwise.
    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let places = [self.batches(), self.rows(), &self.starts];
            bytes::fingerprint(&self.policy, &self.lengths, self.shared(), &self.stretches, places)
        })
    }

    /// Whether rows hold trees, in which segments share prefixes.
    pub fn has_trees(&self) -> bool {
        self.trees.is_some()
    }

    /// How row lengths were chosen, if rows hold trees.
    pub fn choice(&self) -> Option<&Choice> {
        self.trees.as_ref().map(|trees| &trees.choice)
    }

    /// The number of leading tokens that each segment shares with its parent; `None` without trees.
    pub fn all_own(&self) -> Option<&[i32]> {
        self.trees.as_ref().map(|trees| &trees.columns()[1][..])
    }

    /// The parent of each segment, −1 for none; `None` without trees.
    pub fn all_parents(&self) -> Option<&[i32]> {
        self.trees.as_ref().map(|trees| &trees.columns()[2][..])
    }

    /// The number of leading tokens that a segment shares with its parent.
    pub fn own(&self, segment: usize) -> usize {
        self.trees.as_ref().map_or(0, |trees| trees.seats[segment][1] as usize)
    }

    /// The segment that holds the tokens that a segment does not hold itself.
    pub fn parent(&self, segment: usize) -> Option<usize> {
        let [_, _, parent] = self.trees.as_ref()?.seats[segment];
        usize::try_from(parent).ok()
    }

    /// Whether rows may hold several segments.
    pub fn is_packed(&self) -> bool {
        self.policy.packing.is_some() || self.has_trees()
    }

    /// The number of batches.
    pub fn batch_count(&self) -> usize {
        self.statistics.batches
    }

    /// A batch, by its index in execution order.
    pub fn batch(&self, batch: i64) -> Result<Batch<'_>> {
        let batches = self.batch_count();
        let Some(index) = usize::try_from(batch).ok().filter(|&index| index < batches) else {
            return Err(Error::NoBatch { batch, batches });
        };
        let index = if self.policy.longest_first { index } else { batches - 1 - index };
        let after = self.stretches.partition_point(|stretch| stretch.first_batch <= index);
        let stretch = &self.stretches[after - 1];
        let first_row = stretch.first_row + (index - stretch.first_batch) * stretch.rows;
        Ok(Batch { plan: self, rows: stretch.rows, length: stretch.length, first_row })
    }

    /// A compact encoding from which [`Plan::from_bytes`] makes the same plan.
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes::write(&self.policy, &self.lengths, self.shared(), self.fingerprint())
    }

    /// The plan that was encoded as these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (recipe, fingerprint) = bytes::read(bytes)?;
        let (lengths, policy) = (&recipe.lengths, recipe.policy);
        let plan = match &recipe.sharing {
            bytes::Sharing::Nothing => Plan::new(lengths, None, policy)?,
            bytes::Sharing::Identities(identities) => Plan::new(lengths, Some(identities), policy)?,
            bytes::Sharing::Prefixes { order, shared, choice } => {
                Plan::of_trees(lengths, Prefixes { order, shared, choice }, policy)?
            }
        };
        if plan.fingerprint() != fingerprint {
            return Err(bytes::foreign(bytes));
        }
        Ok(plan)
    }
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Plan {}

impl<'plan> Batch<'plan> {
    /// The plan of this batch.
    pub fn plan(&self) -> &'plan Plan {
        self.plan
    }

    /// The rows from `start` to `stop`, exclusive; all from `start` on if `stop` is `None`.
    pub fn row_range(&self, start: i64, stop: Option<i64>) -> Result<Range<usize>> {
        let rows = self.rows as i64;
        let stop = stop.unwrap_or(rows);
        let refuse = |argument, value, limit, because| Error::Bound {
            argument,
            index: None,
            value,
            relation: "at least 0 and at most",
            limit,
            because,
        };
        if !(0..=rows).contains(&stop) {
            return Err(refuse("row_stop", stop, rows, "the rows of the batch"));
        }
        if !(0..=stop).contains(&start) {
            return Err(refuse("row_start", start, stop, "where the rows stop"));
        }
        Ok(start as usize..stop as usize)
    }

    /// The positions in the row of a segment's own tokens, which are all of its tokens unless the row holds
    /// trees.
    pub(crate) fn span(&self, segment: u32) -> Range<usize> {
        let segment = segment as usize;
        let start = self.plan.start(segment);
        start..start + self.plan.lengths[segment] as usize - self.plan.own(segment)
    }

    /// The rows among these that hold a segment; filler comes after them.
    pub(crate) fn filled(&self, rows: Range<usize>) -> Range<usize> {
        let filled = self.plan.statistics.rows.saturating_sub(self.first_row).min(self.rows);
        rows.start..rows.end.min(filled).max(rows.start)
    }

    /// The segments in these rows, ordered by row, start and number.
    pub fn segments(&self, rows: Range<usize>) -> &'plan [u32] {
        let members = &self.plan.members;
        let row_count = members.ends.len() - 1;
        let end = |row: usize| members.ends[(self.first_row + row).min(row_count)] as usize;
        &members.segments[end(rows.start)..end(rows.end)]
    }

    /// Writes the segments in these rows, ordered by row, start and number.
    pub fn write_segments(&self, rows: Range<usize>, out: &mut [MaybeUninit<i64>]) {
        for (slot, &segment) in out.iter_mut().zip(self.segments(rows)) {
            slot.write(segment.into());
        }
    }

    /// Writes the first segment of each row, in order of start and number; −1 for filler.
    pub fn write_rows(&self, out: &mut [MaybeUninit<i64>]) {
        for (row, slot) in out.iter_mut().enumerate() {
            slot.write(self.segments(row..row + 1).first().map_or(-1, |&segment| segment.into()));
        }
    }

    /// The segments of a row, grouped by start.
    pub(crate) fn shared(&self, row: usize) -> impl Iterator<Item = &'plan [u32]> {
        let start = |segment: u32| self.plan.start(segment as usize);
        self.segments(row..row + 1).chunk_by(move |&one, &other| start(one) == start(other))
    }
}
