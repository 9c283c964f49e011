//! Laws of packing, compared with a naive packing that considers every row for every segment.

use std::mem::MaybeUninit;

use proptest::prelude::*;
use windrow_core::{Error, Result, pack};

#[derive(Debug, PartialEq)]
struct Packed {
    row: Vec<i64>,
    start: Vec<i32>,
    rows: usize,
}

fn pack_rows(lengths: &[i32], capacity: i32, max_segments: i64) -> Result<Packed> {
    let mut row = vec![MaybeUninit::uninit(); lengths.len()];
    let mut start = vec![MaybeUninit::uninit(); lengths.len()];
    let rows = pack::pack_rows(lengths, capacity, max_segments, &mut row, &mut start)?;
    // SAFETY: `pack_rows` guarantees that it writes every element.
    let row = row.into_iter().map(|row| unsafe { row.assume_init() }).collect();
    // SAFETY: as above.
    let start = start.into_iter().map(|start| unsafe { start.assume_init() }).collect();
    Ok(Packed { row, start, rows })
}

/// Packing by definition: into the row with the least space, and among those, the first to have that space.
fn naive(lengths: &[i32], capacity: i32, max_segments: i64) -> Packed {
    struct Row {
        free: i32,
        segments: i64,
        came: usize,
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&segment| std::cmp::Reverse(lengths[segment]));
    let mut rows: Vec<Row> = Vec::new();
    let mut packed = Packed { row: vec![0; lengths.len()], start: vec![0; lengths.len()], rows: 0 };
    for (came, segment) in order.into_iter().enumerate() {
        let fits = |row: &Row| row.free >= lengths[segment] && row.segments < max_segments;
        let best = (0..rows.len())
            .filter(|&row| fits(&rows[row]))
            .min_by_key(|&row| (rows[row].free, rows[row].came));
        let best = best.unwrap_or_else(|| {
            rows.push(Row { free: capacity, segments: 0, came });
            rows.len() - 1
        });
        packed.row[segment] = best as i64;
        packed.start[segment] = capacity - rows[best].free;
        rows[best].free -= lengths[segment];
        rows[best].segments += 1;
        if lengths[segment] > 0 {
            rows[best].came = came;
        }
    }
    packed.rows = rows.len();
    packed
}

fn assert_laws(lengths: &[i32], capacity: i32, max_segments: i64, packed: &Packed) {
    let mut rows: Vec<Vec<(i32, i32)>> = vec![Vec::new(); packed.rows];
    for (segment, &length) in lengths.iter().enumerate() {
        rows[packed.row[segment] as usize].push((packed.start[segment], length));
    }
    for row in &mut rows {
        assert!(!row.is_empty() && row.len() as i64 <= max_segments);
        row.sort_unstable();
        let mut end = 0;
        for &(start, length) in row.iter() {
            assert_eq!(start, end, "segments of a row have no gaps and no overlap");
            end += length;
        }
        assert!(end <= capacity);
    }
}

/// The smallest number of rows that hold the lengths, found by trying every row for every segment.
fn optimum(lengths: &[i32], capacity: i32) -> usize {
    fn search(lengths: &[i32], capacity: i32, rows: &mut Vec<i32>, best: &mut usize) {
        let Some((&length, rest)) = lengths.split_first() else {
            *best = rows.len();
            return;
        };
        for row in 0..rows.len() {
            if rows[row] + length <= capacity {
                rows[row] += length;
                search(rest, capacity, rows, best);
                rows[row] -= length;
            }
        }
        if rows.len() + 1 < *best {
            rows.push(length);
            search(rest, capacity, rows, best);
            rows.pop();
        }
    }
    let mut best = lengths.len() + 1;
    search(lengths, capacity, &mut Vec::new(), &mut best);
    best
}

/// Cases that every packing must get right: lengths, capacity, maximum number of segments.
fn seeds() -> Vec<(Vec<i32>, i32, i64)> {
    let max = i32::MAX;
    vec![
        (vec![], 0, 1),
        (vec![], max, i64::MAX),
        (vec![0], 0, 1),
        (vec![0; 5], 0, 2),
        (vec![0; 5], 7, i64::MAX),
        (vec![7], 7, 1),
        (vec![2, 5, 3, 1], 6, 4),
        (vec![3, 3, 3, 3], 6, i64::MAX),
        (vec![6, 0, 6, 0, 0, 0], 6, 2),
        // Neighbors with equal space, but different numbers of segments.
        (vec![8, 5, 3, 1, 1, 1, 1], 10, 3),
        (vec![max], max, 1),
        (vec![max, 0, max - 1, 1, max], max, 3),
        (vec![max / 2; 5], max, i64::from(u32::MAX)),
        (vec![max / 3, 1, max / 3, max / 3, 0], max, i64::from(u32::MAX) + 1),
        (vec![1; 200], 64, i64::MAX),
        ((0..300).collect(), 299, 3),
        ((0..300).map(|length| length * 7_000_000).collect(), max, 4),
    ]
}

#[test]
fn seeds_are_packed_by_definition() {
    for (lengths, capacity, max_segments) in seeds() {
        let packed = pack_rows(&lengths, capacity, max_segments).unwrap();
        assert_laws(&lengths, capacity, max_segments, &packed);
        assert_eq!(packed, naive(&lengths, capacity, max_segments), "{lengths:?} in {capacity}");
    }
}

#[test]
fn documented_example() {
    let packed = pack_rows(&[4, 3, 2, 3], 6, 4).unwrap();
    assert_eq!(packed, Packed { row: vec![0, 1, 0, 1], start: vec![0, 0, 4, 3], rows: 2 });
}

#[test]
fn many_equal_lengths_fill_every_row() {
    let packed = pack_rows(&[8; 100_000], 100, i64::MAX).unwrap();
    assert_eq!(packed.rows, 100_000_usize.div_ceil(12));
    let packed = pack_rows(&[8; 100_000], 100, 5).unwrap();
    assert_eq!(packed.rows, 20_000);
}

#[test]
fn errors_name_the_argument() {
    let element = |index, value| Error::Element { argument: "lengths", index, value, expected: "at least 0" };
    assert_eq!(pack_rows(&[3, -1, 9], 8, 1), Err(element(1, -1)));
    assert_eq!(pack_rows(&[i32::MIN], 8, 1), Err(element(0, i32::MIN.into())));
    let above = pack_rows(&[3, 9, -1], 8, 1).unwrap_err();
    assert_eq!(above.to_string(), "lengths[1] is 9; it must be at most capacity, which is 8");
    let above = pack_rows(&[i32::MAX], i32::MAX - 1, 1).unwrap_err();
    assert_eq!(
        above.to_string(),
        "lengths[0] is 2147483647; it must be at most capacity, which is 2147483646"
    );
    for max_segments in [0, -1, i64::MIN] {
        let refused = pack_rows(&[], 8, max_segments).unwrap_err();
        assert_eq!(refused.to_string(), format!("max_segments is {max_segments}; it must be at least 1"));
    }
    assert_eq!(pack_rows(&[], -1, 1).unwrap_err().to_string(), "capacity is -1; it must be at least 0");
}

#[test]
fn outputs_of_another_size_are_rejected() {
    let (mut row, mut start) = ([MaybeUninit::uninit(); 2], [MaybeUninit::uninit(); 3]);
    let refused = pack::pack_rows(&[1; 3], 8, 1, &mut row, &mut start).unwrap_err();
    assert_eq!(refused.to_string(), "row has 2 elements; it must have 3, one for each length");
    let refused = pack::pack_rows(&[1; 2], 8, 1, &mut row, &mut start).unwrap_err();
    assert_eq!(refused.to_string(), "start has 3 elements; it must have 2, one for each length");
}

/// Lengths with many ties, a capacity that holds each, and a limit that may or may not matter.
fn cases(most: usize) -> impl Strategy<Value = (Vec<i32>, i32, i64)> {
    (0..200_i32).prop_flat_map(move |capacity| {
        let lengths = prop::collection::vec(0..=capacity, 0..most);
        (lengths, Just(capacity), prop_oneof![1..6_i64, Just(i64::MAX)])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn segments_are_packed_by_definition((lengths, capacity, max_segments) in cases(300)) {
        let packed = pack_rows(&lengths, capacity, max_segments).unwrap();
        assert_laws(&lengths, capacity, max_segments, &packed);
        prop_assert_eq!(packed, naive(&lengths, capacity, max_segments));
    }

    /// Lengths a million times as long have the same rows, which are found with another data structure.
    #[test]
    fn scaling_does_not_change_rows((lengths, capacity, max_segments) in cases(300)) {
        let packed = pack_rows(&lengths, capacity, max_segments).unwrap();
        let long: Vec<i32> = lengths.iter().map(|length| length * 1_000_000).collect();
        let long = pack_rows(&long, capacity * 1_000_000 + 999_999, max_segments).unwrap();
        prop_assert_eq!(packed.row, long.row);
        prop_assert_eq!(packed.rows, long.rows);
        for (start, long) in packed.start.iter().zip(long.start) {
            prop_assert_eq!(start * 1_000_000, long);
        }
    }

    #[test]
    fn needs_at_most_eleven_ninths_of_the_optimum_plus_one(
        (lengths, capacity) in (1..40_i32).prop_flat_map(|capacity| {
            (prop::collection::vec(1..=capacity, 0..10), Just(capacity))
        })
    ) {
        let packed = pack_rows(&lengths, capacity, i64::MAX).unwrap();
        prop_assert!(9 * packed.rows <= 11 * optimum(&lengths, capacity) + 9);
    }
}
