//! Puts many items in their places on several threads, as in a counting sort.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::chunks::{on_threads, ranges};
use crate::parallel::threads_for;

/// Places the items `0..count` by the number of their bucket, stably: calls `put(place, item)` for each.
///
/// Returns whether every place below `count` was used exactly once. This is true unless `bucket` returned
/// different values in its two calls for an item; places may then be beyond `count`.
pub(crate) fn place_all(
    count: usize,
    buckets: usize,
    bucket: impl Fn(usize) -> usize + Sync,
    put: impl Fn(usize, usize) + Sync,
) -> bool {
    let threads = threads_for(count).min(count / buckets).max(1);
    let ranges = ranges(count, threads);
    let mut next = on_threads(threads, ranges.clone(), |range: Range<usize>| {
        let mut counts = vec![0; buckets];
        range.for_each(|item| counts[bucket(item)] += 1);
        counts
    });
    let mut sum = 0usize;
    for bucket in 0..buckets {
        for counts in &mut next {
            sum += std::mem::replace(&mut counts[bucket], sum);
        }
    }
    let begins = next.clone();
    let parts = ranges.into_iter().zip(&mut next).collect();
    on_threads(threads, parts, |(range, next): (Range<usize>, &mut Vec<usize>)| {
        for item in range {
            let place = &mut next[bucket(item)];
            put(*place, item);
            *place += 1;
        }
    });
    // Each must have ended where the next one began.
    let in_order = |bucket| next.iter().zip(&begins).map(move |(end, begin)| (begin[bucket], end[bucket]));
    let mut end_before = 0;
    let whole =
        (0..buckets).flat_map(in_order).all(|(begin, end)| begin == std::mem::replace(&mut end_before, end));
    whole && end_before == count
}

/// Memory into which several threads write, each to its own places.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    begin: *mut i64,
    size: usize,
    memory: PhantomData<&'a mut [MaybeUninit<i64>]>,
}

// SAFETY: `put` is the only operation, and it writes atomically.
unsafe impl Sync for Places<'_> {}

impl<'a> Places<'a> {
    pub(crate) fn new(memory: &'a mut [MaybeUninit<i64>]) -> Self {
        Self { begin: memory.as_mut_ptr().cast(), size: memory.len(), memory: PhantomData }
    }

    pub(crate) fn over(memory: &'a mut [u64]) -> Self {
        Self { begin: memory.as_mut_ptr().cast(), size: memory.len(), memory: PhantomData }
    }

    /// Writes `value`, or nothing if there is no such place.
    pub(crate) fn put(self, place: usize, value: i64) {
        if place < self.size {
            // SAFETY: the place is in the borrowed memory, and all writes to it are atomic.
            unsafe { AtomicI64::from_ptr(self.begin.add(place)) }.store(value, Ordering::Relaxed);
        }
    }
}

/// Numbers that several threads can write to.
pub(crate) fn shared(numbers: &mut [i64]) -> &[AtomicI64] {
    // SAFETY: the exclusive borrow means that they are accessed only as atomics, which have the same size and
    // alignment.
    unsafe { &*(std::ptr::from_mut(numbers) as *const [AtomicI64]) }
}
