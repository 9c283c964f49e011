//! The tokens of a segment from some depth on, and how many two of them have in common.

/// Tokens that are compared at once.
const BLOCK: usize = 16;

/// A segment's tokens from some depth on. They lie in memory that goes on behind them:
/// it may be read, so that a comparison need not stop short of the end, but does not count.
#[derive(Clone, Copy, Default)]
pub(super) struct Rest<'a> {
    memory: &'a [i32],
    length: usize,
}

impl<'a> Rest<'a> {
    /// The first `length` tokens in `memory`, which has as many.
    pub(super) fn new(memory: &'a [i32], length: usize) -> Self {
        debug_assert!(length <= memory.len());
        Rest { memory, length }
    }

    pub(super) fn tokens(self) -> &'a [i32] {
        &self.memory[..self.length]
    }

    pub(super) fn get(self, at: usize) -> Option<i32> {
        if at < self.length { self.memory.get(at).copied() } else { None }
    }

    /// Without the first `count` tokens, of which there are so many.
    pub(super) fn after(self, count: usize) -> Self {
        Rest { memory: &self.memory[count..], length: self.length - count }
    }

    /// How many first tokens are the same.
    pub(super) fn common(self, other: Self) -> usize {
        let most = self.length.min(other.length);
        let (ones, others) = (self.memory.as_chunks::<BLOCK>(), other.memory.as_chunks::<BLOCK>());
        let mut done = 0;
        for (one, other) in ones.0.iter().zip(others.0) {
            if done >= most {
                return most;
            }
            let different = (0..BLOCK).fold(0, |difference, at| difference | (one[at] ^ other[at]));
            if different != 0 {
                return most.min(done + common_in_block(one, other));
            }
            done += BLOCK;
        }
        // Only where the memory ends.
        let rest = self.memory[done..].iter().zip(&other.memory[done..]);
        most.min(done + rest.take_while(|(one, other)| one == other).count())
    }
}

/// How many first tokens are the same in two blocks; which it will be is not guessed.
fn common_in_block(one: &[i32; BLOCK], other: &[i32; BLOCK]) -> usize {
    const HALF: usize = BLOCK / 2;
    let in_half = |begin: usize| {
        let mut different = [0u8; HALF];
        for (at, different) in different.iter_mut().enumerate() {
            *different = if one[begin + at] == other[begin + at] { 0 } else { u8::MAX };
        }
        u64::from_le_bytes(different).trailing_zeros() as usize / 8
    };
    let (first, second) = (in_half(0), in_half(HALF));
    if first < HALF { first } else { HALF + second }
}
