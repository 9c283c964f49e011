//! Numbers sorted into bins as they come.

use crate::memory::zeroed;

/// The numbers in a block.
pub(super) const BLOCK: usize = 64;

/// Bins that keep their numbers in the order they came in, without knowing
/// beforehand how many there will be: each bin is a chain of blocks.
pub(super) struct Bins {
    memory: Vec<u64>,
    used: usize,
    /// Where each bin's next number goes; at a block's end there is no room for it yet.
    next: Vec<usize>,
    first_block: Vec<usize>,
    /// The block after each block of the same bin.
    block_after: Vec<usize>,
}

impl Bins {
    /// Bins that together hold at most `numbers`. Memory that is not used costs nothing.
    pub(super) fn new(bins: usize, numbers: usize) -> Self {
        let blocks = numbers / BLOCK + bins.min(numbers);
        Self {
            memory: zeroed(blocks * BLOCK),
            used: 0,
            next: vec![0; bins],
            first_block: vec![0; bins],
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
        match self.next[bin] {
            0 => self.first_block[bin] = block,
            end => self.block_after[end / BLOCK - 1] = block,
        }
        block * BLOCK
    }

    pub(super) fn len(&self) -> usize {
        self.next.len()
    }

    /// How many numbers a bin holds.
    pub(super) fn count(&self, bin: usize) -> usize {
        self.blocks(bin).map(<[u64]>::len).sum()
    }

    /// A bin's numbers, in the order they came in, in pieces.
    pub(super) fn blocks(&self, bin: usize) -> impl Iterator<Item = &[u64]> {
        let end = self.next[bin];
        let last = end.wrapping_sub(1) / BLOCK;
        let mut block = (end > 0).then(|| self.first_block[bin]);
        std::iter::from_fn(move || {
            let this = block?;
            block = (this != last).then(|| self.block_after[this]);
            let until = if this == last { end } else { (this + 1) * BLOCK };
            Some(&self.memory[this * BLOCK..until])
        })
    }
}
