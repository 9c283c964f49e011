//! Prefix trees: the order equals that of whole segments, rows hold every prefix once, and plans and
//! their batches' arrays agree with both. Arbitrary orders and prices are used or refused.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use windrow_core::collate::{
    Groups, ReadArrays, Sequences, inputs, positions, reach, read_capacities, read_spans, reads, row_lengths,
    segment_ids, targets,
};
use windrow_core::plan::{Batch, Choice, PaddedLengths, Plan, Policy, Prefixes};
use windrow_core::prefix::{TreeRows, prefix_order, tree_rows};
use windrow_fuzz::{Length, Number, filled, plain};

/// Batches with more positions than this take too long to check.
const MANY: usize = 1 << 12;

#[derive(Arbitrary, Debug)]
struct Input {
    /// For each segment: the earlier one that it extends, the tokens kept of that one, and the tokens added.
    grown: Vec<(u8, u8, Vec<u8>)>,
    wild: Option<(Vec<Length>, Vec<Number>, Vec<Length>)>,
    capacity: Length,
    rows: Number,
    row_multiple: Number,
    budget: bool,
    padded: Option<Vec<Length>>,
    prices: Option<Vec<Number>>,
    max_shapes: Number,
    shape_price: Number,
    longest_first: bool,
}

fuzz_target!(|input: Input| {
    if let Some((lengths, order, shared)) = &input.wild {
        // Arbitrary input is laid out or refused.
        let order: Vec<i64> = order.iter().map(|number| number.0).collect();
        let (lengths, shared) = (plain(lengths), plain(shared));
        let _ = rows_of(&lengths, &order, &shared, input.capacity.0);
        let choice = choice(&input);
        let prefixes = Prefixes { order: &order, shared: &shared, choice: &choice };
        if let Ok(plan) = Plan::of_trees(&lengths, prefixes, policy(&input)) {
            assert_eq!(Plan::from_bytes(&plan.to_bytes()).unwrap(), plan);
        }
    }
    let segments = grow(&input.grown);
    let (order, shared) = sorted(&segments);
    let lengths: Vec<i32> = segments.iter().map(|segment| segment.len() as i32).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    assert_rows(&segments, &order, &shared, longest.saturating_add(input.capacity.0 & 63));
    let choice = choice(&input);
    let prefixes = Prefixes { order: &order, shared: &shared, choice: &choice };
    let Ok(plan) = Plan::of_trees(&lengths, prefixes, policy(&input)) else { return };
    assert_plan(&plan, &segments);
});

fn grow(grown: &[(u8, u8, Vec<u8>)]) -> Vec<Vec<i32>> {
    let mut segments: Vec<Vec<i32>> = Vec::new();
    for (from, keep, more) in grown.iter().take(64) {
        let from = segments.get(*from as usize % segments.len().max(1)).cloned().unwrap_or_default();
        let kept = from.into_iter().take(*keep as usize);
        let token = |&byte: &u8| if byte == 255 { i32::MIN } else { i32::from(byte % 5) - 1 };
        segments.push(kept.chain(more.iter().take(40).map(token)).collect());
    }
    segments
}

fn choice(input: &Input) -> Choice {
    Choice {
        row_prices: input.prices.as_ref().map(|prices| prices.iter().map(|price| price.0).collect()),
        max_shapes: input.max_shapes.0,
        shape_price: input.shape_price.0,
    }
}

fn policy(input: &Input) -> Policy {
    let rows = input.rows.0.saturating_mul(input.row_multiple.0);
    let policy = if input.budget { Policy::budget(rows.saturating_mul(64)) } else { Policy::fixed(rows) };
    let padded_lengths = match &input.padded {
        None => PaddedLengths::Multiples(1),
        Some(lengths) => {
            let lengths: BTreeSet<i32> = plain(lengths).into_iter().take(6).collect();
            PaddedLengths::Given(lengths.into_iter().collect())
        }
    };
    Policy {
        padded_lengths,
        row_multiple: input.row_multiple.0,
        longest_first: input.longest_first,
        ..policy
    }
}

fn sorted(segments: &[Vec<i32>]) -> (Vec<i64>, Vec<i32>) {
    let mut offsets = vec![0];
    for segment in segments {
        offsets.push(offsets.last().unwrap() + segment.len() as i64);
    }
    let tokens = segments.concat();
    let (order, shared) = filled(segments.len(), -1, |order| {
        filled(segments.len(), -1, |shared| prefix_order(&tokens, &offsets, order, shared))
            .map(|(shared, ())| shared)
    })
    .unwrap();
    let mut expected: Vec<usize> = (0..segments.len()).collect();
    expected.sort_by_key(|&segment| (&segments[segment], segment));
    assert!(order.iter().map(|&segment| segment as usize).eq(expected.iter().copied()));
    for (at, &shared) in shared.iter().enumerate() {
        let pair = at.checked_sub(1).map(|before| (&segments[expected[before]], &segments[expected[at]]));
        let common = pair.map_or(0, |(one, other)| one.iter().zip(other).take_while(|(a, b)| a == b).count());
        assert_eq!(shared as usize, common);
    }
    (order, shared)
}

struct Rows {
    count: usize,
    row: Vec<i64>,
    start: Vec<i32>,
    own: Vec<i32>,
    parent: Vec<i64>,
}

fn rows_of(lengths: &[i32], order: &[i64], shared: &[i32], capacity: i32) -> windrow_core::Result<Rows> {
    let size = lengths.len();
    let (row, (parent, (start, (own, count)))) = filled(size, -2, |row| {
        filled(size, -2, |parent| {
            filled(size, -2, |start| {
                filled(size, -2, |own| {
                    tree_rows(lengths, order, shared, capacity, TreeRows { row, start, own, parent })
                })
            })
        })
    })?;
    Ok(Rows { count, row, start, own, parent })
}

/// The position in its row of each token of a segment.
fn path(
    segment: usize,
    length: usize,
    start: &[i32],
    own: &[i32],
    parent: impl Fn(usize) -> i64,
) -> Vec<usize> {
    let at = |token: usize| {
        let mut holder = segment;
        while token < own[holder] as usize {
            holder = parent(holder) as usize;
        }
        start[holder] as usize + token - own[holder] as usize
    };
    (0..length).map(at).collect()
}

type Slots<'a> = BTreeMap<usize, &'a [i32]>;

fn assert_rows(segments: &[Vec<i32>], order: &[i64], shared: &[i32], capacity: i32) {
    let lengths: Vec<i32> = segments.iter().map(|segment| segment.len() as i32).collect();
    let rows = rows_of(&lengths, order, shared, capacity).unwrap();
    let mut slots = vec![Slots::new(); rows.count];
    let mut prefixes: Vec<BTreeSet<&[i32]>> = vec![BTreeSet::new(); rows.count];
    for (segment, tokens) in segments.iter().enumerate() {
        let row = rows.row[segment] as usize;
        let path = path(segment, tokens.len(), &rows.start, &rows.own, |holder| rows.parent[holder]);
        for (end, slot) in (1..).zip(path) {
            assert!(slot < capacity as usize);
            assert_eq!(*slots[row].entry(slot).or_insert(&tokens[..end]), &tokens[..end]);
            prefixes[row].insert(&tokens[..end]);
        }
    }
    for (slots, prefixes) in slots.iter().zip(&prefixes) {
        assert!(slots.keys().copied().eq(0..prefixes.len()), "every prefix is stored once");
    }
}

fn assert_plan(plan: &Plan, segments: &[Vec<i32>]) {
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!((again.fingerprint(), again.choice()), (plan.fingerprint(), plan.choice()));
    assert_eq!((again.all_own(), again.all_parents()), (plan.all_own(), plan.all_parents()));
    let (own, parents) = (plan.all_own().unwrap(), plan.all_parents().unwrap());
    let mut rows: BTreeMap<(i32, i32), Slots> = BTreeMap::new();
    let paths: Vec<Vec<usize>> = (0..segments.len())
        .map(|segment| {
            path(segment, segments[segment].len(), plan.starts(), own, |holder| parents[holder].into())
        })
        .collect();
    for (segment, tokens) in segments.iter().enumerate() {
        let row = rows.entry((plan.batches()[segment], plan.rows()[segment])).or_default();
        for (end, &slot) in (1..).zip(&paths[segment]) {
            assert_eq!(*row.entry(slot).or_insert(&tokens[..end]), &tokens[..end]);
        }
    }
    let statistics = plan.statistics();
    assert_eq!(statistics.rows, rows.len());
    assert_eq!(statistics.row_tokens as usize, rows.values().map(BTreeMap::len).sum::<usize>());
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        if batch.rows.saturating_mul(batch.length) <= MANY {
            assert_arrays(batch, index as i32, segments, &rows);
        }
    }
    if segments.iter().all(|segment| !segment.is_empty()) {
        assert_reads(plan, segments, &paths);
    }
}

/// The segments' tokens with one more token each, and their offsets.
fn whole(segments: &[Vec<i32>]) -> (Vec<i32>, Vec<i64>) {
    let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
    for (segment, last) in segments.iter().zip(100..) {
        tokens.extend_from_slice(segment);
        tokens.push(last);
        offsets.push(tokens.len() as i64);
    }
    (tokens, offsets)
}

fn assert_arrays(batch: Batch, index: i32, segments: &[Vec<i32>], rows: &BTreeMap<(i32, i32), Slots>) {
    let (tokens, offsets) = whole(segments);
    let sequences = Sequences::new(batch.plan(), &tokens, &offsets).unwrap();
    let (size, all) = (batch.rows * batch.length, || 0..batch.rows);
    let (seen, ()) = filled(size, -9, |out| inputs(batch, all(), sequences, -7, out)).unwrap();
    filled(size, -9, |out| targets(batch, all(), sequences, -8, out)).unwrap();
    let (ids, ()) = filled(size, -9, |out| segment_ids(batch, all(), out)).unwrap();
    let (depths, ()) = filled(size, -9, |out| positions(batch, all(), out)).unwrap();
    let (reach, ()) = filled(size, -9, |out| reach(batch, all(), out)).unwrap();
    let (ends, ()) = filled(batch.rows, -9, |out| row_lengths(batch, all(), out)).unwrap();
    let none = Slots::new();
    for row in 0..batch.rows {
        let slots = rows.get(&(index, row as i32)).unwrap_or(&none);
        assert_eq!(ends[row] as usize, slots.len());
        let at = |position: usize| row * batch.length + position;
        for key in 0..batch.length {
            let (token, depth, filled) = match slots.get(&key) {
                Some(prefix) => (prefix[prefix.len() - 1], prefix.len() as i32 - 1, true),
                None => (-7, 0, false),
            };
            assert_eq!((seen[at(key)], depths[at(key)], ids[at(key)] > 0), (token, depth, filled));
            for query in 0..batch.length {
                let sees = key <= query && query < reach[at(key)] as usize;
                let on_path = match (slots.get(&query), slots.get(&key)) {
                    (Some(query), Some(key)) => query.starts_with(key),
                    _ => query == key,
                };
                assert_eq!(sees, on_path);
            }
        }
    }
}

fn assert_reads(plan: &Plan, segments: &[Vec<i32>], paths: &[Vec<usize>]) {
    let (tokens, offsets) = whole(segments);
    let sequences = Sequences::new(plan, &tokens, &offsets).unwrap();
    let starts: Vec<i32> =
        segments.iter().enumerate().map(|(at, segment)| 1 + (at * 7 % segment.len()) as i32).collect();
    let shapes: Vec<(usize, usize)> = plan.shapes().map(|shape| (shape.rows, shape.length)).collect();
    let (most, ()) =
        filled(2 * shapes.len(), -1, |out| read_capacities(plan, &offsets, &starts, 1, 1, out)).unwrap();
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let shape = shapes.iter().position(|&shape| shape == (batch.rows, batch.length)).unwrap();
        let [picks, reads_] = [0, 1].map(|at| most[2 * shape + at] as usize);
        let groups = Groups::new(batch, 0..batch.rows, 1).unwrap();
        let (positions, (read_pick, (read_target, ()))) = filled(picks, -1, |pick_index| {
            filled(reads_, -1, |read_pick| {
                filled(reads_, -1, |read_target| {
                    reads(
                        batch,
                        &groups,
                        sequences,
                        &starts,
                        ReadArrays { pick_index, read_pick, read_target },
                    )
                })
            })
        })
        .unwrap();
        let members = batch.segments(0..batch.rows);
        let (spans, ()) =
            filled(2 * members.len(), -1, |out| read_spans(batch, &groups, &starts, reads_, out)).unwrap();
        for (&segment, span) in members.iter().zip(spans.chunks(2)) {
            let segment = segment as usize;
            let scored = starts[segment] as usize..=segments[segment].len();
            assert_eq!((span[1] - span[0]) as usize, scored.clone().count());
            for (read, token) in (span[0] as usize..).zip(scored) {
                let first = plan.rows()[segment] as usize * batch.length;
                assert_eq!(positions[read_pick[read] as usize] as usize, first + paths[segment][token - 1]);
                assert_eq!(read_target[read], tokens[offsets[segment] as usize + token]);
            }
        }
    }
}
