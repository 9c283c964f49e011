//! Which segments have the same tokens.
//!
//! Every segment is hashed, and its hash and number go into a bin by the hash's
//! first bits. A bin is small enough that a table of its hashes stays in a core's
//! own cache; there each segment finds the first one with its hash, and the two
//! go into another bin, by the segment's number. At last these bins are gone
//! through, and the two segments of each pair are compared. The few that share a
//! hash and nothing else are then grouped by their tokens.
//!
//! The cost is two passes over the tokens, and 8 bytes of memory for each segment
//! plus 8 for each that is not the first of its kind. Memory is read either in
//! order or where it was asked for long before.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::bins::{BLOCK, Bins, SEGMENTS_PER_BIN};
use super::hash::{hash, mix};
use super::pairs::{Number, pairs_by_hash};
use super::segments::{Segments, refused};
use crate::chunks::{on_threads, ranges};
use crate::error::Result;
use crate::memory::prefetch;
use crate::parallel::threads_for;

/// With more bins than this, writing to them is not quick.
const MOST_BINS: usize = 1 << 10;
/// Hashing this many tokens takes as long as anything else that is done with a segment.
const TOKENS_PER_STEP: usize = 8;

/// Writes into `first`, for each segment, the first segment with the same tokens:
/// itself, if none before it has them.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0,
/// never descend, and end with the number of tokens. `first` must have one element
/// for each segment; where the result is `Ok`, all are written.
pub fn group_identical(tokens: &[i32], offsets: &[i64], first: &mut [MaybeUninit<i64>]) -> Result<()> {
    group(hash, tokens, offsets, first)
}

/// As [`group_identical`], with a hash of the caller's. The result is the same for
/// any hash that depends on the tokens alone, however poor.
pub fn group_identical_by(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    group(|tokens| mix(hash(tokens)), tokens, offsets, first)
}

/// Groups by a hash whose first bits differ wherever it differs.
fn group(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let segments = Segments::new(tokens, offsets)?;
    segments.check_size("first", first.len())?;
    let number = Number::below(first.len());
    let by_hash = segments.by_hash(hash, number)?;
    let pairs = pairs_by_hash(by_hash, number, first.len());
    let mistaken = segments.check(&pairs, first);
    segments.regroup(mistaken, first);
    Ok(())
}

impl Segments<'_> {
    /// How many threads to use for `segments` of the segments.
    fn threads(self, segments: usize) -> usize {
        threads_for(segments.max(self.tokens.len() / TOKENS_PER_STEP))
    }

    /// Every segment's number beside its hash, in bins by the hash: one set of bins
    /// for each stretch of segments, in their order.
    fn by_hash(self, hash: impl Fn(&[i32]) -> u64 + Sync, number: Number) -> Result<Vec<Bins>> {
        let count = self.offsets.len() - 1;
        let bins = (count / SEGMENTS_PER_BIN + 1).next_power_of_two().min(MOST_BINS);
        let bits = bins.ilog2();
        let threads = self.threads(count);
        let parts = on_threads(threads, ranges(count, threads), |range: Range<usize>| {
            let mut binned = Bins::new(bins, range.len());
            let mut begin = self.offsets[range.start];
            for (segment, &end) in range.clone().zip(&self.offsets[range.start + 1..]) {
                let tokens = self.between((begin, end)).ok_or_else(|| refused(segment, begin, end))?;
                let hash = hash(tokens);
                let bin = hash.rotate_left(bits) as usize % bins;
                binned.push(bin, number.beside(hash << bits, segment));
                begin = end;
            }
            Ok(binned)
        });
        parts.into_iter().collect()
    }

    /// Writes into `first`, for each of `pairs`, the one that is to be checked against,
    /// and each other segment itself; returns those that are not the same as that one.
    fn check(self, pairs: &[Bins], first: &mut [MaybeUninit<i64>]) -> Vec<usize> {
        let threads = self.threads(first.len());
        let parts = first.chunks_mut(SEGMENTS_PER_BIN).enumerate().collect();
        let mistaken = on_threads(threads, parts, |(bin, first): (usize, &mut [MaybeUninit<i64>])| {
            let begin = bin * SEGMENTS_PER_BIN;
            for (segment, slot) in (begin..).zip(first.iter_mut()) {
                slot.write(segment as i64);
            }
            let mut mistaken = Vec::new();
            for pairs in pairs.iter().flat_map(|pairs| pairs.blocks(bin)) {
                self.check_block(pairs, begin, first, &mut mistaken);
            }
            mistaken
        });
        mistaken.concat()
    }

    /// Checks a block of a bin's pairs; `begin` is the bin's first segment.
    ///
    /// The segments named may be anywhere. The first loop asks for offsets, the next
    /// for tokens, and only the last has to wait for a comparison.
    fn check_block(
        self,
        pairs: &[u64],
        begin: usize,
        first: &mut [MaybeUninit<i64>],
        mistaken: &mut Vec<usize>,
    ) {
        let split = |pair: u64| (pair as usize % SEGMENTS_PER_BIN, pair as usize / SEGMENTS_PER_BIN);
        for &pair in pairs {
            let (place, named) = split(pair);
            prefetch(self.offsets, begin + place);
            prefetch(self.offsets, named);
        }
        let mut ends = [[(0, 0); 2]; BLOCK];
        for (ends, &pair) in ends.iter_mut().zip(pairs) {
            let (place, named) = split(pair);
            *ends = [self.ends(begin + place), self.ends(named)];
            for (begin, end) in *ends {
                prefetch(self.tokens, begin as usize);
                prefetch(self.tokens, end.wrapping_sub(1) as usize);
            }
        }
        for (&[own, others], &pair) in ends.iter().zip(pairs) {
            let (place, named) = split(pair);
            first[place].write(named as i64);
            if !same(self.between(own), self.between(others)) {
                mistaken.push(begin + place);
            }
        }
    }

    /// Groups `mistaken` segments by their tokens. All with the same tokens are among
    /// them: they had the same hash, hence the same, wrong, first segment.
    fn regroup(self, mut mistaken: Vec<usize>, first: &mut [MaybeUninit<i64>]) {
        mistaken.sort_unstable();
        let mut seen = HashMap::new();
        for segment in mistaken {
            let named = *seen.entry(self.between(self.ends(segment))).or_insert(segment);
            first[segment].write(named as i64);
        }
    }
}

/// Whether both are there and have the same tokens.
fn same(one: Option<&[i32]>, other: Option<&[i32]>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    if one.len() != other.len() || one.len() > 32 {
        return one == other;
    }
    // Few tokens are compared sooner than a call is made.
    let (ones, others) = (one.as_chunks::<4>(), other.as_chunks::<4>());
    let mut difference = 0;
    for (a, b) in ones.0.iter().zip(others.0) {
        difference |= (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
    }
    for (a, b) in ones.1.iter().zip(others.1) {
        difference |= a ^ b;
    }
    difference == 0
}
