//! Laws of a batch's arrays, which are compared with arrays filled segment by segment.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::ops::Range;

use proptest::prelude::*;
use windrow_core::collate::{self, Groups, ReadArrays, Sequences};
use windrow_core::plan::{Batch, BatchRows, Packing, PaddedLengths, Plan, Policy};
use windrow_core::{Error, Result};

/// An array of `size` elements, written by `fill`.
fn filled<T>(size: usize, fill: impl FnOnce(&mut [MaybeUninit<T>]) -> Result<()>) -> Result<Vec<T>> {
    let mut out: Vec<MaybeUninit<T>> = (0..size).map(|_| MaybeUninit::uninit()).collect();
    fill(&mut out)?;
    // SAFETY: if the result is `Ok`, every element has been written.
    Ok(out.into_iter().map(|element| unsafe { element.assume_init() }).collect())
}

/// Whole sequences: one token more than the model's input.
#[derive(Clone, Debug)]
struct Material {
    lengths: Vec<i32>,
    identities: Vec<i64>,
    tokens: Vec<i32>,
    offsets: Vec<i64>,
    score_starts: Vec<i32>,
}

impl Material {
    fn sequence(&self, segment: usize) -> &[i32] {
        &self.tokens[self.offsets[segment] as usize..self.offsets[segment + 1] as usize]
    }
}

/// Segments, some with equal inputs; each has its own last token and its own scored tokens.
fn material() -> impl Strategy<Value = Material> {
    let segment = (1..20usize, 0..3i32, 1..100i32, any::<prop::sample::Index>());
    prop::collection::vec(segment, 1..40).prop_map(|segments| {
        let input = |length: usize, kind: i32| (0..length).map(move |at| 1000 * kind + at as i32);
        let first =
            |s: usize| segments.iter().position(|other| (other.0, other.1) == (segments[s].0, segments[s].1));
        let mut offsets = vec![0];
        let mut tokens = Vec::new();
        for &(length, kind, last, _) in &segments {
            tokens.extend(input(length, kind).chain([last]));
            offsets.push(tokens.len() as i64);
        }
        Material {
            lengths: segments.iter().map(|segment| segment.0 as i32).collect(),
            identities: (0..segments.len()).map(|segment| first(segment).unwrap() as i64).collect(),
            tokens,
            offsets,
            score_starts: segments.iter().map(|segment| 1 + segment.3.index(segment.0) as i32).collect(),
        }
    })
}

/// Rows in multiples of 4, so that they split into 1, 2 or 4 groups.
fn policies() -> impl Strategy<Value = Policy> {
    let packing =
        prop::option::of(prop::option::of(1..4i64).prop_map(|max_segments| Packing { max_segments }));
    (any::<bool>(), packing, any::<bool>()).prop_map(|(fixed, packing, longest_first)| Policy {
        rows: if fixed { BatchRows::Fixed(8) } else { BatchRows::Budget(160) },
        row_multiple: 4,
        padded_lengths: PaddedLengths::Best { max_shapes: 3, multiple: 1, shape_price: 5 },
        packing,
        longest_first,
    })
}

/// The segments that hold a row's tokens, and where they begin.
fn holders(plan: &Plan, material: &Material, batch: usize, row: usize) -> Vec<(usize, usize)> {
    let mut holders: Vec<(usize, usize)> = (0..material.lengths.len())
        .filter(|&s| material.identities[s] == s as i64)
        .filter(|&s| (plan.batches()[s], plan.rows()[s]) == (batch as i32, row as i32))
        .map(|s| (plan.starts()[s] as usize, s))
        .collect();
    holders.sort_unstable();
    holders
}

fn assert_rows(plan: &Plan, material: &Material, index: usize, rows: Range<usize>) {
    let batch = plan.batch(index as i64).unwrap();
    let length = batch.length;
    let sequences = Sequences::new(plan, &material.tokens, &material.offsets).unwrap();
    let size = rows.len() * length;
    let (mut inputs, mut targets) = (vec![-7; size], vec![-8; size]);
    let (mut ids, mut positions) = (vec![0; size], vec![0; size]);
    let mut row_lengths = vec![0; rows.len()];
    for (line, row) in rows.clone().enumerate() {
        for (id, (start, segment)) in (1..).zip(holders(plan, material, index, row)) {
            let sequence = material.sequence(segment);
            for position in 0..sequence.len() - 1 {
                let at = line * length + start + position;
                inputs[at] = sequence[position];
                targets[at] = sequence[position + 1];
                ids[at] = id;
                positions[at] = position as i32;
                row_lengths[line] += 1;
            }
        }
    }
    let all = || rows.clone();
    assert_eq!(filled(size, |out| collate::inputs(batch, all(), sequences, -7, out)).unwrap(), inputs);
    assert_eq!(filled(size, |out| collate::targets(batch, all(), sequences, -8, out)).unwrap(), targets);
    assert_eq!(filled(size, |out| collate::segment_ids(batch, all(), out)).unwrap(), ids);
    assert_eq!(filled(size, |out| collate::positions(batch, all(), out)).unwrap(), positions);
    assert_eq!(filled(rows.len(), |out| collate::row_lengths(batch, all(), out)).unwrap(), row_lengths);
}

struct Reads {
    pick_index: Vec<i32>,
    read_pick: Vec<i32>,
    read_target: Vec<i32>,
}

fn reads(batch: Batch, groups: &Groups, material: &Material, capacities: (usize, usize)) -> Result<Reads> {
    let sequences = Sequences::new(batch.plan(), &material.tokens, &material.offsets)?;
    let (picks, reads) = (groups.count() * capacities.0, groups.count() * capacities.1);
    let (mut read_pick, mut read_target) = (Vec::new(), Vec::new());
    let pick_index = filled(picks, |pick_index| {
        read_pick = filled(reads, |read_pick| {
            read_target = filled(reads, |read_target| {
                let out = ReadArrays { pick_index, read_pick, read_target };
                collate::reads(batch, groups, sequences, &material.score_starts, out)
            })?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(Reads { pick_index, read_pick, read_target })
}

fn assert_reads(
    plan: &Plan,
    material: &Material,
    index: usize,
    rows: Range<usize>,
    group_count: i64,
    capacities: (usize, usize),
) -> (usize, usize) {
    let batch = plan.batch(index as i64).unwrap();
    let rows_per_group = batch.rows / group_count as usize;
    let groups = Groups::new(batch, rows.clone(), group_count).unwrap();
    let found = reads(batch, &groups, material, capacities).unwrap();
    let segments: Vec<usize> = batch.segments(rows.clone()).iter().map(|&s| s as usize).collect();
    let spans = filled(2 * segments.len(), |out| {
        collate::read_spans(batch, &groups, &material.score_starts, capacities.1, out)
    });
    let mut ends = vec![0; groups.count()];
    let mut picked: Vec<BTreeSet<i32>> = vec![BTreeSet::new(); groups.count()];
    let mut used: Vec<BTreeSet<i32>> = vec![BTreeSet::new(); groups.count()];
    for (&segment, span) in segments.iter().zip(spans.unwrap().chunks(2)) {
        // Every scored token is read at the position of the token before it.
        let row = plan.rows()[segment] as usize;
        let group = (row - rows.start) / rows_per_group;
        let scored = material.score_starts[segment] as usize..material.sequence(segment).len();
        assert_eq!(span[0] as usize, group * capacities.1 + ends[group], "reads follow each other");
        assert_eq!((span[1] - span[0]) as usize, scored.len());
        ends[group] += scored.len();
        for (read, token) in (span[0] as usize..).zip(scored) {
            assert_eq!(found.read_target[read], material.sequence(segment)[token]);
            let pick = found.read_pick[read];
            let position = found.pick_index[group * capacities.0 + pick as usize];
            let local_row = row % rows_per_group;
            let expected = local_row * batch.length + plan.starts()[segment] as usize + token - 1;
            assert_eq!(position as usize, expected);
            picked[group].insert(position);
            used[group].insert(pick);
        }
    }
    for group in 0..groups.count() {
        // No position is picked twice or unnecessarily, and unused picks are zero.
        let picks = picked[group].len();
        assert!(used[group].iter().copied().eq(0..picks as i32));
        let (first, of_reads) = (group * capacities.0, group * capacities.1);
        assert!(found.pick_index[first + picks..first + capacities.0].iter().all(|&index| index == 0));
        for reads in [&found.read_pick, &found.read_target] {
            assert!(reads[of_reads + ends[group]..of_reads + capacities.1].iter().all(|&read| read == 0));
        }
    }
    (picked.iter().map(BTreeSet::len).max().unwrap_or(0), ends.into_iter().max().unwrap_or(0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arrays_hold_the_segments(material in material(), policy in policies(), cut in 0..3usize) {
        let plan = Plan::new(&material.lengths, Some(&material.identities), policy).unwrap();
        for index in 0..plan.batch_count() {
            let rows = plan.batch(index as i64).unwrap().rows;
            assert_rows(&plan, &material, index, 0..rows);
            assert_rows(&plan, &material, index, cut..rows - cut);
        }
    }

    #[test]
    fn every_score_is_read(
        material in material(), policy in policies(), groups in prop::sample::select(vec![1, 2, 4]), multiple in 1..9i64,
    ) {
        let plan = Plan::new(&material.lengths, Some(&material.identities), policy).unwrap();
        let shapes: Vec<(usize, usize)> = plan.shapes().map(|shape| (shape.rows, shape.length)).collect();
        let capacities = filled(2 * shapes.len(), |out| {
            collate::read_capacities(&plan, &material.offsets, &material.score_starts, groups, multiple, out)
        }).unwrap();
        let mut most = vec![(0, 0); shapes.len()];
        for index in 0..plan.batch_count() {
            let batch = plan.batch(index as i64).unwrap();
            let shape = shapes.iter().position(|&shape| shape == (batch.rows, batch.length)).unwrap();
            let capacity = (capacities[2 * shape] as usize, capacities[2 * shape + 1] as usize);
            let used = assert_reads(&plan, &material, index, 0..batch.rows, groups, capacity);
            most[shape] = (most[shape].0.max(used.0), most[shape].1.max(used.1));
            let half = batch.rows / 2;
            if groups > 1 {
                assert_reads(&plan, &material, index, half..batch.rows, groups, capacity);
            }
            for (less, name) in [((1, 0), "pick_capacity"), ((0, 1), "read_capacity")] {
                let short = (used.0 - less.0, used.1 - less.1);
                let error = reads(batch, &Groups::new(batch, 0..batch.rows, groups).unwrap(), &material, short);
                let error = error.err().unwrap().to_string();
                prop_assert!(error.starts_with(name) && error.contains("at least"), "{error}");
            }
        }
        let round_up = |count: usize| count.next_multiple_of(multiple as usize) as i32;
        let expected: Vec<i32> = most.iter().flat_map(|most| [round_up(most.0), round_up(most.1)]).collect();
        prop_assert_eq!(capacities, expected);
    }
}

/// Two segments in row 1 of a batch of 2 rows, of the same input `[7, 8, 9]`.
fn example() -> (Plan, Material) {
    let material = Material {
        lengths: vec![3, 6, 3],
        identities: vec![0, 1, 0],
        tokens: vec![7, 8, 9, 4, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 5],
        offsets: vec![0, 4, 11, 15],
        score_starts: vec![3, 6, 2],
    };
    let plan = Plan::new(&material.lengths, Some(&material.identities), Policy::fixed(2)).unwrap();
    (plan, material)
}

#[test]
fn worked_example_of_reads() {
    let (plan, material) = example();
    let batch = plan.batch(0).unwrap();
    let groups = Groups::new(batch, 0..2, 1).unwrap();
    let found = reads(batch, &groups, &material, (4, 5)).unwrap();
    assert_eq!(found.pick_index, [5, 7, 8, 0]);
    assert_eq!(found.read_pick, [0, 2, 1, 2, 0]);
    assert_eq!(found.read_target, [7, 4, 9, 5, 0]);
}

#[test]
fn filler_rows_hold_no_tokens_and_score_none() {
    let plan = Plan::new(&[2], None, Policy::fixed(4)).unwrap();
    let material = Material {
        lengths: vec![2],
        identities: vec![0],
        tokens: vec![7, 8, 9],
        offsets: vec![0, 3],
        score_starts: vec![1],
    };
    assert_rows(&plan, &material, 0, 0..4);
    assert_reads(&plan, &material, 0, 0..4, 4, (2, 2));
    assert_reads(&plan, &material, 0, 1..4, 4, (0, 0));
    let mut rows = vec![MaybeUninit::uninit(); 4];
    plan.batch(0).unwrap().write_rows(&mut rows);
    // SAFETY: `write_rows` writes every element.
    let rows: Vec<i64> = rows.into_iter().map(|row| unsafe { row.assume_init() }).collect();
    assert_eq!(rows, [0, -1, -1, -1]);
}

#[test]
fn a_segment_without_tokens_has_no_id_and_cannot_be_scored() {
    let policy = Policy { packing: Some(Packing { max_segments: None }), ..Policy::fixed(1) };
    let plan = Plan::new(&[0, 2, 0], None, policy).unwrap();
    let batch = plan.batch(0).unwrap();
    assert_eq!(filled(2, |out| collate::segment_ids(batch, 0..1, out)).unwrap(), [1, 1]);
    assert_eq!(filled(2, |out| collate::positions(batch, 0..1, out)).unwrap(), [0, 1]);
    let groups = Groups::new(batch, 0..1, 1).unwrap();
    let error =
        filled(6, |out| collate::read_spans(batch, &groups, &[1, 1, 1], 9, out)).unwrap_err().to_string();
    assert!(error.starts_with("score_starts[0] is 1; it must be at least 1 and at most 0,"), "{error}");
}

#[test]
fn errors_name_the_argument() {
    let (plan, material) = example();
    let batch = plan.batch(0).unwrap();
    let refused = |error: Error, expected: &str| assert!(error.to_string().starts_with(expected), "{error}");

    for batch in [-1, 1, i64::MAX] {
        assert_eq!(plan.batch(batch).unwrap_err(), Error::NoBatch { batch, batches: 1 });
    }
    refused(batch.row_range(0, Some(3)).unwrap_err(), "row_stop is 3; it must be at least 0 and at most 2,");
    refused(batch.row_range(-1, None).unwrap_err(), "row_start is -1;");
    refused(batch.row_range(2, Some(1)).unwrap_err(), "row_start is 2; it must be at least 0 and at most 1,");
    assert_eq!(batch.row_range(1, Some(1)).unwrap(), 1..1);

    refused(Groups::new(batch, 0..2, 0).unwrap_err(), "groups is 0;");
    refused(
        Groups::new(batch, 0..2, 3).unwrap_err(),
        "groups is 3; it must be at least 1 and a divisor of 2,",
    );
    refused(Groups::new(batch, 1..2, 1).unwrap_err(), "row_start is 1; it must be a multiple of 2,");
    refused(Groups::new(batch, 0..1, 1).unwrap_err(), "row_stop is 1; it must be a multiple of 2,");

    let short = Sequences::new(&plan, &material.tokens, &material.offsets[1..]).unwrap_err();
    refused(short, "offsets has 3 elements; it must have 4,");
    let inputs = |tokens: &[i32], offsets: &[i64]| {
        let sequences = Sequences::new(&plan, tokens, offsets).unwrap();
        filled(12, |out| collate::inputs(batch, 0..2, sequences, 0, out)).unwrap_err()
    };
    refused(inputs(&material.tokens, &[0, 5, 11, 15]), "offsets[2] is 11; it must be exactly 12,");
    refused(inputs(&material.tokens, &[-1, 3, 10, 14]), "offsets[0] is -1; it must be at least 0");
    refused(inputs(&material.tokens, &[0, 4, i64::MIN, 15]), "offsets[2] is -9223372036854775808;");
    let far = i64::MAX - 7;
    refused(
        inputs(&material.tokens, &[0, far, i64::MAX, 0]),
        "offsets[2] is 9223372036854775807; it must be at most 15,",
    );
    refused(
        inputs(&material.tokens[..6], &material.offsets),
        "offsets[2] is 11; it must be at most 6, the number of tokens",
    );

    for (score_starts, expected) in [
        (vec![3, 6], "score_starts has 2 elements; it must have 3,"),
        (vec![0, 6, 2], "score_starts[0] is 0; it must be at least 1 and at most 3,"),
        (vec![4, 6, 2], "score_starts[0] is 4;"),
        (vec![3, 6, -2], "score_starts[2] is -2;"),
    ] {
        let capacities =
            |out: &mut [_]| collate::read_capacities(&plan, &material.offsets, &score_starts, 1, 1, out);
        refused(filled(2, capacities).unwrap_err(), expected);
        let material = Material { score_starts, ..material.clone() };
        let groups = Groups::new(batch, 0..2, 1).unwrap();
        refused(reads(batch, &groups, &material, (9, 9)).err().unwrap(), expected);
    }
    let capacities = |offsets: &[i64], multiple| {
        let fill = |out: &mut [_]| {
            collate::read_capacities(&plan, offsets, &material.score_starts, 1, multiple, out)
        };
        filled(2, fill).unwrap_err()
    };
    refused(capacities(&material.offsets, 0), "multiple is 0;");
    refused(capacities(&[0, 4, 11, 16], 1), "offsets[3] is 16; it must be exactly 15,");
}
