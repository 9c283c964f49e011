//! Speed of packing, in segments per second.

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use windrow_core::pack::pack_rows;

fn lengths(count: usize, below: u64) -> Vec<i32> {
    let mut state = 1u64;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % below) as i32
        })
        .collect()
}

/// Asserts that the segments of every row fit.
fn assert_packed(lengths: &[i32], capacity: i32, rows: usize, row: &[MaybeUninit<i64>]) {
    let mut used = vec![0; rows];
    for (&length, row) in lengths.iter().zip(row) {
        // SAFETY: `pack_rows` guarantees that it writes every element.
        used[unsafe { row.assume_init() } as usize] += i64::from(length);
    }
    assert!(used.iter().all(|&used| used <= i64::from(capacity)));
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack_rows");
    group.sample_size(20);
    for count in [10_000, 1_000_000] {
        for (name, capacity) in [("capacity 8191", 8191), ("capacity 2^31 - 1", i32::MAX)] {
            let lengths = lengths(count, capacity as u64 + 1);
            let mut row = vec![MaybeUninit::uninit(); count];
            let mut start = vec![MaybeUninit::uninit(); count];
            let rows = pack_rows(&lengths, capacity, i64::MAX, &mut row, &mut start).unwrap();
            assert_packed(&lengths, capacity, rows, &row);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| pack_rows(&lengths, capacity, i64::MAX, &mut row, &mut start).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
