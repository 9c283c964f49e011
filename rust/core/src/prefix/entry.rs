//! The sort key of a segment within its group, as one number.

/// A segment's sort key in a group, with its number in the lowest bits. From the top, the key is its class
/// relative to the pivot, in 32 bits, and the two tokens after the prefix that it shares with the pivot, 32
/// bits each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(pub(super) u128);

/// The class of segments that are equal to the pivot. Segments before the pivot have lower classes, which
/// increase with the shared length; segments after it have higher classes, which decrease with the shared
/// length.
pub(super) const EQUAL: u32 = i32::MAX as u32;

impl Entry {
    pub(super) fn of(segment: u32) -> Self {
        Entry(segment.into())
    }

    /// Keyed by its first tokens, as if it shared none with a pivot.
    pub(super) fn by_first(self, tokens: &[i32]) -> Self {
        let [one, two] = next(tokens, 0);
        self.with(0, one, two)
    }

    /// Compares tokens with those of the pivot.
    pub(super) fn by(self, tokens: &[i32], pivot: &[i32]) -> Self {
        let common = common(tokens, pivot);
        let class = match (tokens.get(common), pivot.get(common)) {
            (None, None) => return self.equal(),
            (Some(own), Some(other)) if own > other => u32::MAX - common as u32,
            (Some(_), None) => u32::MAX - common as u32,
            _ => common as u32,
        };
        let [one, two] = next(tokens, common);
        self.with(class, one, two)
    }

    /// The entry of the pivot itself.
    pub(super) fn equal(self) -> Self {
        self.with(EQUAL, 0, 0)
    }

    fn with(self, class: u32, one: u32, two: u32) -> Self {
        Entry(u128::from(class) << 96 | u128::from(one) << 64 | u128::from(two) << 32 | self.0 & 0xFFFF_FFFF)
    }

    pub(super) fn segment(self) -> usize {
        self.0 as u32 as usize
    }

    pub(super) fn class(self) -> u32 {
        (self.0 >> 96) as u32
    }

    /// The tokens after the shared ones, up to the first unknown one.
    fn next(self) -> [u32; 2] {
        [(self.0 >> 64) as u32, (self.0 >> 32) as u32]
    }

    /// The key, without the segment's number.
    pub(super) fn key(self) -> u128 {
        self.0 >> 32
    }

    /// The number of leading tokens it shares with a pivot of `length` tokens.
    fn common(self, length: u32) -> u32 {
        match self.class() {
            EQUAL => length,
            class => class.min(u32::MAX - class),
        }
    }

    /// The number of leading tokens it shares with an entry that has a different key.
    pub(super) fn shared(self, other: Self, length: u32) -> u32 {
        let common = self.common(length).min(other.common(length));
        common + u32::from(self.class() == other.class() && self.next()[0] == other.next()[0])
    }

    /// The number of leading tokens common to all entries with its key.
    pub(super) fn known(self, length: u32) -> u32 {
        self.common(length) + self.next().map(|token| u32::from(token != 0)).iter().sum::<u32>()
    }
}

/// The two tokens from `at` on, as numbers with the same order; 0 if there is none.
fn next(tokens: &[i32], at: usize) -> [u32; 2] {
    // 0 means no token, and also the smallest possible one, so readers treat both as unknown.
    let number = |at: usize| tokens.get(at).map_or(0, |&token| token as u32 ^ 1 << 31);
    let one = number(at);
    [one, if one == 0 { 0 } else { number(at + 1) }]
}

/// The number of equal leading tokens.
pub(super) fn common(one: &[i32], other: &[i32]) -> usize {
    const BLOCK: usize = 16;
    let most = one.len().min(other.len());
    let (one, other) = (&one[..most], &other[..most]);
    if one.first() != other.first() {
        return 0;
    }
    let blocks = one.as_chunks::<BLOCK>().0.iter().zip(other.as_chunks::<BLOCK>().0);
    let same = |(one, other): &(&[i32; BLOCK], &[i32; BLOCK])| {
        (0..BLOCK).fold(0, |difference, at| difference | (one[at] ^ other[at])) == 0
    };
    let begin = BLOCK * blocks.take_while(same).count();
    let rest = one[begin..].iter().zip(&other[begin..]);
    begin + rest.take_while(|(one, other)| one == other).count()
}
