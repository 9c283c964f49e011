//! The same random numbers in every run.

/// `count` numbers of at least 0 and below `most`.
pub fn below(count: usize, most: i32) -> Vec<i32> {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as i32
    };
    (0..count).map(|_| random() % most).collect()
}
