//! The memory that planning needs, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use windrow_core::plan::{Choice, Packing, PaddedLengths, Plan, Policy, Prefixes};

/// The system's allocator, which also counts the bytes in use and their maximum.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SEGMENTS: usize = 400_000;

/// Bytes per segment: those of the finished plan, and the peak while planning.
fn bytes(plan: impl FnOnce() -> Plan) -> (usize, usize) {
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let plan = plan();
    let kept = IN_USE.load(Relaxed) - before;
    let most = MOST.load(Relaxed) - before;
    drop(plan);
    (kept.div_ceil(SEGMENTS), most.div_ceil(SEGMENTS))
}

/// The only test here, because the memory of all threads is counted together.
#[test]
fn plan_takes_at_most_64_bytes_per_segment() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as i32
    };
    let common: Vec<i32> = (0..SEGMENTS).map(|_| random() % 2048).collect();
    let wide: Vec<i32> = (0..SEGMENTS).map(|_| random() / 2).collect();
    let equal = vec![100; SEGMENTS];
    let alone: Vec<i64> = (0..SEGMENTS as i64).collect();
    let paired: Vec<i64> = (0..SEGMENTS as i64).map(|segment| segment - segment % 2).collect();
    let shared: Vec<i32> = paired.iter().map(|&first| common[first as usize]).collect();

    let best = |max_shapes| PaddedLengths::Best { max_shapes, multiple: 1, shape_price: 0 };
    let fixed = |rows| Policy { padded_lengths: best(16), ..Policy::fixed(rows) };
    let budget = |tokens| Policy { padded_lengths: best(16), ..Policy::budget(tokens) };
    let packing = Some(Packing { max_segments: None });
    let packed = |policy| Policy { packing: packing.clone(), ..policy };
    let multiples = Policy { padded_lengths: PaddedLengths::Multiples(1), ..Policy::budget(i32::MAX.into()) };
    for (name, lengths, identities, policy) in [
        ("fixed rows", &common, None, fixed(64)),
        ("fixed rows, sharing", &shared, Some(&paired), fixed(64)),
        ("fixed rows, nothing to share", &common, Some(&alone), fixed(64)),
        ("budget, sharing", &shared, Some(&paired), budget(65536)),
        ("packed", &common, None, packed(fixed(64))),
        ("packed, sharing", &shared, Some(&paired), packed(budget(65536))),
        (
            "packed, none fits with another",
            &equal,
            None,
            packed(Policy { padded_lengths: PaddedLengths::Given(vec![150]), ..fixed(64) }),
        ),
        ("all lengths different", &wide, None, multiples),
    ] {
        let plan = || Plan::new(lengths, identities.map(Vec::as_slice), policy).unwrap();
        assert_few_bytes(name, bytes(plan));
    }

    let order: Vec<i64> = alone.clone();
    let sizes: Vec<i32> = common.iter().map(|length| length + 1).collect();
    let apart = vec![0; SEGMENTS];
    let neighbours = |segment: usize| {
        if segment.is_multiple_of(4) { 0 } else { sizes[segment].min(sizes[segment - 1]) / 2 }
    };
    let fours: Vec<i32> = (0..SEGMENTS).map(neighbours).collect();
    let choice = Choice::default();
    for (name, shared, lengths) in [
        ("trees of four", &fours, vec![4096]),
        ("trees of one", &apart, vec![4096]),
        ("trees of four, in the cheapest rows", &fours, vec![512, 2048, 4096]),
    ] {
        let policy = Policy { padded_lengths: PaddedLengths::Given(lengths), ..fixed(8) };
        let prefixes = Prefixes { order: &order, shared, choice: &choice };
        assert_few_bytes(name, bytes(|| Plan::of_trees(&sizes, prefixes, policy).unwrap()));
    }
}

fn assert_few_bytes(name: &str, (kept, most): (usize, usize)) {
    println!("{name}: {kept} bytes per segment kept, {most} at the peak");
    assert!(most <= 64, "{name}: {most} bytes per segment");
}
