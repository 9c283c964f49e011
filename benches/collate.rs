//! Speed of filling batches, in bytes written per second.

use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use windrow_core::collate::pad_rows;

/// Segments of up to `length` tokens, two for each row; the rows hold every other one in random order.
struct Case {
    tokens: Vec<i32>,
    offsets: Vec<i64>,
    rows: Vec<i64>,
    length: i32,
}

impl Case {
    fn new(rows: i64, length: i32, full: bool) -> Self {
        let mut offsets = vec![0];
        for segment in 0..2 * rows {
            let scattered = (segment * 7919 % i64::from(length)) + 1;
            let size = if full { i64::from(length) } else { scattered };
            offsets.push(offsets[segment as usize] + size);
        }
        let tokens = (0..*offsets.last().unwrap()).map(|token| (token % 50_000) as i32).collect();
        let rows = (0..rows).map(|row| row * 1237 % rows * 2).collect();
        Self { tokens, offsets, rows, length }
    }

    fn pad(&self, padded: &mut [MaybeUninit<i32>]) {
        pad_rows(&self.tokens, &self.offsets, &self.rows, self.length, 0, padded).unwrap();
    }

    /// Asserts that every element equals the definition.
    fn assert_padded(&self, padded: &[MaybeUninit<i32>]) {
        for (&row, line) in self.rows.iter().zip(padded.chunks(self.length as usize)) {
            let begin = self.offsets[row as usize];
            for (at, token) in (begin..).zip(line) {
                // SAFETY: `pad_rows` guarantees that it writes every element.
                let token = unsafe { token.assume_init() };
                let real = at < self.offsets[row as usize + 1];
                assert_eq!(token, if real { self.tokens[at as usize] } else { 0 });
            }
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pad_rows");
    for (rows, length) in [(64, 8192), (4096, 128)] {
        for (name, full) in [("half padding", false), ("no padding", true)] {
            let case = Case::new(rows, length, full);
            let size = rows as usize * length as usize;
            let mut padded = vec![MaybeUninit::uninit(); size];
            case.pad(&mut padded);
            case.assert_padded(&padded);
            group.throughput(Throughput::Bytes(4 * size as u64));
            group.bench_function(BenchmarkId::new(name, format!("{rows}x{length}")), |bencher| {
                bencher.iter(|| case.pad(&mut padded));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
