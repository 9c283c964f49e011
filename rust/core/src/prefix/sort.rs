//! Sorts entries by their keys.
//!
//! With real tokens, many keys are equal, and sorting them takes fewer steps than sorting distinct keys. So
//! segment numbers, which would make all keys distinct, are ignored here, and equal segments are put in order
//! at the end.

use crate::chunks::on_threads;

use super::entry::Entry;

/// Smaller slices are not worth sorting on several threads.
const SORTED_ALONE: usize = 1 << 16;

/// Sorts by key on several threads; entries with equal keys end up in any order.
pub(super) fn sort(entries: &mut [Entry], threads: usize) {
    if threads > 1 && entries.len() >= SORTED_ALONE {
        let threads_before = threads / 2;
        let (before, _, after) =
            entries.select_nth_unstable_by_key(entries.len() * threads_before / threads, |entry| entry.key());
        let parts = vec![(before, threads_before), (after, threads - threads_before)];
        on_threads(2, parts, |(part, threads)| sort(part, threads));
    } else {
        entries.sort_unstable_by_key(|entry| entry.key());
    }
}
