//! Writes one line: a segment's tokens, followed by fill.
//!
//! A line is short (128 tokens take some 10 ns), so a branch misprediction costs as much as half a line, and
//! the position at which tokens end is unpredictable. So each block of 16 is copied in the same way, either
//! from the segment or from a block of fill, and the one block that has both is fixed afterwards.

use std::hint::select_unpredictable;
use std::mem::MaybeUninit;

const BLOCK: usize = 16;

/// Writes all of `line`: `segment`, which must not be longer than `line`, followed by `fill`.
#[inline(always)]
pub(super) fn write_line(line: &mut [MaybeUninit<i32>], segment: &[i32], fill: i32) {
    assert!(segment.len() <= line.len());
    let filling = [fill; BLOCK].map(MaybeUninit::new);
    let segment = may_be_uninit(segment);
    let Some(segment_end) = segment.last_chunk::<BLOCK>() else {
        line.fill(filling[0]);
        for (slot, token) in line.iter_mut().zip(segment) {
            *slot = *token;
        }
        return;
    };
    let (real, _) = segment.as_chunks::<BLOCK>();
    let (blocks, _) = line.as_chunks_mut::<BLOCK>();
    for (at, block) in blocks.iter_mut().enumerate() {
        let from = select_unpredictable(at < real.len(), real.as_ptr().wrapping_add(at), &filling);
        // SAFETY: this is either block `at` of `real`, which exists, or `filling`.
        *block = unsafe { *from };
    }
    // The end of the line first: the part of the segment that this overwrites is its end.
    *line.last_chunk_mut().expect("the line is as long as the segment or longer") = filling;
    *line[..segment.len()].last_chunk_mut().expect("the segment has a block") = *segment_end;
}

fn may_be_uninit(tokens: &[i32]) -> &[MaybeUninit<i32>] {
    // SAFETY: the layout is the same, and initialized values are valid as `MaybeUninit`.
    unsafe { std::slice::from_raw_parts(tokens.as_ptr().cast(), tokens.len()) }
}

/// Prefetches the first 512 bytes from `tokens[begin]` on, if that exists.
#[inline(always)]
pub(super) fn prefetch(tokens: &[i32], begin: i64) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..8 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = tokens.as_ptr().wrapping_offset(begin as isize).wrapping_add(16 * line);
        // SAFETY: a prefetch has no effects and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (tokens, begin);
}
