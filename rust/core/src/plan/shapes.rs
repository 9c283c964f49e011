//! Chooses the shapes of a plan, and the range of sorted rows that runs in each.
//!
//! Rows are sorted longest first. A padded length `L` may be used from the first row that fits it, but not in
//! the middle of a batch: a batch at a longer length is completed with the rows that follow. With `R(L)` rows
//! per batch,
//!
//! ```text
//! q(L) = the first row of length ≤ L
//! A(L) = q(L) rounded up to a multiple of R(L)
//! ```
//!
//! is where batches of length `L` begin. Under a token budget, `R(L)` is `R₀·2ʲ`, so that the number of rows
//! at a longer length divides that at a shorter one, and `A(L)` does not depend on which longer lengths are
//! used. A choice of lengths `L₁ > L₂ > …` therefore costs
//!
//! ```text
//! Σ Lᵢ · (A(Lᵢ₊₁) − A(Lᵢ)),   the last one ending at n rounded up to R(Lᵢ)
//! ```
//!
//! tokens on the device, which `least_cost_lengths` minimizes exactly.
//!
//! A budget is an upper limit, so batches of the last length need not have as many rows as it allows: they
//! have as few as hold the remaining rows in the same number of batches. This, too, depends only on the
//! length. The filler that remains is less than one row multiple per batch. If there are few rows, beginning
//! only at multiples of large batches may cost more than it saves: if batches of 32 rows cost less, those are
//! used, or batches of 32 rows halved until the budget allows them.

use crate::bucket::least_cost_lengths;
use crate::error::{Error, Result};

use super::policy::{BatchRows, PaddedLengths, Policy};

/// Under a budget, this many rows or fewer cost no more than in batches of [`SMALL_BATCH`].
const FEW_ROWS: usize = 256;
const SMALL_BATCH: i64 = 32;

/// Positions in a batch are `i32`.
const MOST_POSITIONS: i64 = i32::MAX as i64;

/// The batches of one shape, which take consecutive rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The number of rows in each batch.
    pub rows: usize,
    /// The padded length.
    pub length: usize,
    /// The number of batches with this shape.
    pub batches: usize,
    /// The index of its first row among all rows, longest first.
    pub(super) first_row: usize,
    /// The index of its first batch among all batches, longest first.
    pub(super) first_batch: usize,
}

impl Stretch {
    /// The tokens that the device computes for it.
    pub fn tokens(&self) -> u64 {
        (self.rows * self.length) as u64 * self.batches as u64
    }
}

/// Rows of one padded length, from `first_row` to that of the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub length: i64,
    pub first_row: usize,
}

/// A candidate for the length of batches.
struct Candidate {
    length: i64,
    /// The number of rows in a batch.
    rows: i64,
    /// The first row at which batches of this length may begin.
    begin: i64,
}

impl Candidate {
    /// The rows per batch and the number of batches, if this length is the last for `row_count` rows. Under a
    /// budget, batches have as few rows as hold all of them in the same number of batches.
    fn last(&self, policy: &Policy, row_count: i64) -> (i64, i64) {
        let left = row_count - self.begin;
        let batches = round_up(left, self.rows) / self.rows;
        let evenly = round_up(round_up(left, batches) / batches, policy.row_multiple);
        (if let BatchRows::Budget(_) = policy.rows { evenly } else { self.rows }, batches)
    }
}

/// The number of rows in a batch.
#[derive(Clone, Copy)]
enum Rows {
    /// This many.
    Same(i64),
    /// This many at the longest length, doubled while the budget allows it.
    Doubled { least: i64, tokens: i64 },
}

/// The shapes for `row_count` rows, given as `runs` of equal padded length, longest first. `longest` is the
/// maximum padded length.
///
/// This takes O(runs), plus the time for the choice.
pub(super) fn choose_stretches(policy: &Policy, runs: &[Run], row_count: usize) -> Result<Vec<Stretch>> {
    if row_count == 0 {
        return Ok(Vec::new());
    }
    let given: Vec<Run>;
    let runs = match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => {
            given = first_rows(lengths, runs);
            &given
        }
        _ => runs,
    };
    let least = least_rows(policy, runs[0].length, row_count as i64)?;
    let tokens = match policy.rows {
        BatchRows::Fixed(rows) => return Ok(stretches_of(policy, Rows::Same(rows), runs, row_count)),
        BatchRows::Budget(tokens) => tokens,
    };
    let stretches = stretches_of(policy, Rows::Doubled { least, tokens }, runs, row_count);
    if row_count <= FEW_ROWS && SMALL_BATCH % policy.row_multiple == 0 {
        let of_32 = Policy { rows: BatchRows::Fixed(SMALL_BATCH), ..policy.clone() };
        let small = stretches_of(&of_32, Rows::Same(SMALL_BATCH), runs, row_count);
        if cost(policy, &small) < cost(policy, &stretches) {
            // This many, or as many of them as the budget allows: batches of half as many rows never cost
            // more.
            let halves = (0..).map(|halvings| SMALL_BATCH >> halvings);
            let rows = halves.take_while(|rows| rows % policy.row_multiple == 0).find(|&rows| rows <= least);
            let rows = rows.unwrap_or(policy.row_multiple);
            return Ok(stretches_of(policy, Rows::Same(rows), runs, row_count));
        }
    }
    Ok(stretches)
}

/// The tokens that the device computes in these shapes, plus the price of the shapes.
fn cost(policy: &Policy, stretches: &[Stretch]) -> u64 {
    let shape_price = match policy.padded_lengths {
        PaddedLengths::Best { shape_price, .. } => shape_price as u64,
        _ => 0,
    };
    stretches.iter().map(|stretch| stretch.tokens() + shape_price).sum()
}

/// The shapes for batches with this many rows.
fn stretches_of(policy: &Policy, rows: Rows, runs: &[Run], row_count: usize) -> Vec<Stretch> {
    let mut candidates = candidates(rows, runs, row_count as i64);
    let last = |candidate: &Candidate| candidate.last(policy, row_count as i64);
    if let PaddedLengths::Best { max_shapes, shape_price, .. } = policy.padded_lengths {
        candidates = best(candidates, last, max_shapes, shape_price);
    }
    stretches(&candidates, last)
}

/// Every length worth considering, longest first.
fn candidates(rows: Rows, runs: &[Run], row_count: i64) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for run in runs {
        let of_batch = match rows {
            Rows::Same(rows) => rows,
            Rows::Doubled { least, tokens } => doubled(least, run.length, tokens, row_count),
        };
        let begin = round_up(run.first_row as i64, of_batch);
        if begin >= row_count {
            break;
        }
        // A shorter length that begins at the same row, with the same number of rows, is never worse.
        if candidates.last().is_some_and(|last| (last.rows, last.begin) == (of_batch, begin)) {
            candidates.pop();
        }
        candidates.push(Candidate { length: run.length, rows: of_batch, begin });
    }
    candidates
}

/// The first row that each of the given lengths, longest first, holds.
fn first_rows(lengths: &[i32], runs: &[Run]) -> Vec<Run> {
    let mut runs = runs.iter().peekable();
    let first = |&length: &i32| {
        let length = i64::from(length);
        while runs.peek().is_some_and(|run| run.length > length) {
            runs.next();
        }
        runs.peek().map(|run| Run { length, first_row: run.first_row })
    };
    lengths.iter().rev().map_while(first).collect()
}

/// The number of rows in a batch of the longest length.
fn least_rows(policy: &Policy, longest: i64, row_count: i64) -> Result<i64> {
    let multiple = policy.row_multiple;
    match policy.rows {
        BatchRows::Fixed(rows) if rows * longest > MOST_POSITIONS => Err(Error::Bound {
            argument: "batch_size",
            index: None,
            value: rows,
            relation: "at most",
            limit: MOST_POSITIONS / longest,
            because: "so that the positions of a batch at the longest padded length can be counted in int32",
        }),
        BatchRows::Fixed(rows) => Ok(rows),
        BatchRows::Budget(tokens) if tokens / longest < multiple => Err(Error::Bound {
            argument: "tokens_per_batch",
            index: None,
            value: tokens,
            relation: "at least",
            limit: longest * multiple,
            because: "row_multiple rows of the longest padded length",
        }),
        BatchRows::Budget(tokens) => {
            let rows = tokens / longest / multiple * multiple;
            Ok(rows.min(round_up(row_count, multiple)))
        }
    }
}

/// `rows`, doubled while the budget allows it and there are enough rows.
fn doubled(mut rows: i64, length: i64, tokens: i64, row_count: i64) -> i64 {
    while rows < row_count && 2 * rows * length <= tokens {
        rows *= 2;
    }
    rows
}

/// The smallest multiple that is at least `value`; both are at least 0.
pub(crate) fn round_up(value: i64, multiple: i64) -> i64 {
    (value as u64).next_multiple_of(multiple as u64) as i64
}

/// The candidates with the lowest total cost.
fn best(
    candidates: Vec<Candidate>,
    last: impl Fn(&Candidate) -> (i64, i64),
    max_shapes: i64,
    shape_price: i64,
) -> Vec<Candidate> {
    let lengths: Vec<i64> = candidates.iter().map(|candidate| candidate.length).collect();
    let starts: Vec<i64> = candidates.iter().map(|candidate| candidate.begin).collect();
    let end = |candidate: &Candidate| {
        let (rows, batches) = last(candidate);
        candidate.begin + rows * batches
    };
    let ends: Vec<i64> = candidates.iter().map(end).collect();
    let most = usize::try_from(max_shapes).unwrap_or(usize::MAX).min(candidates.len());
    let mut chosen = least_cost_lengths(&lengths, &starts, &ends, most, shape_price).into_iter().peekable();
    let mut index = 0..;
    candidates.into_iter().filter(|_| chosen.next_if_eq(&index.next().unwrap()).is_some()).collect()
}

/// Splits the rows into the ranges of the chosen lengths, without empty ones.
fn stretches(chosen: &[Candidate], last: impl Fn(&Candidate) -> (i64, i64)) -> Vec<Stretch> {
    let mut stretches = Vec::with_capacity(chosen.len());
    let mut first_batch = 0;
    for (index, candidate) in chosen.iter().enumerate() {
        let (rows, batches) = match chosen.get(index + 1) {
            Some(next) => (candidate.rows, (next.begin - candidate.begin) / candidate.rows),
            None => last(candidate),
        };
        if batches > 0 {
            let (rows, length, batches) = (rows as usize, candidate.length as usize, batches as usize);
            stretches.push(Stretch {
                rows,
                length,
                batches,
                first_row: candidate.begin as usize,
                first_batch,
            });
            first_batch += batches;
        }
    }
    stretches
}
