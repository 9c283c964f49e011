//! Which segments have the same tokens.
//!
//! Every segment is hashed, and its hash and number go into a bin by the hash's first
//! bits. A bin is small enough that a table of its hashes stays in a core's own cache;
//! there each segment finds the first one with its hash. At last each segment is
//! compared with the one it found. The few that share a hash and nothing else are then
//! grouped by their tokens.
//!
//! All of this takes place in the memory of the result. It is dealt with in chunks, as
//! many elements as segments: each chunk has the entries of its own segments, by bin,
//! then in their places the pairs of segments, and in the end the result.
//!
//! The cost is two passes over the tokens and hardly any memory. What is read is
//! read in order, or was asked for long before.

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

/// Hashing this many tokens takes as long as anything else that is done with a segment.
const TOKENS_PER_STEP: usize = 8;
/// Parts of the work for each thread, so that none waits long for another.
const PARTS_PER_THREAD: usize = 4;
/// So many pairs are compared together.
const BLOCK: usize = 256;

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
    let threads = threads_for(first.len().max(tokens.len() / TOKENS_PER_STEP));
    let deal = Deal::new(first.len(), threads);
    let borders = segments.deal(hash, deal, first, threads)?;
    // SAFETY: all chunks together have all elements, and `deal_chunk` writes every element of its chunk.
    let first = unsafe { &mut *(std::ptr::from_mut(first) as *mut [i64]) };
    pair(deal, &borders, first);
    let mistaken = segments.check(deal, first, threads);
    segments.regroup(mistaken, first);
    Ok(())
}

/// Puts in the place of each entry the pair of it and the first one of its hash.
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
    /// Writes every segment's entry into its chunk of `entries`, by bin. Returns the borders between
    /// the bins of each chunk, one more than there are bins.
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
        // Each bin's border moves from where the bin begins to where it ends.
        for (segment, &hash) in segments.zip(&*hashes) {
            let at = &mut borders[deal.bin(hash) + 1];
            entries[*at as usize].write(deal.entry(hash, segment) as i64);
            *at += 1;
        }
        Ok(())
    }

    /// Puts in each segment's place the one that it is paired with; returns those
    /// that are not the same as that one.
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

    /// Puts in each segment's place the one that it is paired with. Gathers in `pairs` those of two
    /// segments, and returns how many.
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
    /// The segments named may be anywhere. The first loop asks for offsets, the next
    /// for tokens, and only the last has to wait for a comparison.
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

    /// Groups `mistaken` segments by their tokens. All with the same tokens are among
    /// them: they had the same hash, hence the same, wrong, first segment.
    fn regroup(self, mut mistaken: Vec<usize>, first: &mut [i64]) {
        mistaken.sort_unstable();
        let mut seen = HashMap::new();
        for segment in mistaken {
            let named = *seen.entry(self.between(self.ends(segment))).or_insert(segment);
            first[segment] = named as i64;
        }
    }
}

/// Whether both are there and have the same tokens.
fn same(one: Option<&[i32]>, other: Option<&[i32]>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    if one.len() != other.len() || one.len() > 8 {
        return one == other;
    }
    // Few tokens are compared sooner than a call is made. The first four and the last four may overlap.
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
