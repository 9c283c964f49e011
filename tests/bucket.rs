//! Laws of padded lengths, beside searches over every subset.

use proptest::prelude::*;
use windrow_core::bucket::least_cost_lengths;

/// Candidates as a plan makes them: lengths, starts and ends.
fn candidates(most: usize, longest: i64) -> impl Strategy<Value = (Vec<i64>, Vec<i64>, Vec<i64>)> {
    let one = (1..=longest, 0..6i64, 0..9i64);
    prop::collection::vec(one, 0..=most).prop_map(|parts| {
        let mut lengths: Vec<i64> = parts.iter().map(|part| part.0).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let mut starts = Vec::new();
        let mut ends = Vec::new();
        let mut start = 0;
        for part in &parts[..lengths.len()] {
            starts.push(start);
            ends.push(start + part.2);
            start += part.1;
        }
        (lengths, starts, ends)
    })
}

fn cost(chosen: &[usize], lengths: &[i64], starts: &[i64], ends: &[i64], price: i64) -> i128 {
    let mut total = price as i128 * (chosen.len() as i128 - 1);
    for (i, &j) in chosen.iter().enumerate() {
        let end = chosen.get(i + 1).map_or(ends[j], |&next| starts[next]);
        total += lengths[j] as i128 * (end - starts[j]) as i128;
    }
    total
}

/// The least cost over every subset that holds candidate 0, and the fewest lengths that reach it.
fn by_search(lengths: &[i64], starts: &[i64], ends: &[i64], max_shapes: usize, price: i64) -> (i128, usize) {
    (0u32..1 << (lengths.len() - 1))
        .map(|set| {
            let others = (1..lengths.len()).filter(|j| set >> (j - 1) & 1 == 1);
            let chosen: Vec<usize> = std::iter::once(0).chain(others).collect();
            (cost(&chosen, lengths, starts, ends, price), chosen.len())
        })
        .filter(|&(_, count)| count <= max_shapes)
        .min()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn least_cost_equals_search(
        (lengths, starts, ends) in candidates(9, 40),
        max_shapes in 1..11usize,
        price in 0..60i64,
    ) {
        let chosen = least_cost_lengths(&lengths, &starts, &ends, max_shapes, price);
        if lengths.is_empty() {
            prop_assert!(chosen.is_empty());
        } else {
            prop_assert_eq!(chosen[0], 0);
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            let found = (cost(&chosen, &lengths, &starts, &ends, price), chosen.len());
            prop_assert_eq!(found, by_search(&lengths, &starts, &ends, max_shapes, price));
        }
    }

    #[test]
    fn least_cost_holds_the_largest_numbers(
        steps in prop::collection::vec((1..1i64 << 27, 0..i64::MAX >> 4), 1..9),
        max_shapes in 1..9usize,
    ) {
        let mut lengths = vec![i32::MAX as i64];
        let mut starts = vec![0];
        for (shorter, later) in &steps[1..] {
            lengths.push(lengths[lengths.len() - 1] - shorter);
            starts.push(starts[starts.len() - 1] + later);
        }
        let ends = vec![i64::MAX; lengths.len()];
        let chosen = least_cost_lengths(&lengths, &starts, &ends, max_shapes, 0);
        let found = (cost(&chosen, &lengths, &starts, &ends, 0), chosen.len());
        prop_assert_eq!(found, by_search(&lengths, &starts, &ends, max_shapes, 0));
    }
}

#[test]
fn worked_example() {
    let choose = |max_shapes| least_cost_lengths(&[9, 5, 4], &[0, 1, 2], &[4, 4, 4], max_shapes, 0);
    assert_eq!(choose(1), [0]);
    assert_eq!(choose(2), [0, 1]);
    assert_eq!(choose(3), [0, 1, 2]);
}
