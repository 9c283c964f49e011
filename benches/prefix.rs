//! Speed of prefix trees, compared with one pass that sums the tokens, and with packing the same number
//! of segments. Each ratio is printed with its upper limit.

mod random;
mod ratio;

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use random::below;
use windrow_core::pack::pack_rows;
use windrow_core::plan::{Choice, PaddedLengths, Plan, Policy, Prefixes};
use windrow_core::prefix::{TreeRows, prefix_order, tree_rows};

/// Segments of `head + tail` tokens; `together` consecutive ones have the same first `head` tokens.
fn segments(count: usize, together: usize, head: usize, tail: usize) -> (Vec<i32>, Vec<i64>) {
    let (heads, tails) = (below(count / together * head, 50_000), below(count * tail, 40_000));
    let mut tokens = Vec::with_capacity(count * (head + tail));
    for segment in 0..count {
        let group = segment / together;
        tokens.extend_from_slice(&heads[group * head..(group + 1) * head]);
        tokens.extend_from_slice(&tails[segment * tail..(segment + 1) * tail]);
    }
    (tokens, (0..=count).map(|segment| (segment * (head + tail)) as i64).collect())
}

fn values<T: Copy>(slots: &[MaybeUninit<T>]) -> Vec<T> {
    // SAFETY: callers pass slots that have been written completely.
    slots.iter().map(|slot| unsafe { slot.assume_init() }).collect()
}

fn orders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefix_order");
    group.sample_size(10);
    for (name, count, together, head, tail) in [
        ("40 thousand of 58, fours sharing 50", 40_000, 4, 50, 8),
        ("100 thousand of 1,000, thousands sharing 800", 100_000, 1_000, 800, 200),
        ("100 thousand of 1,000, all sharing 800", 100_000, 100_000, 800, 200),
    ] {
        let (tokens, offsets) = segments(count, together, head, tail);
        let mut order = vec![MaybeUninit::uninit(); count];
        let mut shared = vec![MaybeUninit::uninit(); count];
        prefix_order(&tokens, &offsets, &mut order, &mut shared).unwrap();
        let long = values(&shared).into_iter().filter(|&shared| shared as usize >= head).count();
        assert_eq!(long, count - count / together);
        group.throughput(Throughput::Bytes(size_of_val(&tokens[..]) as u64));
        let sum = || black_box(&tokens).iter().map(|&token| i64::from(token)).sum::<i64>();
        let mut sort = || prefix_order(&tokens, &offsets, &mut order, &mut shared).unwrap();
        group.bench_function(BenchmarkId::new("sum of the tokens", name), |bencher| bencher.iter(sum));
        group.bench_function(BenchmarkId::new("order", name), |bencher| bencher.iter(&mut sort));
        let what = format!("prefix_order, {name}, compared with a sum of the tokens");
        ratio::show(&what, 6.0, &mut || _ = black_box(sum()), &mut sort);
    }
    group.finish();
}

/// A million segments in groups of four that share a prefix; the groups are in random order.
fn rows(criterion: &mut Criterion) {
    const COUNT: usize = 1_000_000;
    const CAPACITY: i32 = 2048;
    let (heads, tails) = (below(COUNT / 4, 200), below(COUNT, 20));
    let lengths: Vec<i32> = (0..COUNT).map(|segment| heads[segment / 4] + tails[segment] + 2).collect();
    let fours = (0..COUNT / 4).map(|at| at * 7919 % (COUNT / 4));
    let order: Vec<i64> =
        fours.flat_map(|four| (4 * four..4 * four + 4).map(|segment| segment as i64)).collect();
    let share = |&segment: &i64| if segment % 4 == 0 { 0 } else { heads[segment as usize / 4] + 1 };
    let shared: Vec<i32> = order.iter().map(share).collect();
    let mut row = vec![MaybeUninit::uninit(); COUNT];
    let mut parent = row.clone();
    let mut start = vec![MaybeUninit::uninit(); COUNT];
    let mut own = start.clone();
    let mut rows = (row.clone(), start.clone());
    let choice = Choice::default();
    let policy = Policy { padded_lengths: PaddedLengths::Given(vec![CAPACITY]), ..Policy::fixed(8) };
    let plan = || {
        let prefixes = Prefixes { order: &order, shared: &shared, choice: &choice };
        Plan::of_trees(&lengths, prefixes, policy.clone()).unwrap()
    };
    let statistics = *plan().statistics();
    assert_eq!(statistics.repeated_tokens(), 0);
    assert!(statistics.padding_tokens() < statistics.row_tokens / 100);
    let mut group = criterion.benchmark_group("1 million segments");
    group.throughput(Throughput::Elements(COUNT as u64)).sample_size(10);
    let mut pack = || _ = pack_rows(&lengths, CAPACITY, i64::MAX, &mut row, &mut start).unwrap();
    let mut lay = || {
        let out = TreeRows { row: &mut rows.0, start: &mut rows.1, own: &mut own, parent: &mut parent };
        tree_rows(&lengths, &order, &shared, CAPACITY, out).unwrap();
    };
    group.bench_function("pack_rows", |bencher| bencher.iter(&mut pack));
    group.bench_function("tree_rows", |bencher| bencher.iter(&mut lay));
    group.bench_function("plan of trees", |bencher| bencher.iter(plan));
    ratio::show("tree_rows compared with pack_rows", 3.0, &mut pack, &mut lay);
    ratio::show("plan of trees compared with pack_rows", 3.0, &mut pack, &mut || drop(plan()));
    let mut with_fingerprint = || _ = black_box(plan().fingerprint());
    ratio::show(
        "plan of trees and its fingerprint compared with pack_rows",
        3.0,
        &mut pack,
        &mut with_fingerprint,
    );
    group.finish();
}

criterion_group!(benches, orders, rows);
criterion_main!(benches);
