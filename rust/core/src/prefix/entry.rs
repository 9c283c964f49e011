//! What decides a segment's place in its group, as one number.

use super::rest::Rest;

/// A segment's number in 32 bits below what decides its place in a group.
///
/// Without a pivot that is four tokens, 24 bits each. With one it is, from the top, its class by the
/// pivot, and the two tokens after what it has in common with the pivot, 32 bits each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(pub(super) u128);

/// The class of segments that are equal to the pivot. Below it are those that stand
/// before the pivot, the longer in common the later; above it those behind, the
/// longer the earlier.
pub(super) const EQUAL: u32 = i32::MAX as u32;

/// How many tokens a key without a pivot has.
const FIRST: usize = 4;
/// The bits that each of them takes: few vocabularies are larger.
const BITS: u32 = 24;
/// Stands for tokens beyond that.
const OTHER: u32 = (1 << BITS) - 1;

impl Entry {
    pub(super) fn of(segment: u32) -> Self {
        Entry(segment.into())
    }

    /// With what stands first in its tokens.
    pub(super) fn by_first(self, tokens: Rest) -> Self {
        let mut key = 0;
        match tokens.tokens().first_chunk::<FIRST>() {
            Some(first) if first.iter().all(|&token| (0..OTHER as i32 - 1).contains(&token)) => {
                first.iter().for_each(|&token| key = key << BITS | (token as u128 + 1));
            }
            _ => {
                let mut known = true;
                for at in 0..FIRST {
                    let number = if known { tokens.get(at).map_or(0, narrow) } else { 0 };
                    known = is_known(number);
                    key = key << BITS | u128::from(number);
                }
            }
        }
        Entry(key << 32 | self.0 & 0xFFFF_FFFF)
    }

    /// How many tokens it shares with one of another key, both without a pivot.
    pub(super) fn shared_first(self, other: Self) -> u32 {
        (self.0 ^ other.0).leading_zeros() / BITS
    }

    /// How many tokens all that have its key without a pivot begin with.
    pub(super) fn known_first(self) -> u32 {
        let number = |at: usize| (self.key() >> (at as u32 * BITS)) as u32 & OTHER;
        (0..FIRST).filter(|&at| is_known(number(at))).count() as u32
    }

    /// Compares tokens with the pivot's.
    pub(super) fn by(self, tokens: Rest, pivot: Rest) -> Self {
        let common = tokens.common(pivot);
        let class = match (tokens.get(common), pivot.get(common)) {
            (None, None) => return self.equal(),
            (Some(own), Some(other)) if own > other => u32::MAX - common as u32,
            (Some(_), None) => u32::MAX - common as u32,
            _ => common as u32,
        };
        let [one, two] = next(tokens, common);
        self.with(class, one, two)
    }

    /// As the pivot itself.
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

    /// The tokens after those in common, up to the first that is not known.
    fn next(self) -> [u32; 2] {
        [(self.0 >> 64) as u32, (self.0 >> 32) as u32]
    }

    /// What decides its place, without its number.
    pub(super) fn key(self) -> u128 {
        self.0 >> 32
    }

    /// How many tokens it has in common with a pivot of `length` tokens.
    fn common(self, length: u32) -> u32 {
        match self.class() {
            EQUAL => length,
            class => class.min(u32::MAX - class),
        }
    }

    /// How many tokens it shares with one of another key.
    pub(super) fn shared(self, other: Self, length: u32) -> u32 {
        let common = self.common(length).min(other.common(length));
        common + u32::from(self.class() == other.class() && self.next()[0] == other.next()[0])
    }

    /// How many tokens all that have its key begin with.
    pub(super) fn known(self, length: u32) -> u32 {
        self.common(length) + self.next().map(|token| u32::from(token != 0)).iter().sum::<u32>()
    }
}

/// A token as a number of [`BITS`] bits in the same order, which some tokens share.
fn narrow(token: i32) -> u32 {
    u32::try_from(token).map_or(0, |token| token.saturating_add(1).min(OTHER))
}

/// Whether a number stands for one token only; nothing behind another is compared.
fn is_known(number: u32) -> bool {
    (1..OTHER).contains(&number)
}

/// The two tokens from `at` on as numbers in the same order; 0 where there is none.
fn next(tokens: Rest, at: usize) -> [u32; 2] {
    // No token stands for 0, which the least possible one shares: who reads it takes neither for known.
    let number = |at: usize| tokens.get(at).map_or(0, |token| token as u32 ^ 1 << 31);
    let one = number(at);
    [one, if one == 0 { 0 } else { number(at + 1) }]
}
