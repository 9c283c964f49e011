//! Which segments have the hash of an earlier one.

use std::ops::Range;

use super::bins::{BLOCK, Bins, SEGMENTS_PER_BIN};
use super::hash::odd;
use crate::chunks::{on_threads, ranges};
use crate::memory::prefetch_all;
use crate::parallel::threads_for;

/// The bits that a segment's number takes below a hash. Together they are an
/// entry, which is never 0.
#[derive(Clone, Copy)]
pub(super) struct Number {
    mask: u64,
}

impl Number {
    pub(super) fn below(count: usize) -> Self {
        Self { mask: (count as u64 + 1).next_power_of_two() - 1 }
    }

    /// The hash's upper bits, with the segment's number, from 1, in place of the lower.
    pub(super) fn beside(self, hash: u64, segment: usize) -> u64 {
        hash & !self.mask | (segment as u64 + 1)
    }

    fn segment(self, entry: u64) -> usize {
        (entry & self.mask) as usize - 1
    }

    fn hash(self, entry: u64) -> u64 {
        entry & !self.mask
    }
}

/// Each of `segments` whose hash an earlier one has, with the first of these, as
/// `first × SEGMENTS_PER_BIN + segment % SEGMENTS_PER_BIN`, in bins by
/// `segment / SEGMENTS_PER_BIN`.
///
/// `by_hash` has the entries in bins by their hash, in stretches that follow one another.
pub(super) fn pairs_by_hash(by_hash: Vec<Bins>, number: Number, segments: usize) -> Vec<Bins> {
    let bins = by_hash[0].len();
    let count = |bin| by_hash.iter().map(|stretch| stretch.count(bin)).sum::<usize>();
    let threads = threads_for(segments).min(bins);
    on_threads(threads, ranges(bins, threads), |range: Range<usize>| {
        let most = range.clone().map(count).sum();
        let mut pairs = Bins::new(segments.div_ceil(SEGMENTS_PER_BIN), most);
        let mut finder = Finder::new(number, segments / bins);
        for bin in range {
            let blocks = by_hash.iter().flat_map(|stretch| stretch.blocks(bin));
            finder.find(blocks, |entry, holder| {
                let (segment, first) = (number.segment(entry), number.segment(holder));
                let pair = first * SEGMENTS_PER_BIN + segment % SEGMENTS_PER_BIN;
                pairs.push(segment / SEGMENTS_PER_BIN, pair as u64);
            });
        }
        pairs
    })
}

/// Finds entries with equal hashes.
struct Finder {
    number: Number,
    /// Entries by some bits of their hash, or 0.
    table: Vec<u64>,
    /// Entries that found another in their slot.
    left: Vec<u64>,
}

impl Finder {
    /// For bins of some `expected` entries.
    fn new(number: Number, expected: usize) -> Self {
        Self { number, table: vec![0; expected.max(64).next_power_of_two()], left: Vec::new() }
    }

    /// Calls `found(entry, holder)` for each entry with the first one of its hash.
    ///
    /// In each round, the first entry that comes to a slot holds it. Later ones with
    /// its hash are found; those with another go to the next round, where slots are
    /// taken by other bits. As every round leaves fewer, there is a last one.
    fn find<'a>(&mut self, blocks: impl Iterator<Item = &'a [u64]>, mut found: impl FnMut(u64, u64)) {
        let mut blocks = blocks.peekable();
        self.table.fill(0);
        while let Some(block) = blocks.next() {
            blocks.peek().inspect(|next| prefetch_all(next));
            self.find_in_block(block, self.table.len(), 1, &mut found);
        }
        let mut round = 0;
        while !self.left.is_empty() {
            let entries = std::mem::take(&mut self.left);
            let slots = (2 * entries.len()).next_power_of_two().min(self.table.len());
            self.table[..slots].fill(0);
            for block in entries.chunks(BLOCK) {
                self.find_in_block(block, slots, odd(round), &mut found);
            }
            round += 1;
        }
    }

    /// One round's work for some entries: which of the three each is, is never guessed.
    fn find_in_block(&mut self, block: &[u64], slots: usize, factor: u64, found: &mut impl FnMut(u64, u64)) {
        let mut pairs = [(0, 0); BLOCK];
        let mut others = [0; BLOCK];
        let (mut pair_count, mut other_count) = (0, 0);
        let shift = 64 - slots.ilog2();
        for &entry in block {
            let hash = self.number.hash(entry);
            let slot = &mut self.table[(hash.wrapping_mul(factor) >> shift) as usize];
            let holder = *slot;
            let empty = holder == 0;
            let same = self.number.hash(holder) == hash;
            *slot = if empty { entry } else { holder };
            pairs[pair_count] = (entry, holder);
            pair_count += usize::from(same & !empty);
            others[other_count] = entry;
            other_count += usize::from(!same & !empty);
        }
        for &(entry, holder) in &pairs[..pair_count] {
            found(entry, holder);
        }
        self.left.extend_from_slice(&others[..other_count]);
    }
}
