//! A quick 64-bit hash of tokens.
//!
//! Pairs of words are multiplied to 128 bits, whose halves are combined, as in wyhash. It need not resist
//! deliberate collisions: these cost time, but never give a wrong result.

/// Odd numbers with half of their bits set, otherwise unrelated.
const SALTS: [u64; 8] = [
    0x9e37_79b9_7f4a_7c15,
    0xd1b5_4a32_d192_ed03,
    0xa0f2_ec75_a1fe_1575,
    0x8bb8_4b93_962e_acc9,
    0x2d35_8dcc_aa6c_78a5,
    0x4b33_a62e_d433_d4a3,
    0x6e5d_9a1c_c3b7_0f69,
    0x1d8e_4e27_c47d_124f,
];

/// The number of tokens that a step processes in each lane.
const STEP: usize = 4;
/// The number of independent lanes, so that multiplications need not wait for each other.
const LANES: usize = 4;

/// The hash of `tokens`.
pub(super) fn hash(tokens: &[i32]) -> u64 {
    if tokens.len() > 2 * STEP {
        return hash_many(tokens);
    }
    let size = tokens.len() as u64;
    if let (Some(first), Some(last)) = (tokens.first_chunk(), tokens.last_chunk()) {
        // The two may overlap, to an extent given by the number of tokens.
        let ([a, b], [c, d]) = (words(first), words(last));
        return fold(a ^ SALTS[1], b ^ SALTS[2] ^ size) ^ fold(c ^ SALTS[3], d ^ SALTS[4]);
    }
    let token = |at: usize| tokens.get(at).copied().unwrap_or(0);
    let [a, b] = words(&[token(0), token(1), token(2), 0]);
    fold(a ^ SALTS[1], b ^ SALTS[2] ^ size << 32)
}

/// The hash of more tokens than two steps process.
fn hash_many(tokens: &[i32]) -> u64 {
    let mut state = SALTS[0] ^ tokens.len() as u64;
    let mut rest = tokens;
    if tokens.len() > STEP * LANES {
        let mut lanes = [state, SALTS[1], SALTS[2], SALTS[3]];
        while let Some((block, after)) = rest.split_first_chunk::<{ STEP * LANES }>() {
            for (lane, state) in lanes.iter_mut().enumerate() {
                let [a, b] =
                    words(block[lane * STEP..].first_chunk().expect("a block has a step for each lane"));
                *state = fold(a ^ SALTS[4 + lane], b ^ *state);
            }
            rest = after;
        }
        state = fold(lanes[0] ^ lanes[1].rotate_left(17), lanes[2] ^ lanes[3].rotate_left(31))
            ^ lanes[1]
            ^ lanes[2];
    }
    while rest.len() > STEP {
        let (step, after) = rest.split_first_chunk::<STEP>().expect("longer than a step");
        let [a, b] = words(step);
        state = fold(a ^ SALTS[1], b ^ state);
        rest = after;
    }
    // The last step may overlap the previous one; the number of tokens is in the state.
    let [a, b] = words(tokens.last_chunk().expect("more than two steps"));
    fold(a ^ SALTS[2], b ^ state)
}

fn words(tokens: &[i32; STEP]) -> [u64; 2] {
    let pair = |low: i32, high: i32| u64::from(low as u32) | u64::from(high as u32) << 32;
    [pair(tokens[0], tokens[1]), pair(tokens[2], tokens[3])]
}

/// The halves of the 128-bit product, combined.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Mixes all bits of a hash.
pub(super) fn mix(hash: u64) -> u64 {
    fold(hash ^ SALTS[3], SALTS[0])
}

/// An odd factor, a different one for every round up to eight.
pub(super) fn odd(round: usize) -> u64 {
    SALTS[round % SALTS.len()] | 1
}
