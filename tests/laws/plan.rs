//! Laws of plans, beside a plan that decides batch by batch and tries every choice of lengths.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use windrow_core::Error;
use windrow_core::plan::{BatchRows, Packing, PaddedLengths, Plan, Policy};

/// Rows of a batch at `length`, by the rule: doubled from those at the longest.
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

/// The batches of sorted rows, each decided when its turn comes: the shortest
/// length that holds its first row and may begin there. Under a budget the last
/// length's batches share their rows.
fn naive_batches(policy: &Policy, filled: &[i64], lengths: &[i64]) -> Vec<(i64, i64)> {
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

/// Gives the batches that are as the last as few rows as hold them all.
fn spread(batches: &mut [(i64, i64)], last: (i64, i64), rows: i64, row_multiple: i64) {
    let (before, same): (Vec<(i64, i64)>, Vec<_>) = batches.iter().partition(|&&batch| batch != last);
    let left = rows - before.iter().map(|batch| batch.0).sum::<i64>();
    let enough = (1..).map(|times| times * row_multiple).find(|rows| rows * same.len() as i64 >= left);
    batches.iter_mut().filter(|batch| **batch == last).for_each(|batch| batch.0 = enough.unwrap());
}

/// As [`naive_batches`] with so many rows in each, whatever the budget.
fn naive_small_batches(policy: &Policy, rows: i64, filled: &[i64], lengths: &[i64]) -> Vec<(i64, i64)> {
    let mut batches =
        naive_batches(&Policy { rows: BatchRows::Fixed(rows), ..policy.clone() }, filled, lengths);
    if let Some(&last) = batches.last() {
        spread(&mut batches, last, filled.len() as i64, policy.row_multiple);
    }
    batches
}

/// The rows of the batches that take the place of those of 32 where a budget costs more than they do.
fn small_rows(policy: &Policy, filled: &[i64], longest: i64) -> Option<i64> {
    let BatchRows::Budget(_) = policy.rows else { return None };
    let least = rows_at(policy, longest, longest, filled.len() as i64);
    let fits = |&rows: &i64| rows <= least && rows % policy.row_multiple == 0;
    let few = filled.len() <= 256 && 32 % policy.row_multiple == 0;
    [32, 16, 8, 4, 2, 1].into_iter().find(fits).filter(|_| few)
}

/// All batches that lengths may lead to.
fn naive_choices(policy: &Policy, filled: &[i64], lengths: &[i64]) -> Vec<Vec<(i64, i64)>> {
    let longest = *lengths.iter().max().unwrap();
    let small =
        small_rows(policy, filled, longest).map(|rows| naive_small_batches(policy, rows, filled, lengths));
    [naive_batches(policy, filled, lengths)].into_iter().chain(small).collect()
}

/// What the device pays for these batches, and the price of their shapes.
fn cost(batches: &[(i64, i64)], shape_price: i64) -> i64 {
    let shapes: BTreeSet<_> = batches.iter().collect();
    let tokens: i64 = batches.iter().map(|(rows, length)| rows * length).sum();
    tokens + shape_price * (shapes.len() as i64 - 1)
}

/// Rows and length of each batch.
type Batches = Vec<(i64, i64)>;

/// The least cost of all choices of at most `max_shapes` of `lengths`.
fn least_cost(policy: &Policy, filled: &[i64], lengths: &[i64], max_shapes: i64, shape_price: i64) -> i64 {
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

/// Everything that holds for every plan.
fn assert_laws(plan: &Plan, lengths: &[i32], identities: &[i64]) {
    let shapes: Vec<(i64, i64)> = (0..plan.batch_count() as i64)
        .map(|index| plan.batch(index).unwrap())
        .map(|batch| (batch.rows as i64, batch.length as i64))
        .collect();
    let rows = rows_of_the_inverse(plan, lengths, identities);
    let filled = assert_rows(plan, lengths, &shapes, &rows);
    assert_batches(plan, &shapes, &rows);
    assert_order(plan, lengths, identities, &shapes, &rows, filled);
    assert_segments_of_batches(plan, lengths.len());
    assert_statistics(plan, lengths, identities, &shapes, rows.len());
    assert_stored(plan);
}

/// For each batch and row the segments that hold it, and where they begin.
type Rows = BTreeMap<(i32, i32), BTreeMap<usize, i32>>;

/// Gathered from the inverse; sharing segments lie where the first of them lies.
fn rows_of_the_inverse(plan: &Plan, lengths: &[i32], identities: &[i64]) -> Rows {
    let mut rows = Rows::new();
    for (segment, &identity) in identities.iter().enumerate() {
        let place = |segment: usize| {
            (plan.batches()[segment], plan.rows()[segment], plan.starts()[segment], lengths[segment])
        };
        assert_eq!(place(segment), place(identity as usize));
        let (batch, row, start, _) = place(identity as usize);
        rows.entry((batch, row)).or_default().insert(identity as usize, start);
    }
    rows
}

/// Each row holds its segments end to end and within its length. Returns how much of each is filled.
fn assert_rows(plan: &Plan, lengths: &[i32], shapes: &[(i64, i64)], rows: &Rows) -> Vec<i64> {
    let of_row = |(&(batch, row), segments): (&(i32, i32), &BTreeMap<usize, i32>)| {
        let (batch_rows, length) = shapes[batch as usize];
        assert!(i64::from(row) < batch_rows);
        let mut spans: Vec<_> = segments.iter().map(|(&s, &start)| (start, start + lengths[s])).collect();
        spans.sort_unstable();
        assert!(spans[0].0 == 0 && spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "end to end");
        let most = match plan.policy().packing {
            None => 1,
            Some(Packing { max_segments }) => max_segments.unwrap_or(i64::MAX),
        };
        assert!(segments.len() as i64 <= most);
        let end = i64::from(spans.last().unwrap().1);
        assert!(end <= length);
        end
    };
    rows.iter().map(of_row).collect()
}

/// Rows are used from the first on; only the batch of the shortest rows has filler.
fn assert_batches(plan: &Plan, shapes: &[(i64, i64)], rows: &Rows) {
    let policy = plan.policy();
    let last = if policy.longest_first { shapes.len().wrapping_sub(1) } else { 0 };
    for (index, &(batch_rows, length)) in shapes.iter().enumerate() {
        let used = rows.keys().filter(|key| key.0 as usize == index).map(|key| key.1);
        let count = used.clone().count() as i64;
        assert!(used.eq(0..count as i32));
        assert!(count == batch_rows || (index == last && count > 0), "filler only in the last batch");
        assert_eq!(batch_rows % policy.row_multiple, 0);
        match policy.rows {
            BatchRows::Fixed(fixed) => assert_eq!(batch_rows, fixed),
            BatchRows::Budget(tokens) => assert!(batch_rows * length <= tokens),
        }
    }
}

/// Rows follow each other longest first, in the batches that the chosen lengths lead to.
fn assert_order(
    plan: &Plan,
    lengths: &[i32],
    identities: &[i64],
    shapes: &[(i64, i64)],
    rows: &Rows,
    filled: Vec<i64>,
) {
    let policy = plan.policy();
    let last = shapes.len() as i32 - 1;
    let turned = |batch: i32| if policy.longest_first { batch } else { last - batch };
    let mut sorted: Vec<_> = rows.iter().zip(filled).collect();
    sorted.sort_by_key(|((key, _), _)| (turned(key.0), key.1));
    let filled: Vec<i64> = sorted.iter().map(|(_, filled)| *filled).collect();
    assert!(filled.is_sorted_by(|one, next| one >= next));
    if policy.packing.is_none() {
        let mut expected: Vec<usize> = (0..lengths.len()).filter(|&s| identities[s] == s as i64).collect();
        expected.sort_by_key(|&segment| std::cmp::Reverse(lengths[segment]));
        assert!(sorted.iter().flat_map(|((_, row), _)| row.keys().copied()).eq(expected), "stable");
    }
    if !filled.is_empty() {
        let mut shapes = shapes.to_vec();
        if !policy.longest_first {
            shapes.reverse();
        }
        let chosen: Vec<i64> = match &policy.padded_lengths {
            PaddedLengths::Given(given) => given.iter().map(|&length| length.into()).collect(),
            _ => shapes.iter().map(|shape| shape.1).collect(),
        };
        assert!(naive_choices(policy, &filled, &chosen).contains(&shapes));
    }
}

/// The batches tell the same as the inverse.
fn assert_segments_of_batches(plan: &Plan, segments: usize) {
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let within = |&segment: &u32| plan.batches()[segment as usize] as usize == index;
        let mut expected: Vec<u32> = (0..segments as u32).filter(within).collect();
        expected.sort_by_key(|&s| (plan.rows()[s as usize], plan.starts()[s as usize], s));
        assert_eq!(batch.segments(0..batch.rows), expected);
    }
}

/// What can be counted again comes out the same.
fn assert_statistics(plan: &Plan, lengths: &[i32], identities: &[i64], shapes: &[(i64, i64)], rows: usize) {
    let statistics = plan.statistics();
    let holds = |segment: &usize| identities[*segment] == *segment as i64;
    let tokens = |segment: usize| lengths[segment] as u64;
    let real: u64 = (0..lengths.len()).map(tokens).sum();
    let in_rows: u64 = (0..lengths.len()).filter(holds).map(tokens).sum();
    let device: u64 = shapes.iter().map(|(rows, length)| (rows * length) as u64).sum();
    let batch_rows: i64 = shapes.iter().map(|shape| shape.0).sum();
    assert_eq!(statistics.segments, lengths.len());
    assert_eq!(statistics.shared_segments, lengths.len() - (0..lengths.len()).filter(holds).count());
    assert_eq!(statistics.rows, rows);
    assert_eq!(statistics.filler_rows, batch_rows as usize - rows);
    assert_eq!(statistics.batches, shapes.len());
    assert_eq!(statistics.real_tokens, real);
    assert_eq!(statistics.row_tokens, in_rows);
    assert_eq!(statistics.device_tokens, device);
    assert_eq!(statistics.padding_tokens(), device - in_rows);
    assert_eq!(statistics.shared_tokens(), real - in_rows);
    let mut distinct: Vec<(i64, i64)> = Vec::new();
    shapes.iter().for_each(|shape| {
        if !distinct.contains(shape) {
            distinct.push(*shape);
        }
    });
    assert!(plan.shapes().map(|shape| (shape.rows as i64, shape.length as i64)).eq(distinct));
    if let PaddedLengths::Best { max_shapes, .. } = plan.policy().padded_lengths {
        assert!(plan.shapes().len() as i64 <= max_shapes);
    }
}

/// A plan survives being stored.
fn assert_stored(plan: &Plan) {
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!(again.fingerprint(), plan.fingerprint());
    assert_eq!((again.batches(), again.rows(), again.starts()), (plan.batches(), plan.rows(), plan.starts()));
    assert_eq!(again.policy(), plan.policy());
}

/// Lengths, and for each segment the first that has the same input.
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
    fn every_plan_keeps_the_laws((lengths, identities) in segments(60, 60), policy in policies()) {
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
        // Few different lengths, so that all choices can be tried.
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

    /// What people would do without a budget.
    #[test]
    fn a_small_task_costs_no_more_than_in_batches_of_32(
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
    fn what_decides_a_plan_decides_its_fingerprint(
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
    fn stored_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0..40usize) {
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
fn the_example_of_the_module() {
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

/// Should this fail, a plan is no longer what other hosts and stored plans take it for.
#[test]
fn the_fingerprint_is_the_same_everywhere() {
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
fn nothing_at_all() {
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

#[test]
fn the_longest_lengths_there_are() {
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
fn refusals_name_what_is_wrong() {
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
        (vec![3, 3], vec![0], "identities has 1 elements; it must have 2,"),
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
fn a_plan_fits_on_a_screen() {
    let lengths: Vec<i32> = (1..500).collect();
    let policy = Policy { padded_lengths: PaddedLengths::Multiples(1), ..Policy::fixed(2) };
    let text = Plan::new(&lengths, None, policy).unwrap().to_string();
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("499 segments in 499 rows, 250 batches"), "{text}");
    assert!(text.contains("124,750 tokens in segments"), "{text}");
    assert!(text.ends_with("and 234 more shapes"), "{text}");
}

/// 100 rows would fill 69 and 31 of 2 × 69.
#[test]
fn rows_are_spread_evenly_over_the_last_batches() {
    let plan = |policy| Plan::new(&[100; 100], None, policy).unwrap();
    let shapes = |plan: &Plan| plan.shapes().map(|shape| (shape.batches, shape.rows)).collect::<Vec<_>>();
    assert_eq!(shapes(&plan(Policy::budget(6_900))), [(2, 50)]);
    assert_eq!(plan(Policy::budget(6_900)).statistics().filler_rows, 0);
    let by_eight = plan(Policy { row_multiple: 8, ..Policy::budget(6_900) });
    assert_eq!((shapes(&by_eight), by_eight.statistics().filler_rows), (vec![(2, 56)], 12));
    assert_eq!(shapes(&plan(Policy::fixed(69))), [(2, 69)], "a batch size is what was asked for");
}
