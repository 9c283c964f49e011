//! A plan by definition: batches are decided one by one, and every choice of lengths is tried.

use std::collections::BTreeSet;

use windrow_core::plan::{BatchRows, Policy};

/// Rows and length of each batch.
pub type Batches = Vec<(i64, i64)>;

/// The rows of a batch at `length`: those at the longest length, doubled as often as the budget allows.
fn rows_at(policy: &Policy, length: i64, longest: i64, rows: i64) -> i64 {
    match policy.rows {
        BatchRows::Fixed(rows) => rows,
        BatchRows::Budget(tokens) => {
            let multiple = policy.row_multiple;
            let least = (tokens / longest / multiple * multiple)
                .min((rows as u64).next_multiple_of(multiple as u64) as i64);
            let doubled = (0..32).map(|doublings| least << doublings);
            let enough = doubled.clone().find(|&doubled| doubled >= rows).unwrap();
            doubled.filter(|&doubled| doubled <= enough && doubled * length <= tokens).max().unwrap_or(least)
        }
    }
}

/// The batches of sorted rows, decided one by one: each has the shortest length that holds its first row
/// and can begin there. With a budget, the batches of the last length divide their rows evenly.
fn naive_batches(policy: &Policy, filled: &[i64], lengths: &[i64]) -> Batches {
    let longest = *lengths.iter().max().unwrap();
    let mut batches = Vec::new();
    let mut row = 0;
    while row < filled.len() as i64 {
        let may_begin = |&&length: &&i64| {
            filled[row as usize] <= length && row % rows_at(policy, length, longest, filled.len() as i64) == 0
        };
        let length = *lengths.iter().filter(may_begin).min().unwrap();
        let rows = rows_at(policy, length, longest, filled.len() as i64);
        batches.push((rows, length));
        row += rows;
    }
    if let (BatchRows::Budget(_), Some(&last)) = (&policy.rows, batches.last()) {
        spread(&mut batches, last, filled.len() as i64, policy.row_multiple);
    }
    batches
}

/// Gives the batches that equal the last one the smallest equal number of rows that is enough for all.
fn spread(batches: &mut [(i64, i64)], last: (i64, i64), rows: i64, row_multiple: i64) {
    let (before, same): (Vec<(i64, i64)>, Vec<_>) = batches.iter().partition(|&&batch| batch != last);
    let left = rows - before.iter().map(|batch| batch.0).sum::<i64>();
    let enough = (1..).map(|times| times * row_multiple).find(|rows| rows * same.len() as i64 >= left);
    batches.iter_mut().filter(|batch| **batch == last).for_each(|batch| batch.0 = enough.unwrap());
}

/// [`naive_batches`] with this many rows in each batch, whatever the budget.
fn naive_small_batches(policy: &Policy, rows: i64, filled: &[i64], lengths: &[i64]) -> Batches {
    let mut batches =
        naive_batches(&Policy { rows: BatchRows::Fixed(rows), ..policy.clone() }, filled, lengths);
    if let Some(&last) = batches.last() {
        spread(&mut batches, last, filled.len() as i64, policy.row_multiple);
    }
    batches
}

/// The rows of the batches that are used if batches of 32 rows cost less than the budget's.
fn small_rows(policy: &Policy, filled: &[i64], longest: i64) -> Option<i64> {
    let BatchRows::Budget(_) = policy.rows else { return None };
    let least = rows_at(policy, longest, longest, filled.len() as i64);
    let fits = |&rows: &i64| rows <= least && rows % policy.row_multiple == 0;
    let few = filled.len() <= 256 && 32 % policy.row_multiple == 0;
    [32, 16, 8, 4, 2, 1].into_iter().find(fits).filter(|_| few)
}

/// All batches that these lengths can result in.
pub fn naive_choices(policy: &Policy, filled: &[i64], lengths: &[i64]) -> Vec<Batches> {
    let longest = *lengths.iter().max().unwrap();
    let small =
        small_rows(policy, filled, longest).map(|rows| naive_small_batches(policy, rows, filled, lengths));
    [naive_batches(policy, filled, lengths)].into_iter().chain(small).collect()
}

/// The tokens on the device in these batches, plus the price of their shapes.
pub fn cost(batches: &[(i64, i64)], shape_price: i64) -> i64 {
    let shapes: BTreeSet<_> = batches.iter().collect();
    let tokens: i64 = batches.iter().map(|(rows, length)| rows * length).sum();
    tokens + shape_price * (shapes.len() as i64 - 1)
}

/// The lowest cost of all choices of at most `max_shapes` of `lengths`.
pub fn least_cost(
    policy: &Policy,
    filled: &[i64],
    lengths: &[i64],
    max_shapes: i64,
    shape_price: i64,
) -> i64 {
    let (longest, others) = lengths.split_last().unwrap();
    let subset = |bits: u32| {
        let chosen = others.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1);
        chosen.map(|(_, &length)| length).chain([*longest]).collect::<Vec<_>>()
    };
    let least = |batches: &dyn Fn(&[i64]) -> Batches| {
        let subsets = (0..1 << others.len()).map(subset).filter(|subset| subset.len() as i64 <= max_shapes);
        subsets.map(|subset| cost(&batches(&subset), shape_price)).min().unwrap()
    };
    let asked = least(&|lengths| naive_batches(policy, filled, lengths));
    let Some(rows) = small_rows(policy, filled, *longest) else { return asked };
    let of_32 = Policy { rows: BatchRows::Fixed(32), ..policy.clone() };
    if asked <= least(&|lengths| naive_batches(&of_32, filled, lengths)) {
        return asked;
    }
    least(&|lengths| naive_small_batches(policy, rows, filled, lengths))
}
