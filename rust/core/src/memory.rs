//! Working memory.

/// Less memory than this has no huge pages: on most machines, one takes as much.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 1 << 21;
#[cfg(target_os = "linux")]
const PAGE: usize = 1 << 12;

/// `count` zeros, in huge pages where the system has them: large memory that is
/// used once costs more for its page faults than for its use, and access here and
/// there misses the table of pages. Memory that is never touched costs nothing.
pub(crate) fn zeroed<T: Copy + Default>(count: usize) -> Vec<T> {
    let memory = vec![T::default(); count];
    ask_for_huge_pages(&memory);
    memory
}

/// An empty vector with room for `count` elements, in huge pages as [`zeroed`] is.
pub(crate) fn room_for<T>(count: usize) -> Vec<T> {
    let memory = Vec::with_capacity(count);
    ask_for_huge_pages(&memory);
    memory
}

/// The elements of an iterator in memory as [`room_for`] gives it.
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
            // Pages at the borders included, so that a huge page may reach from one vector into the next.
            let (first, last) = (begin / PAGE * PAGE, (begin + size).next_multiple_of(PAGE));
            // SAFETY: pages that are all or partly an allocation's; advice does not change what they hold.
            // A refusal does no harm.
            unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Asks for the cache line of `elements[index]`, where there is one, without
/// waiting for it: many may be on their way, more than of plain reads.
pub(crate) fn prefetch<T>(elements: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which any address may be given to; every x86-64 processor knows it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(elements.as_ptr().wrapping_add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (elements, index);
}

/// Asks for every cache line of `elements`.
pub(crate) fn prefetch_all<T>(elements: &[T]) {
    (0..elements.len()).step_by(64 / size_of::<T>()).for_each(|index| prefetch(elements, index));
}
