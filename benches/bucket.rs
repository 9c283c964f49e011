//! Speed of padded lengths, in segments per second.

mod random;

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use random::below;
use windrow_core::bucket::{bucket_ids, choose_lengths, round_up};

fn written(slots: &[MaybeUninit<i32>]) -> impl Iterator<Item = i32> {
    // SAFETY: the functions that filled them guarantee that every element has been written.
    slots.iter().map(|slot| unsafe { slot.assume_init() })
}

fn bench(criterion: &mut Criterion) {
    let lengths = below(1_000_000, 8192);
    let throughput = || Throughput::Elements(lengths.len() as u64);
    let mut slots = vec![MaybeUninit::uninit(); lengths.len()];

    let mut group = criterion.benchmark_group("round_up");
    for multiple in [128, 100] {
        round_up(&lengths, multiple, &mut slots).unwrap();
        let expected = lengths.iter().map(|length| (length + multiple - 1) / multiple * multiple);
        assert!(expected.eq(written(&slots)));
        group.throughput(throughput());
        group.bench_function(BenchmarkId::new("1 million, multiple", multiple), |bencher| {
            bencher.iter(|| round_up(&lengths, multiple, &mut slots).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("choose_lengths");
    for max_shapes in [1, 16] {
        group.throughput(throughput());
        group.bench_function(BenchmarkId::new("1 million, shapes", max_shapes), |bencher| {
            bencher.iter(|| choose_lengths(&lengths, max_shapes, 1).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("bucket_ids");
    let buckets = choose_lengths(&lengths, 16, 1).unwrap();
    bucket_ids(&lengths, &buckets, &mut slots).unwrap();
    let expected = lengths.iter().map(|length| buckets.partition_point(|bucket| bucket < length) as i32);
    assert!(expected.eq(written(&slots)));
    group.throughput(throughput());
    group.bench_function("1 million, 16 buckets", |bencher| {
        bencher.iter(|| bucket_ids(&lengths, &buckets, &mut slots).unwrap());
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
