//! Laws of plans, which are compared with a naive planner that tries every choice of lengths.

mod laws;
mod naive;

use std::collections::BTreeSet;
use std::mem::MaybeUninit;

use crate::seeds::written;
use laws::assert_laws;
use naive::{cost, least_cost};
use proptest::prelude::*;
use windrow_core::Error;
use windrow_core::plan::{BatchRows, Packing, PaddedLengths, Plan, Policy};

/// Lengths, and the first segment with the same input as each one.
fn segments(longest: i32, most: usize) -> impl Strategy<Value = (Vec<i32>, Vec<i64>)> {
    let inputs = prop::collection::vec((0..=longest, 0..3u8), 0..=most);
    (inputs, any::<bool>()).prop_map(|(inputs, shared)| {
        let first = |segment: usize| inputs.iter().position(|input| *input == inputs[segment]).unwrap();
        let identities =
            (0..inputs.len()).map(|segment| if shared { first(segment) } else { segment } as i64);
        (inputs.iter().map(|input| input.0).collect(), identities.collect())
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let padded_lengths = prop_oneof![
        (1..5i64).prop_map(PaddedLengths::Multiples),
        prop::collection::btree_set(1..60, 0..6).prop_map(|mut lengths| {
            lengths.insert(60);
            PaddedLengths::Given(lengths.into_iter().collect())
        }),
        (1..6i64, 1..5i64, 0..40i64).prop_map(|(max_shapes, multiple, shape_price)| {
            PaddedLengths::Best { max_shapes, multiple, shape_price }
        }),
    ];
    let packing =
        prop::option::of(prop::option::of(1..4i64).prop_map(|max_segments| Packing { max_segments }));
    (any::<bool>(), 1..8i64, 1..4i64, padded_lengths, packing, any::<bool>()).prop_map(
        |(fixed, size, row_multiple, padded_lengths, packing, longest_first)| {
            let rows = if fixed {
                BatchRows::Fixed(size * row_multiple)
            } else {
                BatchRows::Budget(64 * row_multiple + size * 23)
            };
            Policy { rows, row_multiple, padded_lengths, packing, longest_first }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_obeys_the_laws((lengths, identities) in segments(60, 60), policy in policies()) {
        let plan = Plan::new(&lengths, Some(&identities), policy).unwrap();
        assert_laws(&plan, &lengths, &identities);
    }

    #[test]
    fn no_choice_of_lengths_costs_less(
        filled in prop::collection::vec(1..60i32, 1..40),
        kinds in 1..8usize,
        rows in prop_oneof![(1..9i64).prop_map(BatchRows::Fixed), (180..900i64).prop_map(BatchRows::Budget)],
        multiple in 1..4i64,
        max_shapes in 1..6i64,
        shape_price in prop_oneof![Just(0), 0..200i64],
    ) {
        // Few different lengths, so all choices can be tried.
        let kinds: Vec<i32> = filled.iter().copied().take(kinds).collect();
        let mut lengths: Vec<i32> = (0..filled.len()).map(|s| kinds[filled[s] as usize % kinds.len()]).collect();
        let row_multiple = if let BatchRows::Fixed(_) = rows { 1 } else { multiple };
        let padded_lengths = PaddedLengths::Best { max_shapes, multiple, shape_price };
        let policy = Policy { rows, row_multiple, padded_lengths, packing: None, longest_first: true };
        let plan = Plan::new(&lengths, None, policy.clone()).unwrap();

        let batches: Vec<_> = (0..plan.batch_count() as i64)
            .map(|index| plan.batch(index).unwrap())
            .map(|batch| (batch.rows as i64, batch.length as i64))
            .collect();
        lengths.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
        let sorted: Vec<i64> = lengths.iter().map(|&length| length.into()).collect();
        let candidates: BTreeSet<i64> =
            sorted.iter().map(|&length| (length as u64).next_multiple_of(multiple as u64) as i64).collect();
        let candidates: Vec<i64> = candidates.into_iter().collect();
        let least = least_cost(&policy, &sorted, &candidates, max_shapes, shape_price);
        prop_assert_eq!(cost(&batches, shape_price), least);
    }

    /// Batches of 32 rows are a usual choice without a budget.
    #[test]
    fn small_task_costs_no_more_than_in_batches_of_32(
        lengths in prop::collection::vec(prop_oneof![1..40i32, 1..400i32], 1..=256usize),
        policy in policies(), tokens in 400..20_000i64, row_multiple in prop::sample::select(vec![1, 2, 8]),
    ) {
        let padded_lengths = match policy.padded_lengths {
            PaddedLengths::Given(lengths) => {
                PaddedLengths::Given(lengths.into_iter().filter(|&length| length < 400).chain([400]).collect())
            }
            other => other,
        };
        let shape_price =
            if let PaddedLengths::Best { shape_price, .. } = padded_lengths { shape_price } else { 0 };
        let policy = Policy { padded_lengths, row_multiple, packing: None, ..policy };
        let of_rows = |rows| Plan::new(&lengths, None, Policy { rows, ..policy.clone() }).unwrap();
        let cost = |plan: Plan| {
            plan.statistics().device_tokens as i64 + shape_price * (plan.shapes().len() as i64 - 1)
        };
        let budget = of_rows(BatchRows::Budget(tokens * row_multiple));
        prop_assert!(cost(budget) <= cost(of_rows(BatchRows::Fixed(32))));
    }

    #[test]
    fn fingerprints_depend_on_everything_that_affects_a_plan(
        (lengths, identities) in segments(9, 12), policy in policies(), other in policies(), at in any::<prop::sample::Index>(),
    ) {
        let plan = Plan::new(&lengths, Some(&identities), policy.clone()).unwrap();
        let own = |lengths: &[i32]| Plan::new(lengths, None, policy.clone()).unwrap().fingerprint();
        let alone = identities.iter().enumerate().all(|(segment, &first)| segment as i64 == first);
        prop_assert_eq!(plan.fingerprint() == own(&lengths), alone);
        let otherwise = Plan::new(&lengths, Some(&identities), other.clone()).unwrap();
        prop_assert_eq!(plan == otherwise, policy == other);
        if !lengths.is_empty() {
            let mut longer = lengths.clone();
            longer[at.index(lengths.len())] += 1;
            prop_assert_ne!(own(&longer), own(&lengths));
        }
        let mut more = lengths.clone();
        more.push(0);
        prop_assert_ne!(own(&more), own(&lengths));
    }

    #[test]
    fn stored_bytes_are_read_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0..40usize) {
        let _ = Plan::from_bytes(&bytes);
        let stored = Plan::new(&[3, 1, 2], None, Policy::fixed(2)).unwrap().to_bytes();
        if let Some(short) = stored.len().checked_sub(cut + 1) {
            prop_assert!(Plan::from_bytes(&stored[..short]).is_err());
        }
        for (at, byte) in bytes.iter().enumerate().take(stored.len()) {
            let mut changed = stored.clone();
            changed[at] ^= byte;
            prop_assert!(*byte == 0 || Plan::from_bytes(&changed).is_err());
        }
    }
}

#[test]
fn module_example() {
    let identities = [0, 1, 2, 0, 4];
    let policy = Policy {
        padded_lengths: PaddedLengths::Best { max_shapes: 8, multiple: 1, shape_price: 0 },
        ..Policy::fixed(2)
    };
    let plan = Plan::new(&[5, 1, 3, 5, 2], Some(&identities), policy).unwrap();
    assert_laws(&plan, &[5, 1, 3, 5, 2], &identities);
    assert!(plan.shapes().map(|shape| (shape.rows, shape.length)).eq([(2, 5), (2, 2)]));
    assert_eq!(plan.batches(), [0, 1, 0, 0, 1]);
    assert_eq!(plan.rows(), [0, 1, 1, 0, 0]);
    assert_eq!(plan.starts(), [0; 5]);
}

/// If this fails, plans differ from stored ones, and from those of hosts with another version.
#[test]
fn fingerprint_is_stable() {
    let padded_lengths = || PaddedLengths::Best { max_shapes: 8, multiple: 1, shape_price: 4096 };
    let policy = Policy { padded_lengths: padded_lengths(), ..Policy::fixed(2) };
    let plan = Plan::new(&[5, 1, 3, 5, 2], Some(&[0, 1, 2, 0, 4]), policy).unwrap();
    assert_eq!(format!("{:016x}", plan.fingerprint()), FINGERPRINT);
    let packing = Some(Packing { max_segments: None });
    let policy = Policy { packing, padded_lengths: padded_lengths(), ..Policy::budget(10) };
    let plan = Plan::new(&[5, 1, 3, 5, 2], None, policy);
    assert_eq!(format!("{:016x}", plan.unwrap().fingerprint()), PACKED_FINGERPRINT);
}
const FINGERPRINT: &str = "85b7946316bba392";
const PACKED_FINGERPRINT: &str = "7b828f7da85b9163";

#[test]
fn no_segments() {
    for policy in [Policy::fixed(8), Policy::budget(8)] {
        let plan = Plan::new(&[], Some(&[]), policy).unwrap();
        assert_laws(&plan, &[], &[]);
        assert_eq!(plan.batch_count(), 0);
        assert_eq!(plan.batch(0).unwrap_err(), Error::NoBatch { batch: 0, batches: 0 });
        assert!(plan.to_string().contains("0 segments in 0 rows, 0 batches"));
    }
}

#[test]
fn segments_without_tokens_have_rows() {
    for packing in [None, Some(Packing { max_segments: None }), Some(Packing { max_segments: Some(2) })] {
        let plan = Plan::new(&[0, 0, 0], None, Policy { packing, ..Policy::fixed(2) }).unwrap();
        assert_laws(&plan, &[0, 0, 0], &[0, 1, 2]);
        assert!(plan.shapes().all(|shape| shape.length == 1), "no row is shorter than a token");
    }
}

/// The elements that `fill` writes, which cannot fail.
fn filled<T>(count: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    written(count, |out| {
        fill(out);
        Ok::<_, Error>(())
    })
    .unwrap()
}

#[test]
fn shapes_and_segments_are_written_in_execution_order() {
    for longest_first in [true, false] {
        let padded_lengths = PaddedLengths::Given(vec![2, 5]);
        let plan = Plan::new(
            &[5, 1, 4, 2, 2, 1],
            None,
            Policy { padded_lengths, longest_first, ..Policy::fixed(2) },
        )
        .unwrap();
        let mut expected = vec![[2, 5], [2, 2], [2, 2]];
        let mut segments = vec![vec![0, 2], vec![3, 4], vec![1, 5]];
        if !longest_first {
            expected.reverse();
            segments.reverse();
        }
        assert_eq!(filled(6, |out| plan.write_batch_shapes(out)), expected.concat());
        expected.dedup();
        assert_eq!(filled(4, |out| plan.write_shapes(out)), expected.concat());
        for (batch, expected) in (0..).zip(&segments) {
            let batch = plan.batch(batch).unwrap();
            let found = filled(2, |out| batch.write_segments(0..2, out));
            assert_eq!(&found, expected);
        }
    }
}

#[test]
fn displayed_policies() {
    let display = |policy: Policy| Plan::new(&[1, 2, 3], None, policy).unwrap().to_string();
    for (policy, expected) in [
        (Policy { row_multiple: 4, ..Policy::budget(64) }, "64 tokens per batch, rows a multiple of 4, "),
        (
            Policy { padded_lengths: PaddedLengths::Multiples(8), ..Policy::fixed(2) },
            "2 rows per batch, lengths the multiples of 8, longest first",
        ),
        (
            Policy {
                padded_lengths: PaddedLengths::Given(vec![2, 3]),
                longest_first: false,
                ..Policy::fixed(2)
            },
            "2 given lengths, shortest first",
        ),
        (
            Policy {
                padded_lengths: PaddedLengths::Best { max_shapes: 3, multiple: 4, shape_price: 1000 },
                ..Policy::fixed(2)
            },
            "the best 3 lengths among multiples of 4 at 1,000 tokens per shape",
        ),
        (Policy { packing: Some(Packing { max_segments: None }), ..Policy::fixed(2) }, ", packed, longest"),
        (
            Policy { packing: Some(Packing { max_segments: Some(2) }), ..Policy::fixed(2) },
            ", packed, at most 2 to a row, ",
        ),
    ] {
        let text = display(policy);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn longest_possible_lengths() {
    let lengths = [i32::MAX, 0, i32::MAX - 1, 7];
    for policy in [Policy::fixed(1), Policy::budget(i32::MAX.into())] {
        for packing in [None, Some(Packing { max_segments: None })] {
            let plan = Plan::new(&lengths, None, Policy { packing, ..policy.clone() }).unwrap();
            assert_laws(&plan, &lengths, &[0, 1, 2, 3]);
        }
    }
    let policy = Policy { padded_lengths: PaddedLengths::Multiples(128), ..Policy::fixed(1) };
    let error = Plan::new(&lengths, None, policy).unwrap_err().to_string();
    assert!(error.starts_with("lengths[0] is 2147483647; it must be at most 2147483520,"), "{error}");
    let error = Plan::new(&lengths, None, Policy::fixed(2)).unwrap_err().to_string();
    assert!(error.starts_with("batch_size is 2; it must be at most 1,"), "{error}");
}

#[test]
fn errors_name_the_argument() {
    let policy = Policy::fixed(8);
    let padded = |padded_lengths| Policy { padded_lengths, ..Policy::fixed(8) };
    let best =
        |max_shapes, multiple, shape_price| padded(PaddedLengths::Best { max_shapes, multiple, shape_price });
    let packed = |max_segments| Policy { packing: Some(Packing { max_segments }), ..Policy::fixed(8) };
    for (policy, expected) in [
        (Policy::fixed(0), "batch_size is 0;"),
        (Policy::fixed(1 << 31), "batch_size is 2147483648;"),
        (
            Policy { row_multiple: 3, ..policy.clone() },
            "batch_size is 8; it must be a multiple of row_multiple, which is 3",
        ),
        (Policy { row_multiple: 0, ..policy.clone() }, "row_multiple is 0;"),
        (Policy::budget(0), "tokens_per_batch is 0;"),
        (Policy::budget(4), "tokens_per_batch is 4; it must be at least 5,"),
        (Policy { row_multiple: 8, ..Policy::budget(39) }, "tokens_per_batch is 39; it must be at least 40,"),
        (best(0, 1, 0), "max_shapes is 0;"),
        (best(1, 0, 0), "padding_multiple is 0;"),
        (best(1, 1, -1), "shape_price is -1;"),
        (padded(PaddedLengths::Multiples(-4)), "padding_multiple is -4;"),
        (padded(PaddedLengths::Given(vec![])), "padded_lengths has 0 elements;"),
        (padded(PaddedLengths::Given(vec![0, 8])), "padded_lengths[0] is 0;"),
        (padded(PaddedLengths::Given(vec![8, 8])), "padded_lengths[1] is 8;"),
        (padded(PaddedLengths::Given(vec![2, 4])), "lengths[1] is 5; it must be at most 4,"),
        (packed(Some(0)), "max_segments is 0;"),
    ] {
        let error = Plan::new(&[3, 5], None, policy).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    for (lengths, identities, expected) in [
        (vec![3, -1], vec![0, 1], "lengths[1] is -1;"),
        (vec![3, 3], vec![0], "identities has 1 element; it must have 2,"),
        (vec![3, 3], vec![0, 2], "identities[1] is 2;"),
        (vec![3, 3], vec![0, -1], "identities[1] is -1;"),
        (vec![3, 3, 3], vec![0, 0, 1], "identities[2] is 1; it must be the first"),
        (vec![3, 4], vec![0, 0], "identities[1] is 0; it must be a segment of the same length"),
    ] {
        let error = Plan::new(&lengths, Some(&identities), policy.clone()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn displayed_plan_fits_on_a_screen() {
    let lengths: Vec<i32> = (1..500).collect();
    let policy = Policy { padded_lengths: PaddedLengths::Multiples(1), ..Policy::fixed(2) };
    let text = Plan::new(&lengths, None, policy).unwrap().to_string();
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("499 segments in 499 rows, 250 batches"), "{text}");
    assert!(text.contains("124,750 tokens in segments"), "{text}");
    assert!(text.ends_with("and 234 more shapes"), "{text}");
}

/// Otherwise, 100 rows would be 69 and 31 in two batches of 69.
#[test]
fn rows_are_spread_evenly_over_the_last_batches() {
    let plan = |policy| Plan::new(&[100; 100], None, policy).unwrap();
    let shapes = |plan: &Plan| plan.shapes().map(|shape| (shape.batches, shape.rows)).collect::<Vec<_>>();
    assert_eq!(shapes(&plan(Policy::budget(6_900))), [(2, 50)]);
    assert_eq!(plan(Policy::budget(6_900)).statistics().filler_rows, 0);
    let by_eight = plan(Policy { row_multiple: 8, ..Policy::budget(6_900) });
    assert_eq!((shapes(&by_eight), by_eight.statistics().filler_rows), (vec![(2, 56)], 12));
    assert_eq!(shapes(&plan(Policy::fixed(69))), [(2, 69)], "a given batch size is kept");
}
