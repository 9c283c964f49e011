//! Speed of planning, in segments per second, and of filling a batch, in tokens per second.

use std::mem::MaybeUninit;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use windrow_core::collate::{self, Groups, ReadArrays, Sequences};
use windrow_core::plan::{Packing, PaddedLengths, Plan, Policy};

const SEGMENTS: usize = 1_000_000;

/// Lengths below `most`; short ones are more frequent than long ones.
fn lengths(count: usize, most: i64) -> Vec<i32> {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as i64
    };
    (0..count).map(|_| (random() % most * (random() % most) / most) as i32 + 1).collect()
}

/// Asserts that each row holds one segment and those equal to it, and that they fit the batch's shape.
fn assert_sound(plan: &Plan, lengths: &[i32], identities: &[i64]) {
    let batches: Vec<_> = (0..plan.batch_count() as i64).map(|index| plan.batch(index).unwrap()).collect();
    let mut rows: Vec<Vec<i64>> = batches.iter().map(|batch| vec![-1; batch.rows]).collect();
    for (segment, &first) in identities.iter().enumerate() {
        let batch = plan.batches()[segment] as usize;
        let row = &mut rows[batch][plan.rows()[segment] as usize];
        assert!(*row == first || (*row == -1 && first == segment as i64));
        *row = first;
        assert!(lengths[segment] as usize <= batches[batch].length);
    }
    let filler = rows.iter().flatten().filter(|&&row| row == -1).count();
    assert_eq!(filler, plan.statistics().filler_rows);
}

fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(SEGMENTS as u64)).sample_size(20);
    let best = PaddedLengths::Best { max_shapes: 16, multiple: 1, shape_price: 4096 };
    let fixed = Policy { padded_lengths: best, ..Policy::fixed(64) };
    let budget = Policy { row_multiple: 8, ..fixed.clone() };
    let alone: Vec<i64> = (0..SEGMENTS as i64).collect();
    let fours: Vec<i64> = alone.iter().map(|segment| segment - segment % 4).collect();
    for (name, most, identities, policy) in [
        ("fixed", 8192, &alone, fixed.clone()),
        ("fixed, sharing", 8192, &fours, fixed.clone()),
        (
            "budget, 2048 lengths",
            2048,
            &alone,
            Policy { rows: Policy::budget(1 << 17).rows, ..budget.clone() },
        ),
        ("budget, 8192 lengths", 8192, &alone, Policy { rows: Policy::budget(1 << 17).rows, ..budget }),
    ] {
        let mut lengths = lengths(SEGMENTS, most);
        for segment in 0..SEGMENTS {
            lengths[segment] = lengths[identities[segment] as usize];
        }
        let plan = Plan::new(&lengths, Some(identities), policy.clone()).unwrap();
        assert_sound(&plan, &lengths, identities);
        let identities = (identities != &alone).then_some(identities.as_slice());
        group.bench_function(name, |bencher| {
            bencher.iter(|| Plan::new(&lengths, identities, policy.clone()).unwrap());
        });
    }
    let lengths = lengths(SEGMENTS, 2048);
    let packed = Policy { packing: Some(Packing { max_segments: None }), ..fixed };
    let plan = Plan::new(&lengths, None, packed.clone()).unwrap();
    assert!(plan.statistics().padding_tokens() < plan.statistics().real_tokens / 100);
    group.bench_function("packed", |bencher| {
        bencher.iter(|| Plan::new(&lengths, None, packed.clone()).unwrap());
    });
    group.finish();
}

/// Plans segments whose second halves are scored, and fills batches.
fn batches(criterion: &mut Criterion) {
    let lengths = lengths(20_000, 8192);
    let plan = Plan::new(&lengths, None, Policy::fixed(64)).unwrap();
    let mut offsets = vec![0];
    for &length in &lengths {
        offsets.push(offsets.last().unwrap() + i64::from(length) + 1);
    }
    let tokens: Vec<i32> = (0..*offsets.last().unwrap() as i32).collect();
    let score_starts: Vec<i32> = lengths.iter().map(|length| length / 2 + 1).collect();
    let sequences = Sequences::new(&plan, &tokens, &offsets).unwrap();
    let batch = plan.batch(0).unwrap();
    let size = batch.rows * batch.length;
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(size as u64));
    let mut out = vec![MaybeUninit::new(-1); size];
    type Fill = MaybeUninit<i32>;
    let mut copied = vec![0; size];
    group.bench_function("copy of as many", |bencher| {
        let from = &tokens[..size];
        bencher.iter(|| std::hint::black_box(&mut copied).copy_from_slice(from));
    });
    collate::inputs(batch, 0..batch.rows, sequences, 0, &mut out).unwrap();
    let first = batch.segments(0..1)[0] as usize;
    // SAFETY: initialized when it was created.
    assert!((0..4).all(|at| unsafe { out[at].assume_init() } as i64 == offsets[first] + at as i64));
    group.bench_function("inputs", |bencher| {
        bencher.iter(|| collate::inputs(batch, 0..batch.rows, sequences, 0, &mut out).unwrap());
    });
    group.bench_function("targets", |bencher| {
        bencher.iter(|| collate::targets(batch, 0..batch.rows, sequences, 0, &mut out).unwrap());
    });
    group.bench_function("segment_ids", |bencher| {
        bencher.iter(|| collate::segment_ids(batch, 0..batch.rows, &mut out).unwrap());
    });
    group.bench_function("positions", |bencher| {
        bencher.iter(|| collate::positions(batch, 0..batch.rows, &mut out).unwrap());
    });
    let groups = Groups::new(batch, 0..batch.rows, 8).unwrap();
    let mut capacities = vec![MaybeUninit::new(0); 2 * plan.shapes().len()];
    collate::read_capacities(&plan, &offsets, &score_starts, 8, 128, &mut capacities).unwrap();
    // SAFETY: initialized when it was created.
    let capacity = |at: usize| 8 * unsafe { capacities[at].assume_init() } as usize;
    let [mut picks, mut read_picks, mut targets] =
        [capacity(0), capacity(1), capacity(1)].map(|size| vec![Fill::new(0); size]);
    group.bench_function("reads", |bencher| {
        bencher.iter(|| {
            let out =
                ReadArrays { pick_index: &mut picks, read_pick: &mut read_picks, read_target: &mut targets };
            collate::reads(batch, &groups, sequences, &score_starts, out).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, plans, batches);
criterion_main!(benches);
