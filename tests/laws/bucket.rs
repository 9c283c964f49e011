//! Laws of padded lengths, compared with searches over every subset.

use crate::seeds::{lengths, many_lengths, written};
use proptest::prelude::*;
use windrow_core::bucket::{self, choose_lengths, least_cost_lengths};
use windrow_core::{Error, Result};

fn round_up(lengths: &[i32], multiple: i32) -> Result<Vec<i32>> {
    written(lengths.len(), |slots| bucket::round_up(lengths, multiple, slots))
}

fn bucket_ids(lengths: &[i32], buckets: &[i32]) -> Result<Vec<i32>> {
    written(lengths.len(), |slots| bucket::bucket_ids(lengths, buckets, slots))
}

/// Candidates like those of a plan: lengths, starts and ends.
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

/// The lowest cost over every subset with candidate 0, and the smallest number of lengths with this cost.
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
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

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
    fn least_cost_does_not_overflow(
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

/// A length rounded up to a multiple; `None` if that is too large.
fn raised(length: i32, multiple: i32) -> Option<i32> {
    let (length, multiple) = (i64::from(length), i64::from(multiple));
    (0..).contains(&length).then(|| (length + multiple - 1) / multiple * multiple)?.try_into().ok()
}

/// The padded tokens if each length takes the smallest of `chosen` that holds it.
fn padded(lengths: &[i32], chosen: &[i32]) -> i128 {
    lengths.iter().map(|length| *chosen.iter().find(|chosen| *chosen >= length).unwrap() as i128).sum()
}

/// The fewest padded tokens over every set of multiples, and the smallest number of lengths that achieves it.
fn chosen_by_search(lengths: &[i32], max_shapes: i64, multiple: i32) -> (i128, usize) {
    let mut candidates: Vec<i32> = lengths.iter().map(|&length| raised(length, multiple).unwrap()).collect();
    candidates.sort_unstable();
    candidates.dedup();
    let sets = (1u32..1 << candidates.len()).map(|set| {
        (0..candidates.len()).filter(|i| set >> i & 1 == 1).map(|i| candidates[i]).collect::<Vec<i32>>()
    });
    sets.filter(|set| set.len() as i64 <= max_shapes && set.last() == candidates.last())
        .map(|set| (padded(lengths, &set), set.len()))
        .min()
        .unwrap()
}

fn assert_chosen_well(lengths: &[i32], max_shapes: i64, multiple: i32) {
    let chosen = choose_lengths(lengths, max_shapes, multiple).unwrap();
    if lengths.is_empty() {
        return assert!(chosen.is_empty());
    }
    assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|length| length % multiple == 0));
    assert_eq!((padded(lengths, &chosen), chosen.len()), chosen_by_search(lengths, max_shapes, multiple));
    let ids = bucket_ids(lengths, &chosen).unwrap();
    assert!(ids.iter().zip(lengths).all(|(&id, &length)| {
        chosen[id as usize] >= length && (id == 0 || chosen[id as usize - 1] < length)
    }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn choice_equals_search(
        lengths in prop::collection::vec(0..=14, 0..40),
        max_shapes in 1..9i64,
        multiple in 1..6,
    ) {
        assert_chosen_well(&lengths, max_shapes, multiple);
    }

    #[test]
    fn choice_among_distant_lengths_equals_search(
        lengths in prop::collection::vec(0..=i32::MAX - 1000, 0..9),
        max_shapes in 1..9i64,
        multiple in 1..1000,
    ) {
        assert_chosen_well(&lengths, max_shapes, multiple);
    }

    #[test]
    fn multiples_are_the_least(
        lengths in prop::collection::vec(any::<i32>().prop_map(|length| length & i32::MAX), 0..50),
        shift in 0..31u32,
        multiple in 1..=i32::MAX,
    ) {
        let multiple = (multiple >> shift).max(1i32);
        let expected: Option<Vec<i32>> = lengths.iter().map(|&length| raised(length, multiple)).collect();
        prop_assert_eq!(round_up(&lengths, multiple).ok(), expected);
    }

    #[test]
    fn ids_equal_search(
        lengths in prop::collection::vec(0..40, 0..50),
        mut buckets in prop::collection::vec(0..60, 0..9),
    ) {
        buckets.sort_unstable();
        buckets.dedup();
        let id = |length: &i32| buckets.iter().position(|bucket| bucket >= length).map(|id| id as i32);
        let expected: Option<Vec<i32>> = lengths.iter().map(id).collect();
        prop_assert_eq!(bucket_ids(&lengths, &buckets).ok(), expected);
    }
}

#[test]
fn lengths_are_chosen_well_for_all_seeds() {
    for lengths in lengths() {
        for max_shapes in [1, 2, 3, i64::MAX] {
            assert_chosen_well(&lengths, max_shapes, 1);
        }
    }
}

/// With many segments, the choice equals the kernel's on segments that are counted one by one.
#[test]
fn lengths_are_chosen_well_for_many_segments() {
    for lengths in many_lengths() {
        let mut sorted = lengths.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let runs: Vec<&[i32]> = sorted.chunk_by(|a, b| a == b).collect();
        let candidates: Vec<i64> = runs.iter().map(|run| run[0].into()).collect();
        let starts: Vec<i64> =
            runs.iter().scan(0, |sum, run| Some(std::mem::replace(sum, *sum + run.len() as i64))).collect();
        let ends = vec![lengths.len() as i64; runs.len()];
        let chosen = least_cost_lengths(&candidates, &starts, &ends, 5, 0);
        let chosen: Vec<i32> = chosen.into_iter().rev().map(|j| candidates[j] as i32).collect();
        assert_eq!(choose_lengths(&lengths, 5, 1).unwrap(), chosen);
        assert_eq!(round_up(&lengths, 1).unwrap(), lengths);
        let ids = bucket_ids(&lengths, &chosen).unwrap();
        assert!(
            ids.iter()
                .zip(lengths)
                .all(|(&id, length)| chosen.partition_point(|&c| c < length) == id as usize)
        );
    }
}

#[test]
fn lengths_that_need_no_padding_are_all_chosen() {
    let lengths: Vec<i32> = (0..3000).chain(500..700).collect();
    let all: Vec<i32> = (0..3000).collect();
    assert_eq!(choose_lengths(&lengths, 3000, 1).unwrap(), all);
    assert_eq!(choose_lengths(&lengths, i64::MAX, 1).unwrap(), all);
    assert_eq!(choose_lengths(&lengths, 1, 1).unwrap(), [2999]);
}

/// With this many lengths and shapes, the choice is traced in halves.
#[test]
fn one_length_of_each_cluster_is_chosen() {
    let lengths: Vec<i32> = (0..5000).map(|i| i / 5 * 10_000 + i % 5).collect();
    let longest_of_each: Vec<i32> = (0..1000).map(|cluster| cluster * 10_000 + 4).collect();
    assert_eq!(choose_lengths(&lengths, 1000, 1).unwrap(), longest_of_each);
}

fn refused<T>(argument: &'static str, index: usize, value: i64, expected: &'static str) -> Result<T> {
    Err(Error::Element { argument, index, value, expected })
}

#[test]
fn wrong_lengths_are_refused() {
    assert_eq!(round_up(&[3, -4], 2), refused("lengths", 1, -4, "at least 0"));
    assert_eq!(choose_lengths(&[3, -4], 2, 1), refused("lengths", 1, -4, "at least 0"));
    assert_eq!(bucket_ids(&[3, -4], &[5]), refused("lengths", 1, -4, "at least 0"));
    assert_eq!(bucket_ids(&[3, i32::MIN], &[i32::MAX]), refused("lengths", 1, i32::MIN.into(), "at least 0"));
    for mut lengths in many_lengths() {
        lengths[100_000] = -1;
        lengths[150_000] = -2;
        assert_eq!(round_up(&lengths, 1), refused("lengths", 100_000, -1, "at least 0"));
        assert_eq!(choose_lengths(&lengths, 9, 1), refused("lengths", 100_000, -1, "at least 0"));
        assert_eq!(bucket_ids(&lengths, &[i32::MAX]), refused("lengths", 100_000, -1, "at least 0"));
        assert_eq!(bucket_ids(&[512; 150_001], &[100, 512]).unwrap(), [1; 150_001]);
    }
}

#[test]
fn lengths_beyond_a_limit_are_refused() {
    let most = i32::MAX;
    let limit = "the greatest multiple of `multiple` in int32";
    let at_most = i64::from(most - 7);
    let refused = Error::Limit { argument: "lengths", index: 1, value: i64::from(most), limit, at_most };
    assert_eq!(round_up(&[most - 7, most], 8).as_ref(), Err(&refused));
    assert_eq!(choose_lengths(&[most - 7, most], 3, 8).as_ref(), Err(&refused));
    assert_eq!(round_up(&[0, most], most).unwrap(), [0, most]);
    assert_eq!(choose_lengths(&[0, 1], 2, most).unwrap(), [0, most]);

    let limit = "the last of bucket_lengths";
    let refused = |index| Error::Limit { argument: "lengths", index, value: 10, limit, at_most: 9 };
    assert_eq!(bucket_ids(&[9, 10], &[3, 9]), Err(refused(1)));
    let mut many = vec![9; 150_001];
    many[149_999] = 10;
    assert_eq!(bucket_ids(&many, &[3, 9]), Err(refused(149_999)));
    assert_eq!(bucket_ids(&[], &[]).unwrap(), []);
    let none = bucket_ids(&[1], &[]);
    assert!(matches!(none, Err(Error::Size { argument: "bucket_lengths", size: 0, expected: 1, .. })));
}

#[test]
fn wrong_bucket_lengths_are_refused() {
    let (above, least) = ("above the one before it", "at least 0");
    assert_eq!(bucket_ids(&[1], &[3, 3]), refused("bucket_lengths", 1, 3, above));
    assert_eq!(bucket_ids(&[1], &[3, 9, 5]), refused("bucket_lengths", 2, 5, above));
    assert_eq!(bucket_ids(&[], &[-1, 5]), refused("bucket_lengths", 0, -1, least));
    assert_eq!(bucket_ids(&[], &[3, i32::MIN]), refused("bucket_lengths", 1, i32::MIN.into(), least));
}

#[test]
fn wrong_numbers_are_refused() {
    let refused = |argument, value| Error::Value { argument, value, expected: "at least 1" };
    for multiple in [0, -1, i32::MIN] {
        assert_eq!(round_up(&[], multiple), Err(refused("multiple", multiple.into())));
        assert_eq!(choose_lengths(&[], 1, multiple), Err(refused("multiple", multiple.into())));
    }
    for max_shapes in [0, -1, i64::MIN] {
        assert_eq!(choose_lengths(&[], max_shapes, 1), Err(refused("max_shapes", max_shapes)));
    }
}

#[test]
fn sizes_must_agree() {
    let rounded = written(3, |slots| bucket::round_up(&[1], 1, slots));
    assert!(matches!(rounded, Err(Error::Size { argument: "rounded", size: 3, expected: 1, .. })));
    let ids = written(0, |slots| bucket::bucket_ids(&[1], &[1], slots));
    assert!(matches!(ids, Err(Error::Size { argument: "ids", size: 0, expected: 1, .. })));
}
