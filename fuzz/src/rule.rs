//! The batches of a plan by definition, decided one by one, and the lowest cost of
//! any choice of lengths, found by trying all of them.

use windrow_core::plan::{BatchRows, Policy};

/// The rows of a batch of `length`: under a budget, those at the longest length, doubled as often as the
/// budget and the number of rows allow.
fn batch_rows(policy: &Policy, length: i64, longest: i64, rows: i64) -> i64 {
    let tokens = match policy.rows {
        BatchRows::Fixed(rows) => return rows,
        BatchRows::Budget(tokens) => tokens,
    };
    let multiple = policy.row_multiple;
    let all = (rows as u64).next_multiple_of(multiple as u64) as i64;
    let mut batch = (tokens / longest / multiple * multiple).min(all);
    while batch < rows && batch * 2 * length <= tokens {
        batch *= 2;
    }
    batch
}

/// The rows of the batches that are used if batches of 32 rows cost less than the budget's.
fn small_rows(policy: &Policy, rows: usize, longest: i64) -> Option<i64> {
    if !matches!(policy.rows, BatchRows::Budget(_)) || rows > 256 || 32 % policy.row_multiple != 0 {
        return None;
    }
    let least = batch_rows(policy, longest, longest, rows as i64);
    [32, 16, 8, 4, 2, 1].into_iter().find(|rows| *rows <= least && rows % policy.row_multiple == 0)
}

/// [`batches`] with this many rows in each, except in the last ones, which divide theirs evenly.
fn small_batches(policy: &Policy, rows: i64, filled: &[i32], lengths: &[i64]) -> Vec<(i64, i64)> {
    let mut batches = batches(&Policy { rows: BatchRows::Fixed(rows), ..policy.clone() }, filled, lengths);
    spread(&mut batches, filled.len() as i64, policy.row_multiple);
    batches
}

/// All batches that `lengths` can result in.
pub fn choices(policy: &Policy, filled: &[i32], lengths: &[i64]) -> Vec<Vec<(i64, i64)>> {
    let small = small_rows(policy, filled.len(), lengths.last().copied().unwrap_or(1));
    let small = small.map(|rows| small_batches(policy, rows, filled, lengths));
    [batches(policy, filled, lengths)].into_iter().chain(small).collect()
}

/// Gives the batches that equal the last one the smallest equal number of rows that is enough for all.
fn spread(batches: &mut [(i64, i64)], rows: i64, row_multiple: i64) {
    let Some(&last) = batches.last() else { return };
    let count = batches.iter().filter(|&&batch| batch == last).count() as i64;
    let before: i64 = batches.iter().filter(|&&batch| batch != last).map(|batch| batch.0).sum();
    let evenly = ((rows - before) as u64).div_ceil(count as u64).next_multiple_of(row_multiple as u64);
    batches.iter_mut().filter(|batch| **batch == last).for_each(|batch| batch.0 = evenly as i64);
}

/// The rows and length of each batch, where `filled` is the number of tokens in each row, longest first:
/// the shortest of the ascending `lengths` that holds the batch's first row and can begin there. Under a
/// budget, the batches of the last length divide their rows evenly.
fn batches(policy: &Policy, filled: &[i32], lengths: &[i64]) -> Vec<(i64, i64)> {
    let (rows, longest) = (filled.len() as i64, lengths.last().copied().unwrap_or(1));
    let mut batches = Vec::new();
    let mut row = 0;
    while let Some(&tokens) = filled.get(row as usize) {
        let shape = |&length: &i64| (batch_rows(policy, length, longest, rows), length);
        let holds = |&(batch, length): &(i64, i64)| length >= tokens.into() && row % batch == 0;
        let batch = lengths.iter().map(shape).find(holds).expect("the longest holds all rows");
        batches.push(batch);
        row += batch.0;
    }
    if let BatchRows::Budget(_) = policy.rows {
        spread(&mut batches, rows, policy.row_multiple);
    }
    batches
}

/// The positions in these batches, plus a price for each shape after the first.
pub fn cost(batches: &[(i64, i64)], shape_price: i64) -> i64 {
    let mut shapes = batches.to_vec();
    shapes.sort_unstable();
    shapes.dedup();
    let positions: i64 = batches.iter().map(|(rows, length)| rows * length).sum();
    positions + shape_price * (shapes.len() as i64 - 1)
}

/// The lowest cost of at most `max_shapes` of the ascending `candidates`, including the longest.
pub fn least_cost(
    policy: &Policy,
    filled: &[i32],
    candidates: &[i64],
    max_shapes: i64,
    shape_price: i64,
) -> i64 {
    let (longest, others) = candidates.split_last().expect("there are rows");
    let least = |batches: &dyn Fn(&[i64]) -> Vec<(i64, i64)>| {
        let choices = (0..1_u32 << others.len()).filter(|bits| i64::from(bits.count_ones()) < max_shapes);
        let costs = choices.map(|bits| {
            let chosen = others.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            let chosen: Vec<i64> = chosen.map(|(_, &length)| length).chain([*longest]).collect();
            cost(&batches(&chosen), shape_price)
        });
        costs.min().expect("the longest alone is a choice")
    };
    let asked = least(&|lengths| batches(policy, filled, lengths));
    let Some(rows) = small_rows(policy, filled.len(), *longest) else { return asked };
    let of_32 = Policy { rows: BatchRows::Fixed(32), ..policy.clone() };
    if asked <= least(&|lengths| batches(&of_32, filled, lengths)) {
        return asked;
    }
    least(&|lengths| small_batches(policy, rows, filled, lengths))
}
