//! Distributes segments and their hashes into chunks and bins for grouping.

/// The target number of segments per bin, so that a table of them fits in a core's own cache.
const SEGMENTS_PER_BIN: usize = 1 << 13;
/// With more bins than this, distribution becomes slow.
const MOST_BINS: usize = 1 << 10;
/// The target number of entries per chunk and bin, so that they fill cache lines.
const ENTRIES_PER_CELL: usize = 1 << 6;
/// The number of chunks per thread, if there are few segments.
const CHUNKS_PER_THREAD: usize = 4;

/// The number of bits of a position in a chunk.
const PLACE_BITS: u32 = 16;
const _: () = assert!(MOST_BINS * ENTRIES_PER_CELL <= 1 << PLACE_BITS);

/// Segments are divided into *chunks* of neighbors, and into *bins* by the first bits of their hashes; the
/// intersection of a chunk and a bin is a *cell*.
#[derive(Clone, Copy)]
pub(super) struct Deal {
    /// The number of segments.
    pub count: usize,
    /// The number of bins, a power of two.
    pub bins: usize,
    /// The number of segments in a chunk, a power of two.
    pub chunk: usize,
    /// The number of hash bits that determine the bin.
    bits: u32,
    /// The number of bits for a segment's number, below the hash.
    mask: u64,
}

impl Deal {
    pub(super) fn new(count: usize, threads: usize) -> Self {
        let bins = (count / SEGMENTS_PER_BIN + 1).next_power_of_two().min(MOST_BINS);
        let most = (bins * ENTRIES_PER_CELL).max(SEGMENTS_PER_BIN);
        let chunk = (count / (threads * CHUNKS_PER_THREAD) + 1).next_power_of_two().min(most);
        Deal { count, bins, chunk, bits: bins.ilog2(), mask: (count as u64 + 1).next_power_of_two() - 1 }
    }

    /// The number of chunks.
    pub(super) fn chunks(self) -> usize {
        self.count.div_ceil(self.chunk)
    }

    /// The bin of a hash.
    pub(super) fn bin(self, hash: u64) -> usize {
        hash.rotate_left(self.bits) as usize & (self.bins - 1)
    }

    /// A segment's *entry*: as many hash bits as fit, apart from those that determine the bin, above its
    /// number, counted from 1. No entry is 0.
    pub(super) fn entry(self, hash: u64, segment: usize) -> u64 {
        (hash << self.bits) & !self.mask | (segment as u64 + 1)
    }

    /// The bits of the hash in an entry.
    pub(super) fn hash(self, entry: u64) -> u64 {
        entry & !self.mask
    }

    /// The position of an entry's segment in its chunk, paired with the first segment that has the same hash.
    pub(super) fn pair(self, entry: u64, first: u64) -> u64 {
        let (segment, first) = ((entry & self.mask) - 1, (first & self.mask) - 1);
        first << PLACE_BITS | segment & (self.chunk as u64 - 1)
    }
}

/// The position and the segment in the result of [`Deal::pair`].
pub(super) fn unpair(pair: u64) -> (usize, usize) {
    ((pair & ((1 << PLACE_BITS) - 1)) as usize, (pair >> PLACE_BITS) as usize)
}
