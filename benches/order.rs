//! Speed of ordering, in segments per second.

mod random;

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use random::below;
use windrow_core::order::{invert_order, length_order};

fn written(slots: &[MaybeUninit<i64>]) -> Vec<i64> {
    // SAFETY: the functions that filled them guarantee that every element has been written.
    slots.iter().map(|slot| unsafe { slot.assume_init() }).collect()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("length_order");
    for (name, count, most) in [
        ("10 thousand below 8192", 10_000, 8192),
        ("1 million below 8192", 1_000_000, 8192),
        ("1 million of any length", 1_000_000, i32::MAX),
    ] {
        let lengths = below(count, most);
        let mut order = vec![MaybeUninit::uninit(); count];
        length_order(&lengths, true, &mut order).unwrap();
        let sorted = written(&order);
        assert!(sorted.is_sorted_by_key(|&segment| (-lengths[segment as usize], segment)));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| length_order(&lengths, true, &mut order).unwrap());
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("invert_order");
    for (name, most) in [("1 million by length", 8192), ("1 million shuffled", i32::MAX)] {
        let lengths = below(1_000_000, most);
        let mut order = vec![MaybeUninit::uninit(); lengths.len()];
        length_order(&lengths, true, &mut order).unwrap();
        let order = written(&order);
        let mut inverse = vec![MaybeUninit::uninit(); order.len()];
        invert_order(&order, &mut inverse).unwrap();
        assert!((0..).zip(&order).all(|(at, &segment)| written(&inverse[segment as usize..][..1]) == [at]));
        group.throughput(Throughput::Elements(order.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| invert_order(&order, &mut inverse).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
