//! Splits the work of one call into chunks for several threads.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

use crate::error::Result;
use crate::parallel::threads_for;

/// The number of chunks per thread if chunks are independent: other threads can take over chunks of a thread
/// that was interrupted.
const CHUNKS_PER_THREAD: usize = 4;

/// `0..count` in `chunks` ranges whose sizes differ by at most 1.
pub(crate) fn ranges(count: usize, chunks: usize) -> Vec<Range<usize>> {
    let begin = |chunk: usize| (count as u128 * chunk as u128 / chunks as u128) as usize;
    (0..chunks).map(|chunk| begin(chunk)..begin(chunk + 1)).collect()
}

/// Calls `work` for every part, on up to `threads` threads including the calling one, and returns the results
/// in the order of the parts.
///
/// If the system provides fewer threads, they do all the work.
pub(crate) fn on_threads<P: Send, R: Send>(
    threads: usize,
    parts: Vec<P>,
    work: impl Fn(P) -> R + Sync,
) -> Vec<R> {
    if threads <= 1 || parts.len() <= 1 {
        return parts.into_iter().map(work).collect();
    }
    let helpers = threads.min(parts.len()) - 1;
    let queue = Mutex::new(parts.into_iter().enumerate());
    let next = || queue.lock().expect("nothing panics while it holds the queue").next();
    let work_off = || std::iter::from_fn(next).map(|(i, part)| (i, work(part))).collect::<Vec<_>>();
    let mut done = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work_off).ok();
        let helpers: Vec<_> = (0..helpers).filter_map(spawn).collect();
        let mut done = work_off();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|&(i, _)| i);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Splits `elements` into the given ranges, which are consecutive and start at 0.
pub(crate) fn split<'a, T>(elements: &'a mut [T], ranges: &[Range<usize>]) -> Vec<&'a mut [T]> {
    let mut rest = elements;
    let mut part = |range: &Range<usize>| rest.split_off_mut(..range.len()).expect("the ranges end with it");
    ranges.iter().map(&mut part).collect()
}

/// Calls `fill` to write every chunk of `output`, given its range of indices; returns the error of the first
/// chunk that fails.
pub(crate) fn fill_chunks<T: Send>(
    output: &mut [MaybeUninit<T>],
    fill: impl Fn(Range<usize>, &mut [MaybeUninit<T>]) -> Result<()> + Sync,
) -> Result<()> {
    let threads = threads_for(output.len());
    let chunks = if threads == 1 { 1 } else { threads * CHUNKS_PER_THREAD };
    let ranges = ranges(output.len(), chunks);
    let parts = split(output, &ranges);
    let parts = ranges.into_iter().zip(parts).collect();
    on_threads(threads, parts, |(range, slots)| fill(range, slots)).into_iter().collect()
}
