//! Speed of ragged tokens: bytes read per second.

mod random;
mod ratio;

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use random::below;
use windrow_core::ragged::{group_identical, token_lengths};

const TOKENS: usize = 4_000_000;

/// Segments of equal size; every other one equals the segment one third of the total further on.
fn segments(size: usize) -> (Vec<i32>, Vec<i64>) {
    let mut tokens = below(TOKENS, 50_000);
    let count = TOKENS / size;
    for segment in (0..count / 2).step_by(2) {
        let (from, to) = (segment * size, (segment + count / 3) * size);
        tokens.copy_within(from..from + size, to);
    }
    (tokens, (0..=count).map(|segment| (segment * size) as i64).collect())
}

fn bench(criterion: &mut Criterion) {
    let offsets: Vec<i64> = (0..=1_000_000).map(|segment| segment * 5).collect();
    let mut lengths = vec![MaybeUninit::uninit(); offsets.len() - 1];
    let mut group = criterion.benchmark_group("token_lengths");
    group.throughput(Throughput::Bytes(size_of_val(&offsets[..]) as u64));
    group.bench_function("1 million", |bencher| {
        bencher.iter(|| token_lengths(&offsets, &mut lengths).unwrap());
    });
    group.finish();

    let mut group = criterion.benchmark_group("group_identical");
    for (size, at_most) in [(5, 4.0), (100, 1.2), (1000, 1.2)] {
        let (tokens, offsets) = segments(size);
        let mut first = vec![MaybeUninit::uninit(); offsets.len() - 1];
        group_identical(&tokens, &offsets, &mut first).unwrap();
        for (segment, named) in first.iter().enumerate() {
            // SAFETY: `group_identical` wrote every element.
            let named = unsafe { named.assume_init() } as usize;
            let shift = first.len() / 3;
            let copied = segment >= shift && (segment - shift) % 2 == 0 && segment - shift < first.len() / 2;
            assert!(named <= segment && (named < segment) == copied, "{segment} {named}");
        }
        group.throughput(Throughput::Bytes((size_of_val(&tokens[..]) + size_of_val(&offsets[..])) as u64));
        let mut identify = || group_identical(&tokens, &offsets, &mut first).unwrap();
        group.bench_function(BenchmarkId::new("4 million tokens, segments of", size), |bencher| {
            bencher.iter(&mut identify);
        });
        let what = format!("group_identical, segments of {size}, compared with a sum of the tokens");
        let sum = || black_box(&tokens).iter().map(|&token| i64::from(token)).sum::<i64>();
        ratio::show(&what, at_most, &mut || _ = black_box(sum()), &mut identify);
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
