//! Speed of the remap for hosts, in elements per second.

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use windrow_core::shard::multihost_remap;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("multihost_remap");
    let size = 1 << 20;
    let mut remap = vec![MaybeUninit::uninit(); size as usize];
    for (global_batch_size, host_count) in [(1024, 8), (64, 64)] {
        multihost_remap(size, global_batch_size, host_count, &mut remap).unwrap();
        let host_rows = global_batch_size / host_count;
        for (place, element) in (0..).zip(&remap) {
            let (host, at) = (place / (size / host_count), place % (size / host_count));
            let expected = at / host_rows * global_batch_size + host * host_rows + at % host_rows;
            // SAFETY: `multihost_remap` guarantees that it writes every element.
            assert_eq!(unsafe { element.assume_init() }, expected);
        }
        group.throughput(Throughput::Elements(size as u64));
        let name = format!("{size} in batches of {global_batch_size}");
        group.bench_function(BenchmarkId::new(name, format!("{host_count} hosts")), |bencher| {
            bencher.iter(|| multihost_remap(size, global_batch_size, host_count, &mut remap).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
