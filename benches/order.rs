//! Speed of ordering, in lengths per second.

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use windrow_core::order::length_order;

fn lengths(count: usize) -> Vec<i32> {
    let mut state = 1u64;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 51) as i32
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("length_order");
    for count in [10_000, 1_000_000] {
        let lengths = lengths(count);
        let mut order = vec![MaybeUninit::uninit(); count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| length_order(&lengths, true, &mut order).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
