//! The batches of a plan by definition, one after the other, and the least that
//! any choice of lengths costs, by trying all.

use windrow_core::plan::{BatchRows, Policy};

/// Rows of a batch of `length`: under a budget, those at the longest length, doubled while the budget
/// and the rows there are allow it.
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

/// Rows and length of each batch, where `filled` tells the tokens in each row, longest first: the
/// shortest of `lengths`, ascending, that holds the batch's first row and may begin there.
pub fn batches(policy: &Policy, filled: &[i32], lengths: &[i64]) -> Vec<(i64, i64)> {
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
    batches
}

/// Positions of these batches, and a price for each shape after the first.
pub fn cost(batches: &[(i64, i64)], shape_price: i64) -> i64 {
    let mut shapes = batches.to_vec();
    shapes.sort_unstable();
    shapes.dedup();
    let positions: i64 = batches.iter().map(|(rows, length)| rows * length).sum();
    positions + shape_price * (shapes.len() as i64 - 1)
}

/// The least cost of at most `max_shapes` of `candidates`, ascending, the longest always among them.
pub fn least_cost(
    policy: &Policy,
    filled: &[i32],
    candidates: &[i64],
    max_shapes: i64,
    shape_price: i64,
) -> i64 {
    let (longest, others) = candidates.split_last().expect("there are rows");
    let choices = (0..1_u32 << others.len()).filter(|bits| i64::from(bits.count_ones()) < max_shapes);
    let costs = choices.map(|bits| {
        let chosen = others.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        let chosen: Vec<i64> = chosen.map(|(_, &length)| length).chain([*longest]).collect();
        cost(&batches(policy, filled, &chosen), shape_price)
    });
    costs.min().expect("the longest alone is a choice")
}
