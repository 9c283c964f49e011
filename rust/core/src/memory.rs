//! Allocates working memory.

/// The size from which huge pages are used; on most machines, it is the size of one.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 1 << 21;
#[cfg(target_os = "linux")]
const PAGE: usize = 1 << 12;

/// `count` zeros, in huge pages if the system has them: in a large allocation that is used once, page faults
/// cost more than the actual accesses, and random access misses the TLB. Memory that is never touched costs
/// nothing.
pub(crate) fn zeroed<T: Copy + Default>(count: usize) -> Vec<T> {
    let memory = vec![T::default(); count];
    ask_for_huge_pages(&memory);
    memory
}

/// An empty vector with capacity for `count` elements, in huge pages like [`zeroed`].
pub(crate) fn room_for<T>(count: usize) -> Vec<T> {
    let memory = Vec::with_capacity(count);
    ask_for_huge_pages(&memory);
    memory
}

/// Collects an iterator into memory from [`room_for`].
pub(crate) fn collected<T>(elements: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    let mut memory = room_for(elements.len());
    memory.extend(elements);
    memory
}

fn ask_for_huge_pages<T>(memory: &Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        let begin = memory.as_ptr() as usize;
        let size = memory.capacity() * size_of::<T>();
        if size >= HUGE_PAGE {
            // This includes the pages at both ends, so that a huge page may span two vectors.
            let (first, last) = (begin / PAGE * PAGE, (begin + size).next_multiple_of(PAGE));
            // SAFETY: these pages belong, at least partly, to the allocation, and advice does not change
            // their contents. Failure does no harm.
            unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Prefetches the cache line of `elements[index]`, if it exists, without waiting for it. More prefetches than
/// plain reads can be in flight.
pub(crate) fn prefetch<T>(elements: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: this is a hint, valid for any address; every x86-64 processor supports it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(elements.as_ptr().wrapping_add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (elements, index);
}

/// Prefetches every cache line of `elements`.
pub(crate) fn prefetch_all<T>(elements: &[T]) {
    (0..elements.len()).step_by(64 / size_of::<T>()).for_each(|index| prefetch(elements, index));
}
