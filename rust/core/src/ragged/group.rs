//! Which segments have the same tokens.
//!
//! Every segment is hashed, and its hash and number go into a bin by the hash's
//! first bits. A bin is small enough that a table of its hashes stays in a core's
//! own cache; there each segment finds the first one with its hash, and the two
//! go into another bin, by the segment's number. At last these bins are gone
//! through in order: whether the tokens are the same is checked one by one, and
//! since neighbours are checked together, only one of the two segments is read
//! from far away. The few that share a hash and nothing else are then grouped by
//! their tokens.
//!
//! The cost is two passes over the tokens, and 8 bytes of memory for each segment
//! plus 8 for each that is not the first of its kind.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::bins::{BLOCK, Bins};
use super::hash::{self, hash};
use super::segment_count;
use crate::chunks::{on_threads, ranges};
use crate::error::{Error, Result};
use crate::parallel::threads_for;

/// How many segments a bin should have, so that its table fits into a core's second cache.
const SEGMENTS_PER_BIN: usize = 1 << 13;
/// With more bins than this, writing to them is not quick.
const MOST_BINS: usize = 1 << 11;
/// How many segments are worked on together, so that their reads overlap.
const TOGETHER: usize = BLOCK;

/// Writes into `first`, for each segment, the first segment with the same tokens:
/// itself, if none before it has them.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0,
/// never descend, and end with the number of tokens. `first` must have one element
/// for each segment; where the result is `Ok`, all are written.
pub fn group_identical(tokens: &[i32], offsets: &[i64], first: &mut [MaybeUninit<i64>]) -> Result<()> {
    group_identical_by(hash, tokens, offsets, first)
}

/// As [`group_identical`], with a hash of the caller's. The result is the same for
/// any hash that depends on the tokens alone, however poor.
pub fn group_identical_by(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let segments = Segments { tokens, offsets };
    segments.check_ends(first.len())?;
    let number = Number::below(first.len());
    let by_hash = segments.by_hash(&hash, number)?;
    let pairs = pairs_by_hash(&by_hash, number);
    drop(by_hash);
    let mistaken = segments.check(&pairs, first);
    segments.regroup(mistaken, first);
    Ok(())
}

#[derive(Clone, Copy)]
struct Segments<'a> {
    tokens: &'a [i32],
    offsets: &'a [i64],
}

impl<'a> Segments<'a> {
    fn check_ends(self, firsts: usize) -> Result<()> {
        let segments = segment_count(self.offsets)?;
        if firsts != segments {
            let because = "one for each segment";
            return Err(Error::Size { argument: "first", size: firsts, expected: segments, because });
        }
        let end = self.offsets[segments];
        if end != self.tokens.len() as i64 {
            let expected = "the number of tokens, since the last segment ends there";
            return Err(Error::Element { argument: "offsets", index: segments, value: end, expected });
        }
        Ok(())
    }

    /// The tokens of a segment, or nothing where its offsets are not within the tokens.
    fn get(self, segment: usize) -> Option<&'a [i32]> {
        self.between(self.ends(segment))
    }

    fn ends(self, segment: usize) -> (i64, i64) {
        (self.offsets[segment], self.offsets[segment + 1])
    }

    fn between(self, (begin, end): (i64, i64)) -> Option<&'a [i32]> {
        self.tokens.get(begin as usize..end as usize) // negative ones become too large
    }

    /// Every segment's number beside its hash, in bins by the hash: one set of bins
    /// for each stretch of segments, in their order.
    fn by_hash(self, hash: impl Fn(&[i32]) -> u64 + Sync, number: Number) -> Result<Vec<Bins>> {
        let count = self.offsets.len() - 1;
        let bins = (count / SEGMENTS_PER_BIN + 1).next_power_of_two().min(MOST_BINS);
        let threads = threads_for(count.max(self.tokens.len() / 8));
        let parts = on_threads(threads, ranges(count, threads), |range: Range<usize>| {
            let mut binned = Bins::new(bins, range.len());
            for segment in range {
                let (begin, end) = self.ends(segment);
                let tokens = self.between((begin, end)).ok_or_else(|| refused(segment, begin, end))?;
                let hash = hash::mix(hash(tokens));
                let bin = hash.rotate_left(bins.ilog2()) as usize % bins;
                binned.push(bin, number.beside(hash << bins.ilog2(), segment));
            }
            Ok(binned)
        });
        parts.into_iter().collect()
    }

    /// Writes into `first` each segment itself, and for each of `pairs` the one that
    /// is to be checked against; returns those that are not the same as that one.
    fn check(self, pairs: &[Bins], first: &mut [MaybeUninit<i64>]) -> Vec<usize> {
        let threads = threads_for(self.tokens.len() / 8);
        let parts = first.chunks_mut(SEGMENTS_PER_BIN).enumerate().collect();
        let mistaken = on_threads(threads, parts, |(bin, first): (usize, &mut [MaybeUninit<i64>])| {
            let begin = bin * SEGMENTS_PER_BIN;
            for (segment, slot) in first.iter_mut().enumerate() {
                slot.write((begin + segment) as i64);
            }
            let mut mistaken = Vec::new();
            for pairs in pairs.iter().flat_map(|pairs| pairs.blocks(bin)) {
                self.check_together(pairs, begin, first, &mut mistaken);
            }
            mistaken
        });
        mistaken.concat()
    }

    fn check_together(
        self,
        pairs: &[u64],
        begin: usize,
        first: &mut [MaybeUninit<i64>],
        mistaken: &mut Vec<usize>,
    ) {
        let mut ends = [(0, 0); TOGETHER];
        for (ends, &pair) in ends.iter_mut().zip(pairs) {
            *ends = self.ends(pair as usize / SEGMENTS_PER_BIN);
        }
        let mut heads = 0;
        for &(begin, _) in &ends[..pairs.len()] {
            heads ^= self.tokens.get(begin as usize).copied().unwrap_or(0);
        }
        std::hint::black_box(heads);
        for (&ends, &pair) in ends.iter().zip(pairs) {
            let (named, local) = (pair as usize / SEGMENTS_PER_BIN, pair as usize % SEGMENTS_PER_BIN);
            first[local].write(named as i64);
            if self.get(begin + local) != self.between(ends) {
                mistaken.push(begin + local);
            }
        }
    }

    /// Groups `mistaken` segments by their tokens. All with the same tokens are among
    /// them: they had the same hash, hence the same, wrong, first segment.
    fn regroup(self, mut mistaken: Vec<usize>, first: &mut [MaybeUninit<i64>]) {
        mistaken.sort_unstable();
        let mut seen = HashMap::new();
        for segment in mistaken {
            let named = *seen.entry(self.get(segment)).or_insert(segment);
            first[segment].write(named as i64);
        }
    }
}

fn refused(segment: usize, begin: i64, end: i64) -> Error {
    let expected = if end < begin { "at least the offset before it" } else { "at most the number of tokens" };
    Error::Element { argument: "offsets", index: segment + 1, value: end, expected }
}

/// The bits that a segment's number takes below a hash.
#[derive(Clone, Copy)]
struct Number {
    mask: u64,
}

impl Number {
    fn below(count: usize) -> Self {
        Self { mask: (count as u64 + 1).next_power_of_two() - 1 }
    }

    /// The hash's upper bits, with the segment's number, from 1, in place of the lower.
    fn beside(self, hash: u64, segment: usize) -> u64 {
        hash & !self.mask | (segment as u64 + 1)
    }

    fn segment(self, entry: u64) -> usize {
        (entry & self.mask) as usize - 1
    }

    fn hash(self, entry: u64) -> u64 {
        entry & !self.mask
    }
}

/// Each segment whose hash an earlier one has, with the first of these, as
/// `first × SEGMENTS_PER_BIN + segment % SEGMENTS_PER_BIN`, in bins by
/// `segment / SEGMENTS_PER_BIN`.
fn pairs_by_hash(by_hash: &[Bins], number: Number) -> Vec<Bins> {
    let bins = by_hash[0].len();
    let segments: usize =
        (0..bins).flat_map(|bin| by_hash.iter().map(move |stretch| stretch.count(bin))).sum();
    let threads = threads_for(segments).min(bins);
    on_threads(threads, ranges(bins, threads), |range: Range<usize>| {
        let counts = range.clone().map(|bin| by_hash.iter().map(|stretch| stretch.count(bin)).sum::<usize>());
        let mut pairs = Bins::new(segments.div_ceil(SEGMENTS_PER_BIN), counts.sum());
        let mut table = Vec::new();
        for bin in range {
            let blocks = by_hash.iter().flat_map(|stretch| stretch.blocks(bin));
            find_pairs(blocks, segments / bins, number, &mut table, |entry, holder| {
                let (segment, named) = (number.segment(entry), number.segment(holder));
                let pair = named * SEGMENTS_PER_BIN + segment % SEGMENTS_PER_BIN;
                pairs.push(segment / SEGMENTS_PER_BIN, pair as u64);
            });
        }
        pairs
    })
}

/// Calls `found(entry, holder)` for each entry with the first one of its hash.
///
/// In each round, the first entry that comes to a slot holds it. Later ones with
/// its hash are found; those with another go to the next round, where slots are
/// taken by other bits. Which of the three it is, is never guessed.
fn find_pairs<'a>(
    entries: impl Iterator<Item = &'a [u64]>,
    expected: usize,
    number: Number,
    table: &mut Vec<u64>,
    mut found: impl FnMut(u64, u64),
) {
    let mut left = Vec::new();
    let bits = (expected * 2).max(64).next_power_of_two().ilog2();
    table.clear();
    table.resize(1 << bits, 0);
    for some in entries {
        find_together(some, number, table, 64 - bits, 1, &mut left, &mut found);
    }
    for round in 0.. {
        if left.is_empty() {
            return;
        }
        table.fill(0);
        for some in std::mem::take(&mut left).chunks(TOGETHER) {
            find_together(some, number, table, 64 - bits, hash::odd(round), &mut left, &mut found);
        }
    }
}

fn find_together(
    entries: &[u64],
    number: Number,
    table: &mut [u64],
    shift: u32,
    factor: u64,
    left: &mut Vec<u64>,
    found: &mut impl FnMut(u64, u64),
) {
    let mut pairs = [(0, 0); TOGETHER];
    let mut others = [0; TOGETHER];
    let (mut pair_count, mut other_count) = (0, 0);
    for &entry in entries {
        let hash = number.hash(entry);
        let slot = &mut table[(hash.wrapping_mul(factor) >> shift) as usize];
        let holder = *slot;
        let empty = holder == 0;
        let same = number.hash(holder) == hash;
        *slot = if empty { entry } else { holder };
        pairs[pair_count] = (entry, holder);
        pair_count += usize::from(same & !empty);
        others[other_count] = entry;
        other_count += usize::from(!same & !empty);
    }
    for &(entry, holder) in &pairs[..pair_count] {
        found(entry, holder);
    }
    left.extend_from_slice(&others[..other_count]);
}
