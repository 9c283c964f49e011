//! Sorts a few segments lexicographically.
//!
//! This is an insertion sort that remembers shared lengths. The lengths that a segment shares with one sorted
//! segment, and that one with the next, usually tell on which side of the next it belongs; tokens are
//! compared only if both lengths are equal, and only from there on. No insertion reads a token of the new
//! segment twice.

use super::entry::common;

/// The maximum number of segments that are sorted this way.
pub(super) const FEW: usize = 16;

/// A sorted segment.
#[derive(Clone, Copy, Default)]
pub(super) struct Placed<'a> {
    pub segment: u32,
    /// The number of leading tokens it shares with the previous one; 0 for the first.
    pub shared: u32,
    tokens: &'a [i32],
}

/// Sorts at most [`FEW`] segments by their tokens, and equal ones by number.
pub(super) fn sort_few<'a>(segments: impl Iterator<Item = (u32, &'a [i32])>, sorted: &mut [Placed<'a>; FEW]) {
    for (count, (segment, tokens)) in segments.enumerate() {
        let (at, shared, after) = find((segment, tokens), &sorted[..count]);
        let mut next = Placed { segment, shared, tokens };
        for place in &mut sorted[at..=count] {
            std::mem::swap(place, &mut next);
        }
        if at < count {
            sorted[at + 1].shared = after;
        }
    }
}

/// Where to insert a segment, and the number of leading tokens it shares with the previous and the next one.
fn find((segment, tokens): (u32, &[i32]), sorted: &[Placed]) -> (usize, u32, u32) {
    let mut shared = 0;
    for (at, other) in sorted.iter().enumerate() {
        if other.shared < shared {
            return (at, shared, other.shared);
        }
        if other.shared == shared {
            let known = shared as usize;
            let more = known + common(&tokens[known..], &other.tokens[known..]);
            if (tokens.get(more), segment) < (other.tokens.get(more), other.segment) {
                return (at, shared, more as u32);
            }
            shared = more as u32;
        }
    }
    (sorted.len(), shared, 0)
}
