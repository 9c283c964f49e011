//! Lengths for the tests of every function that takes lengths.

pub mod trees;

const MOST: i32 = i32::MAX;

/// Few lengths: none, one, zeros, the maximum, runs, ties.
pub fn lengths() -> Vec<Vec<i32>> {
    vec![
        vec![],
        vec![0],
        vec![1],
        vec![MOST],
        vec![0, 0, 0],
        vec![7; 9],
        vec![0, 5, 0, 3],
        vec![3, 9, 4, 5],
        vec![1, 2, 3, 4, 5],
        vec![5, 4, 3, 2, 1],
        vec![MOST, 0, MOST - 1, MOST, 1],
        vec![MOST - 1, MOST - 1, MOST],
    ]
}

/// Many lengths, enough for several threads, with distributions that each take another code path.
pub fn many_lengths() -> Vec<Vec<i32>> {
    let count = 150_001;
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as i32
    };
    let mut below = |most: i32| (0..count).map(|_| random() % most).collect::<Vec<i32>>();
    let mut outlier = below(100);
    outlier[70_000] = MOST;
    vec![below(5), below(8192), below(1 << 20), below(MOST), outlier, vec![512; count as usize]]
}

/// Many short segments, many of them equal, enough for several threads and bins.
pub fn many_segments(tokens: i32, longest: usize) -> Vec<Vec<i32>> {
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as i32
    };
    (0..100_003)
        .map(|_| {
            let length = random() as usize % (longest + 1);
            (0..length).map(|_| random() % tokens).collect()
        })
        .collect()
}

/// The elements that `fill` writes.
pub fn written<T, E>(
    count: usize,
    fill: impl FnOnce(&mut [std::mem::MaybeUninit<T>]) -> Result<(), E>,
) -> Result<Vec<T>, E> {
    let mut elements = Vec::with_capacity(count);
    fill(&mut elements.spare_capacity_mut()[..count])?;
    // SAFETY: the functions under test guarantee that they have written every element.
    unsafe { elements.set_len(count) };
    Ok(elements)
}
