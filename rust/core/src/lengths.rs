//! Checks and statistics of lengths, shared by several functions.

use crate::chunks::{on_threads, ranges};
use crate::error::{Error, Result};
use crate::parallel::{SMALL, threads_for};

/// With more counters than this, sorting a copy of the lengths takes less memory.
const MOST_COUNTERS: usize = 1 << 22;

/// The smallest and the largest length, or `None` if there are none; negative lengths
/// are an error.
pub(crate) fn extremes(lengths: &[i32]) -> Result<Option<(i32, i32)>> {
    let threads = threads_for(lengths.len());
    let of_range = |range: std::ops::Range<usize>| {
        let start = (i32::MAX, i32::MIN);
        lengths[range].iter().fold(start, |(least, most), &length| (least.min(length), most.max(length)))
    };
    let parts = on_threads(threads, ranges(lengths.len(), threads), of_range);
    let least = parts.iter().map(|part| part.0).min().expect("at least one thread");
    let most = parts.iter().map(|part| part.1).max().expect("at least one thread");
    if least < 0 {
        return Err(match first_bad(lengths, |length| length < 0) {
            Some((index, value)) => {
                Error::Element { argument: "lengths", index, value: value.into(), expected: "at least 0" }
            }
            None => Error::Changed { argument: "lengths" },
        });
    }
    Ok((!lengths.is_empty()).then_some((least, most)))
}

/// The number of times each length occurs, ascending by length, given the smallest and the largest.
///
/// Counts in a table if that takes little memory; otherwise sorts a copy.
pub(crate) fn occurrences(lengths: &[i32], least: i32, most: i32) -> Vec<(i32, i64)> {
    let span = (most - least) as usize;
    if span / 4 > lengths.len().max(SMALL) || span > MOST_COUNTERS {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|a, b| a == b);
        return runs.map(|run| (run[0], run.len() as i64)).collect();
    }
    let counts = counts(lengths, least, span);
    let lengths = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
    lengths.map(|(above, &count)| (least + above as i32, count)).collect()
}

/// The number of times that each of the lengths `least..=least + span` occurs.
fn counts(lengths: &[i32], least: i32, span: usize) -> Vec<i64> {
    let threads = threads_for(lengths.len()).min(lengths.len() / (span + 1)).max(1);
    let chunks = threads.max(lengths.len().div_ceil(u32::MAX as usize)); // a chunk's counts fit into 32 bits
    let parts = on_threads(threads, ranges(lengths.len(), chunks), |range| {
        // Two counters per length: if a length repeats, one addition need not wait for the other.
        let mut counts = vec![[0u32; 2]; span + 1];
        let key = |length: i32| (length.wrapping_sub(least) as u32 as usize).min(span);
        let mut pairs = lengths[range].chunks_exact(2);
        for pair in &mut pairs {
            counts[key(pair[0])][0] += 1;
            counts[key(pair[1])][1] += 1;
        }
        pairs.remainder().iter().for_each(|&length| counts[key(length)][0] += 1);
        counts
    });
    let mut sums = vec![0; span + 1];
    for counts in parts {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += i64::from(count[0]) + i64::from(count[1]);
        }
    }
    sums
}

/// The first element for which `bad` is true, with its index.
pub(crate) fn first_bad<T: Copy>(elements: &[T], bad: impl Fn(T) -> bool) -> Option<(usize, T)> {
    elements.iter().copied().enumerate().find(|&(_, value)| bad(value))
}
