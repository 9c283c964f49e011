//! How segments and their hashes are dealt out while they are grouped.

/// How many segments a bin should have, so that a table of them stays in a core's own cache.
const SEGMENTS_PER_BIN: usize = 1 << 13;
/// With more bins than this, dealing is not quick.
const MOST_BINS: usize = 1 << 10;
/// Of each chunk so many entries should come into a bin, so that they fill cache lines.
const ENTRIES_PER_CELL: usize = 1 << 6;
/// Chunks for each thread, where there are few segments.
const CHUNKS_PER_THREAD: usize = 4;

/// The bits of a place in a chunk.
const PLACE_BITS: u32 = 16;
const _: () = assert!(MOST_BINS * ENTRIES_PER_CELL <= 1 << PLACE_BITS);

/// Segments lie in *chunks* of neighbours, and in *bins* by the first bits of their
/// hashes; what a chunk and a bin have in common is a *cell*.
#[derive(Clone, Copy)]
pub(super) struct Deal {
    /// How many segments there are.
    pub count: usize,
    /// How many bins there are, a power of two.
    pub bins: usize,
    /// How many segments a chunk has, a power of two.
    pub chunk: usize,
    /// The bits of a hash that tell the bin.
    bits: u32,
    /// The bits that a segment's number takes below a hash.
    mask: u64,
}

impl Deal {
    pub(super) fn new(count: usize, threads: usize) -> Self {
        let bins = (count / SEGMENTS_PER_BIN + 1).next_power_of_two().min(MOST_BINS);
        let most = (bins * ENTRIES_PER_CELL).max(SEGMENTS_PER_BIN);
        let chunk = (count / (threads * CHUNKS_PER_THREAD) + 1).next_power_of_two().min(most);
        Deal { count, bins, chunk, bits: bins.ilog2(), mask: (count as u64 + 1).next_power_of_two() - 1 }
    }

    /// How many chunks there are.
    pub(super) fn chunks(self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// The bin of a hash.
    pub(super) fn bin(self, hash: u64) -> usize {
        hash.rotate_left(self.bits) as usize & (self.bins - 1)
    }

    /// A segment's *entry*: the bits of its hash that the bin does not tell, as many as there is
    /// room for, above its number, counted from 1. No entry is 0.
    pub(super) fn entry(self, hash: u64, segment: usize) -> u64 {
        (hash << self.bits) & !self.mask | (segment as u64 + 1)
    }

    /// The bits of the hash in an entry.
    pub(super) fn hash(self, entry: u64) -> u64 {
        entry & !self.mask
    }

    /// The place of an entry's segment in its chunk, and the segment of the entry that is first of its kind.
    pub(super) fn pair(self, entry: u64, first: u64) -> u64 {
        let (segment, first) = ((entry & self.mask) - 1, (first & self.mask) - 1);
        first << PLACE_BITS | segment & (self.chunk as u64 - 1)
    }
}

/// What [`Deal::pair`] was made of: place and segment.
pub(super) fn unpair(pair: u64) -> (usize, usize) {
    ((pair & ((1 << PLACE_BITS) - 1)) as usize, (pair >> PLACE_BITS) as usize)
}
