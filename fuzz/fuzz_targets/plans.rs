//! Plans and their batches' arrays: any input is planned or refused, and every
//! plan holds each segment once, in rows that follow the policy.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use windrow_core::collate::{Sequences, inputs, positions, row_lengths, segment_ids, targets};
use windrow_core::plan::{BatchRows, Packing, PaddedLengths, Plan, Policy};
use windrow_fuzz::{Length, Number, filled, plain, rule};

/// Batches with more positions than this take too long to check.
const MANY: usize = 1 << 14;

#[derive(Arbitrary, Debug)]
enum Padded {
    Multiples(Number),
    Given(Vec<Length>),
    Best { max_shapes: Number, multiple: Number, shape_price: Number },
}

#[derive(Arbitrary, Debug)]
struct Input {
    lengths: Vec<Length>,
    /// The kind of each segment; segments of equal kind and length have equal inputs.
    kinds: Option<Vec<u8>>,
    /// Arbitrary identities, valid or not.
    wild: Option<Vec<Number>>,
    rows: Number,
    row_multiple: Option<Number>,
    budget: bool,
    padded: Padded,
    packing: Option<Option<Number>>,
    longest_first: bool,
    stored: Vec<u8>,
}

fuzz_target!(|input: Input| {
    // Arbitrary bytes are read or refused.
    let _ = Plan::from_bytes(&input.stored);
    let lengths = plain(&input.lengths);
    let identities = match (&input.kinds, &input.wild) {
        (Some(kinds), _) => Some(same_kind(&lengths, kinds)),
        (None, Some(wild)) => Some(wild.iter().map(|identity| identity.0).collect()),
        (None, None) => None,
    };
    let Ok(plan) = Plan::new(&lengths, identities.as_deref(), policy(&input)) else { return };
    let identities = identities.unwrap_or_else(|| (0..lengths.len() as i64).collect());
    let rows = assert_places(&plan, &lengths, &identities);
    assert_batches(&plan, &rows);
    assert_statistics(&plan, &lengths, &rows);
    let stored = plan.to_bytes();
    let again = Plan::from_bytes(&stored).unwrap();
    assert_eq!((again.batches(), again.rows(), again.starts()), (plan.batches(), plan.rows(), plan.starts()));
    assert_eq!((again.policy(), again.fingerprint()), (plan.policy(), plan.fingerprint()));
    // With one byte changed, they are refused or give the same plan.
    for (at, &change) in input.stored.iter().enumerate().take(stored.len()) {
        let mut changed = stored.clone();
        changed[at] ^= change;
        if let Ok(other) = Plan::from_bytes(&changed) {
            assert_eq!(other, plan);
        }
    }
    assert_arrays(&plan, &rows);
});

fn policy(input: &Input) -> Policy {
    let row_multiple = input.row_multiple.map_or(1, |multiple| multiple.0);
    Policy {
        rows: match input.budget {
            true => BatchRows::Budget(input.rows.0.saturating_mul(64)),
            false => BatchRows::Fixed(input.rows.0.saturating_mul(row_multiple)),
        },
        row_multiple,
        padded_lengths: match &input.padded {
            Padded::Multiples(multiple) => PaddedLengths::Multiples(multiple.0),
            Padded::Given(lengths) => {
                let mut lengths = plain(lengths);
                lengths.sort_unstable();
                lengths.dedup();
                PaddedLengths::Given(lengths)
            }
            Padded::Best { max_shapes, multiple, shape_price } => PaddedLengths::Best {
                max_shapes: max_shapes.0,
                multiple: multiple.0,
                shape_price: shape_price.0,
            },
        },
        packing: input.packing.map(|most| Packing { max_segments: most.map(|most| most.0) }),
        longest_first: input.longest_first,
    }
}

/// For each segment, the first one of the same length and kind.
fn same_kind(lengths: &[i32], kinds: &[u8]) -> Vec<i64> {
    let kind = |segment: usize| (lengths[segment], kinds.get(segment).map_or(0, |kind| kind % 3));
    let first = |segment| (0..=segment).find(|&other| kind(other) == kind(segment));
    (0..lengths.len()).map(|segment| first(segment).unwrap() as i64).collect()
}

/// By batch and row, the spans in the row: start, end and segment (the first of those that share a span).
type Rows = BTreeMap<(i32, i32), Vec<(i32, i32, usize)>>;

/// Equal segments share a place; the others lie end to end and fit in their rows.
fn assert_places(plan: &Plan, lengths: &[i32], identities: &[i64]) -> Rows {
    let (batches, places, starts) = (plan.batches(), plan.rows(), plan.starts());
    let mut rows = Rows::new();
    for (segment, &identity) in identities.iter().enumerate() {
        let first = identity as usize;
        assert!(first <= segment && lengths[first] == lengths[segment]);
        let place = |segment: usize| (batches[segment], places[segment], starts[segment]);
        assert_eq!(place(segment), place(first));
        if first == segment {
            let span = (starts[segment], starts[segment] + lengths[segment], segment);
            rows.entry((batches[segment], places[segment])).or_default().push(span);
        }
    }
    let most = plan.policy().packing.as_ref().map_or(1, |packing| packing.max_segments.unwrap_or(i64::MAX));
    for (&(batch, row), spans) in &mut rows {
        spans.sort_unstable();
        let batch = plan.batch(batch.into()).unwrap();
        assert!((row as usize) < batch.rows && spans.len() as i64 <= most);
        assert!(spans[0].0 == 0 && spans.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(spans.last().unwrap().1 as usize <= batch.length);
    }
    rows
}

/// Rows fill batches longest first, batches have the policy's size, and list their segments.
fn assert_batches(plan: &Plan, rows: &Rows) {
    let policy = plan.policy();
    let count = plan.batch_count();
    let last = if policy.longest_first { count.saturating_sub(1) } else { 0 };
    let mut filled = vec![Vec::new(); count];
    for (&(batch, row), spans) in rows {
        let filled = &mut filled[batch as usize];
        assert_eq!(row as usize, filled.len(), "rows are used in order");
        filled.push(spans.last().unwrap().1);
    }
    for (index, filled) in filled.iter().enumerate() {
        let batch = plan.batch(index as i64).unwrap();
        assert!(filled.len() == batch.rows || (index == last && !filled.is_empty()));
        assert_eq!(batch.rows as i64 % policy.row_multiple, 0);
        match policy.rows {
            BatchRows::Fixed(rows) => assert_eq!(batch.rows as i64, rows),
            BatchRows::Budget(tokens) => assert!((batch.rows * batch.length) as i64 <= tokens),
        }
        match &policy.padded_lengths {
            PaddedLengths::Given(lengths) => assert!(lengths.contains(&(batch.length as i32))),
            PaddedLengths::Multiples(multiple) | PaddedLengths::Best { multiple, .. } => {
                assert_eq!(batch.length as i64 % multiple, 0);
            }
        }
        let place = |segment: u32| (plan.rows()[segment as usize], plan.starts()[segment as usize], segment);
        let segments = batch.segments(0..batch.rows);
        assert!(segments.is_sorted_by_key(|&segment| place(segment)));
        assert!(segments.iter().all(|&segment| plan.batches()[segment as usize] as usize == index));
    }
    let listed = |index| plan.batch(index).unwrap().segments(0..plan.batch(index).unwrap().rows).len();
    assert_eq!((0..count as i64).map(listed).sum::<usize>(), plan.lengths().len());
    let mut shapes: Vec<(i64, i64)> = (0..count as i64)
        .map(|index| plan.batch(index).unwrap())
        .map(|batch| (batch.rows as i64, batch.length as i64))
        .collect();
    if !policy.longest_first {
        filled.reverse();
        shapes.reverse();
    }
    let filled = filled.concat();
    assert!(filled.is_sorted_by(|one, next| one >= next));
    assert_rule(policy, &filled, &shapes);
}

/// The batches are those that the chosen lengths result in, and no other lengths cost less.
fn assert_rule(policy: &Policy, filled: &[i32], shapes: &[(i64, i64)]) {
    let mut lengths: Vec<i64> = match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => lengths.iter().map(|&length| length.into()).collect(),
        _ => shapes.iter().map(|shape| shape.1).collect(),
    };
    lengths.sort_unstable();
    lengths.dedup();
    assert!(rule::choices(policy, filled, &lengths).iter().any(|choice| choice == shapes));
    let PaddedLengths::Best { max_shapes, multiple, shape_price } = policy.padded_lengths else { return };
    let rounded = |&tokens: &i32| (tokens.max(1) as u64).next_multiple_of(multiple as u64) as i64;
    let mut candidates: Vec<i64> = filled.iter().rev().map(rounded).collect();
    candidates.dedup();
    if (1..=7).contains(&candidates.len()) {
        let least = rule::least_cost(policy, filled, &candidates, max_shapes, shape_price);
        assert_eq!(rule::cost(shapes, shape_price), least);
    }
}

fn assert_statistics(plan: &Plan, lengths: &[i32], rows: &Rows) {
    let statistics = plan.statistics();
    let batches = (0..plan.batch_count() as i64).map(|index| plan.batch(index).unwrap());
    let filled = rows.values().map(|spans| spans.last().unwrap().1 as u64);
    assert_eq!(statistics.segments, lengths.len());
    assert_eq!(statistics.rows, rows.len());
    assert_eq!(statistics.batches, plan.batch_count());
    assert_eq!(statistics.filler_rows, batches.clone().map(|batch| batch.rows).sum::<usize>() - rows.len());
    assert_eq!(statistics.real_tokens, lengths.iter().map(|&length| length as u64).sum());
    assert_eq!(statistics.row_tokens, filled.sum());
    assert_eq!(statistics.device_tokens, batches.map(|batch| (batch.rows * batch.length) as u64).sum());
    let mut shapes: Vec<(usize, usize)> = plan.shapes().map(|shape| (shape.rows, shape.length)).collect();
    if let PaddedLengths::Best { max_shapes, .. } = plan.policy().padded_lengths {
        assert!(shapes.len() as i64 <= max_shapes);
    }
    shapes.sort_unstable();
    assert!(shapes.is_sorted_by(|one, next| one < next), "each shape is listed once");
}

/// Compares every batch's arrays with arrays that are filled segment by segment.
fn assert_arrays(plan: &Plan, rows: &Rows) {
    let real: usize = plan.lengths().iter().map(|&length| length as usize + 1).sum();
    if real > MANY {
        return;
    }
    let mut offsets = vec![0];
    offsets.extend(plan.lengths().iter().scan(0, |end, &length| {
        *end += i64::from(length) + 1;
        Some(*end)
    }));
    let tokens: Vec<i32> = (0..real as i32).collect();
    let sequences = Sequences::new(plan, &tokens, &offsets).unwrap();
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let size = batch.rows.saturating_mul(batch.length);
        if size > MANY {
            continue;
        }
        let (mut tokens, mut next, mut ids, mut at) =
            (vec![-7; size], vec![-8; size], vec![0; size], vec![0; size]);
        let mut ends = vec![0; batch.rows];
        for (&(_, row), spans) in rows.range((index as i32, 0)..(index as i32 + 1, 0)) {
            let mut id = 0;
            for &(start, end, segment) in spans {
                id += i32::from(end > start);
                for position in start..end {
                    let token = offsets[segment] as i32 + position - start;
                    let place = row as usize * batch.length + position as usize;
                    (tokens[place], next[place], ids[place], at[place]) =
                        (token, token + 1, id, position - start);
                }
            }
            ends[row as usize] = spans.last().unwrap().1;
        }
        let all = || 0..batch.rows;
        let written = |array: windrow_core::Result<(Vec<i32>, ())>| array.unwrap().0;
        assert_eq!(written(filled(size, -1, |out| inputs(batch, all(), sequences, -7, out))), tokens);
        assert_eq!(written(filled(size, -1, |out| targets(batch, all(), sequences, -8, out))), next);
        assert_eq!(written(filled(size, -1, |out| segment_ids(batch, all(), out))), ids);
        assert_eq!(written(filled(size, -1, |out| positions(batch, all(), out))), at);
        assert_eq!(written(filled(batch.rows, -1, |out| row_lengths(batch, all(), out))), ends);
    }
}
