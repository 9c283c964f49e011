//! Working memory.

/// Memory is advised in pieces of this size: a huge page on most machines.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 1 << 21;

/// `count` zeros, in huge pages where the system has them: large memory that is
/// used once costs more for its page faults than for its use, and access here and
/// there misses the table of pages. Memory that is never touched costs nothing.
pub(crate) fn zeroed(count: usize) -> Vec<u64> {
    let memory = vec![0u64; count];
    #[cfg(target_os = "linux")]
    {
        let begin = memory.as_ptr() as usize;
        let end = begin + count * size_of::<u64>();
        let (first, last) = (begin.next_multiple_of(HUGE_PAGE), end / HUGE_PAGE * HUGE_PAGE);
        if first < last {
            // SAFETY: whole pages of an allocation; advice does not change what they hold.
            // A refusal does no harm.
            unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
        }
    }
    memory
}
