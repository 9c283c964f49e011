//! Finds segments with the same tokens.
//!
//! Every segment is hashed, and its hash and number go into a bin determined by the first bits of the hash. A
//! bin is small enough that a table of its hashes fits in a core's own cache; in it, each segment finds the
//! first one with the same hash. Finally, each segment is compared with the one it found. The few that have
//! only the hash in common are then grouped by their tokens.
//!
//! All of this happens in the memory of the result, in chunks with as many elements as segments: each chunk
//! first holds the entries of its segments, by bin, then, in their places, the pairs of segments, and finally
//! the result.
//!
//! This takes two passes over the tokens and hardly any memory. Data is read in order, or prefetched long
//! before.

use std::collections::HashMap;
use std::mem::MaybeUninit;

use super::deal::{Deal, unpair};
use super::find::Finder;
use super::hash::{hash, mix};
use super::segments::{Segments, refused};
use crate::chunks::{on_threads, ranges};
use crate::error::Result;
use crate::memory::prefetch;
use crate::parallel::threads_for;
use crate::place::shared;

/// Hashing this many tokens takes as long as everything else that is done with a segment.
const TOKENS_PER_STEP: usize = 8;
/// The number of parts per thread, so that no thread waits long for another.
const PARTS_PER_THREAD: usize = 4;
/// The number of pairs that are compared together.
const BLOCK: usize = 256;

/// For each segment, writes the first segment with the same tokens into `first`: the segment itself, if no
/// earlier one has them.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0, never descend, and end
/// with the number of tokens. `first` must have one element per segment; if the result is `Ok`, all are
/// written.
pub fn group_identical(tokens: &[i32], offsets: &[i64], first: &mut [MaybeUninit<i64>]) -> Result<()> {
    group(hash, tokens, offsets, first)
}

/// The same as [`group_identical`], with the caller's hash. The result is the same for any hash that depends
/// only on the tokens, however poor.
pub fn group_identical_by(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    group(|tokens| mix(hash(tokens)), tokens, offsets, first)
}

/// Groups by a hash whose differences always affect its first bits.
fn group(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let segments = Segments::new(tokens, offsets)?;
    segments.check_size("first", first.len())?;
    let threads = threads_for(first.len().max(tokens.len() / TOKENS_PER_STEP));
    let deal = Deal::new(first.len(), threads);
    let borders = segments.deal(hash, deal, first, threads)?;
    // SAFETY: the chunks together cover all elements, and `deal_chunk` writes every element of its chunk.
    let first = unsafe { &mut *(std::ptr::from_mut(first) as *mut [i64]) };
    pair(deal, &borders, first);
    let mistaken = segments.check(deal, first, threads);
    segments.regroup(mistaken, first);
    Ok(())
}

/// Replaces each entry with the pair of it and the first entry with the same hash.
fn pair(deal: Deal, borders: &[u32], entries: &mut [i64]) {
    let entries = shared(entries);
    let threads = threads_for(entries.len()).min(deal.bins);
    let cell = |chunk: usize, bin: usize| {
        let at = chunk * (deal.bins + 1) + bin;
        chunk * deal.chunk + borders[at] as usize..chunk * deal.chunk + borders[at + 1] as usize
    };
    on_threads(threads, ranges(deal.bins, threads * PARTS_PER_THREAD), |bins| {
        let mut finder = Finder::new(deal, entries);
        for bin in bins {
            finder.find((0..deal.chunks()).map(|chunk| cell(chunk, bin)));
        }
    });
}

impl Segments<'_> {
    /// Writes every segment's entry into its chunk of `entries`, by bin. Returns the boundaries of the bins
    /// in each chunk, one more than there are bins.
    fn deal(
        self,
        hash: impl Fn(&[i32]) -> u64 + Sync,
        deal: Deal,
        entries: &mut [MaybeUninit<i64>],
        threads: usize,
    ) -> Result<Vec<u32>> {
        let mut borders = vec![0; deal.chunks() * (deal.bins + 1)];
        let of_chunks = borders.chunks_mut(deal.bins + 1);
        let mut parts: Vec<_> = entries.chunks_mut(deal.chunk).zip(of_chunks).enumerate().collect();
        let size = parts.len().div_ceil(threads * PARTS_PER_THREAD).max(1);
        let done = on_threads(threads, parts.chunks_mut(size).collect(), |chunks| {
            let mut hashes = vec![0; deal.chunk];
            for (chunk, (entries, borders)) in chunks {
                self.deal_chunk(&hash, deal, *chunk * deal.chunk, entries, borders, &mut hashes)?;
            }
            Ok(())
        });
        done.into_iter().collect::<Result<()>>()?;
        Ok(borders)
    }

    /// Writes the entries of the segments from `begin` on.
    fn deal_chunk(
        self,
        hash: impl Fn(&[i32]) -> u64,
        deal: Deal,
        begin: usize,
        entries: &mut [MaybeUninit<i64>],
        borders: &mut [u32],
        hashes: &mut [u64],
    ) -> Result<()> {
        let segments = begin..begin + entries.len();
        let mut from = self.offsets[begin];
        for ((segment, &to), slot) in segments.clone().zip(&self.offsets[begin + 1..]).zip(&mut *hashes) {
            let tokens = self.between((from, to)).ok_or_else(|| refused(segment, from, to))?;
            *slot = hash(tokens);
            borders[deal.bin(*slot) + 1] += 1;
            from = to;
        }
        let mut sum = 0;
        for border in &mut borders[1..] {
            sum += std::mem::replace(border, sum);
        }
        // Each bin's boundary moves from its beginning to its end.
        for (segment, &hash) in segments.zip(&*hashes) {
            let at = &mut borders[deal.bin(hash) + 1];
            entries[*at as usize].write(deal.entry(hash, segment) as i64);
            *at += 1;
        }
        Ok(())
    }

    /// Writes the segment paired with each one in its place; returns the segments that differ from theirs.
    fn check(self, deal: Deal, first: &mut [i64], threads: usize) -> Vec<usize> {
        let mut parts: Vec<_> = first.chunks_mut(deal.chunk).enumerate().collect();
        let size = parts.len().div_ceil(threads * PARTS_PER_THREAD).max(1);
        let mistaken = on_threads(threads, parts.chunks_mut(size).collect(), |chunks| {
            let (mut mistaken, mut pairs) = (Vec::new(), vec![0; deal.chunk]);
            for (chunk, first) in chunks {
                let begin = *chunk * deal.chunk;
                let later = self.unpair(begin, first, &mut pairs);
                pairs[..later].chunks(BLOCK).for_each(|pairs| self.check_block(pairs, begin, &mut mistaken));
            }
            mistaken
        });
        mistaken.concat()
    }

    /// Writes the segment paired with each one in its place. Collects the pairs of different segments in
    /// `pairs`, and returns their number.
    fn unpair(self, begin: usize, first: &mut [i64], pairs: &mut [u64]) -> usize {
        for (pair, &entry) in pairs.iter_mut().zip(&*first) {
            *pair = entry as u64;
        }
        let mut later = 0;
        for index in 0..first.len() {
            let pair = pairs[index];
            let (place, named) = unpair(pair);
            first[place] = named as i64;
            pairs[later] = pair;
            later += usize::from(named != begin + place);
        }
        later
    }

    /// Compares the segments of some pairs; `begin` is the chunk's first segment.
    ///
    /// These segments may be anywhere in memory. The first loop prefetches offsets, the second prefetches
    /// tokens, and only the last one compares.
    fn check_block(self, pairs: &[u64], begin: usize, mistaken: &mut Vec<usize>) {
        for &pair in pairs {
            let (place, named) = unpair(pair);
            prefetch(self.offsets, begin + place);
            prefetch(self.offsets, named);
        }
        let mut ends = [[(0, 0); 2]; BLOCK];
        for (ends, &pair) in ends.iter_mut().zip(pairs) {
            let (place, named) = unpair(pair);
            *ends = [self.ends(begin + place), self.ends(named)];
            for (begin, end) in *ends {
                prefetch(self.tokens, begin as usize);
                prefetch(self.tokens, end.wrapping_sub(1) as usize);
            }
        }
        for (&[own, others], &pair) in ends.iter().zip(pairs) {
            if !same(self.between(own), self.between(others)) {
                mistaken.push(begin + unpair(pair).0);
            }
        }
    }

    /// Groups `mistaken` segments by their tokens. All segments with the same tokens are among them, because
    /// they had the same hash, and so the same, wrong, first segment.
    fn regroup(self, mut mistaken: Vec<usize>, first: &mut [i64]) {
        mistaken.sort_unstable();
        let mut seen = HashMap::new();
        for segment in mistaken {
            let named = *seen.entry(self.between(self.ends(segment))).or_insert(segment);
            first[segment] = named as i64;
        }
    }
}

/// Whether both exist and have the same tokens.
fn same(one: Option<&[i32]>, other: Option<&[i32]>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    if one.len() != other.len() || one.len() > 8 {
        return one == other;
    }
    // Comparing few tokens inline is faster than a call. The first four and the last four may overlap.
    if let [Some(first), Some(last), Some(others_first), Some(others_last)] =
        [one.first_chunk(), one.last_chunk(), other.first_chunk(), other.last_chunk()]
    {
        return difference(first, others_first) | difference(last, others_last) == 0;
    }
    one.iter().zip(other).all(|(one, other)| one == other)
}

fn difference(one: &[i32; 4], other: &[i32; 4]) -> i32 {
    (0..4).fold(0, |difference, at| difference | (one[at] ^ other[at]))
}
