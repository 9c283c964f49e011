//! Numbers sorted into bins as they come.

use crate::memory::zeroed;

/// How many segments a bin should have, so that a table of them stays in a core's own cache.
pub(super) const SEGMENTS_PER_BIN: usize = 1 << 13;

/// The numbers in a block.
pub(super) const BLOCK: usize = 256;

/// The numbers in a cache line.
const LINE: usize = 8;

/// Bins that keep their numbers in the order they came in, without knowing
/// beforehand how many there will be: each bin is a chain of blocks.
pub(super) struct Bins {
    memory: Vec<u64>,
    used: usize,
    /// Where each bin's next number goes; at a block's end there is no room for it yet.
    next: Vec<usize>,
    /// Where each bin's first number is.
    first: Vec<usize>,
    /// How many blocks each bin has.
    blocks: Vec<usize>,
    /// The block after each block of the same bin.
    block_after: Vec<usize>,
}

impl Bins {
    /// Bins that together hold at most `numbers`. Memory that is not used costs nothing.
    pub(super) fn new(bins: usize, numbers: usize) -> Self {
        let blocks = numbers / BLOCK + 2 * bins.min(numbers);
        Self {
            memory: zeroed(blocks * BLOCK),
            used: 0,
            next: vec![0; bins],
            first: vec![0; bins],
            blocks: vec![0; bins],
            block_after: vec![0; blocks],
        }
    }

    pub(super) fn push(&mut self, bin: usize, number: u64) {
        let mut at = self.next[bin];
        if at.is_multiple_of(BLOCK) {
            at = self.extend(bin);
        }
        self.memory[at] = number;
        self.next[bin] = at + 1;
    }

    #[cold]
    fn extend(&mut self, bin: usize) -> usize {
        let block = self.used;
        self.used += 1;
        self.blocks[bin] += 1;
        match self.next[bin] {
            0 => {
                self.first[bin] = block * BLOCK + bin * LINE % BLOCK;
                return self.first[bin];
            }
            end => self.block_after[end / BLOCK - 1] = block,
        }
        block * BLOCK
    }

    pub(super) fn len(&self) -> usize {
        self.next.len()
    }

    /// How many numbers a bin holds.
    pub(super) fn count(&self, bin: usize) -> usize {
        match self.next[bin] {
            0 => 0,
            end => (self.blocks[bin] - 1) * BLOCK + (end - 1) % BLOCK + 1 - self.first[bin] % BLOCK,
        }
    }

    /// A bin's numbers, in the order they came in, in pieces.
    pub(super) fn blocks(&self, bin: usize) -> impl Iterator<Item = &[u64]> {
        let end = self.next[bin];
        let last = end.wrapping_sub(1) / BLOCK;
        let mut at = (end > 0).then(|| self.first[bin]);
        std::iter::from_fn(move || {
            let begin = at?;
            let block = begin / BLOCK;
            at = (block != last).then(|| self.block_after[block] * BLOCK);
            let until = if block == last { end } else { (block + 1) * BLOCK };
            Some(&self.memory[begin..until])
        })
    }
}
