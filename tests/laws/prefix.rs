//! Laws of prefix trees, compared with whole segments and with the set of all prefixes.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;

use crate::seeds::trees::{
    distinct_prefixes, lengths, naive_order, order_of, path, ragged, rows_of, segments, shapes, sorted,
};
use crate::seeds::{many_segments, written};
use proptest::prelude::*;
use windrow_core::Error;
use windrow_core::pack::pack_rows;
use windrow_core::prefix::{Stems, prefix_order, prefix_stems};
use windrow_core::ragged::group_identical;

fn assert_order(segments: &[Vec<i32>]) {
    let (tokens, offsets) = ragged(segments);
    let (order, shared) = order_of(&tokens, &offsets).unwrap();
    assert_eq!((order.clone(), shared.clone()), naive_order(segments));
    // Equal segments share all of their tokens, and `group_identical` finds the same groups.
    let first = written(segments.len(), |first| group_identical(&tokens, &offsets, first)).unwrap();
    for at in 1..order.len() {
        let [before, segment] = [order[at - 1], order[at]].map(|segment| segment as usize);
        let shared = shared[at] as usize;
        let equal = shared == segments[segment].len() && shared == segments[before].len();
        assert_eq!(first[segment] == first[before], equal);
    }
}

fn assert_rows(segments: &[Vec<i32>], capacity: i32) {
    let lengths = lengths(segments);
    let (order, shared) = sorted(segments);
    let rows = rows_of(&lengths, &order, &shared, capacity).unwrap();
    assert_eq!(rows, rows_of(&lengths, &order, &shared, capacity).unwrap(), "the result is deterministic");
    let mut slots: BTreeMap<(i64, usize), &[i32]> = BTreeMap::new();
    for (segment, tokens) in segments.iter().enumerate() {
        let path = path(segment, tokens.len(), &rows.start, &rows.own, &rows.parent);
        for (end, &slot) in (1..).zip(&path) {
            assert!(slot < capacity as usize);
            let row = rows.row[segment];
            let prefix = *slots.entry((row, slot)).or_insert(&tokens[..end]);
            assert_eq!(prefix, &tokens[..end], "the path holds the segment's tokens");
        }
        assert!(rows.own[segment] as usize <= tokens.len());
        assert!((0..rows.count as i64).contains(&rows.row[segment]));
        let parent = rows.parent[segment];
        assert_eq!(parent == -1, rows.own[segment] == 0);
        assert!(parent == -1 || rows.row[parent as usize] == rows.row[segment]);
        let first = segments.iter().position(|other| other == tokens).unwrap();
        let place = |segment: usize| {
            (rows.row[segment], rows.start[segment], rows.own[segment], rows.parent[segment])
        };
        assert_eq!(place(segment), place(first), "equal segments have one place");
    }
    for row in 0..rows.count as i64 {
        // A row is filled without gaps, with each prefix once.
        let filled: Vec<usize> = slots.range((row, 0)..(row + 1, 0)).map(|(&(_, slot), _)| slot).collect();
        assert!(filled.iter().copied().eq(0..filled.len()));
        let of_row = segments.iter().zip(&rows.row).filter(|&(_, &other)| other == row);
        assert_eq!(filled.len(), distinct_prefixes(of_row.map(|(segment, _)| segment)).len());
    }
}

/// Compares stems with the sets of prefixes that segments have.
fn assert_stems(segments: &[Vec<i32>], limits: &[i32], least: i64) -> Stems {
    let (order, shared) = sorted(segments);
    let stems = prefix_stems(&lengths(segments), &order, &shared, limits, least, false).unwrap();
    let tokens = |stem: usize| &segments[stems.segment[stem] as usize][..stems.depth[stem] as usize];
    let depth = |stem: i64| if stem < 0 { 0 } else { stems.depth[stem as usize] };
    let mut branches = vec![0; stems.depth.len()];
    for (stem, &parent) in stems.parent.iter().enumerate() {
        assert!(parent < stem as i64, "a parent comes before its stems");
        assert!(depth(parent) < stems.depth[stem]);
        if parent >= 0 {
            assert!(tokens(stem).starts_with(tokens(parent as usize)));
            branches[parent as usize] += 1;
        }
    }
    for (segment, &stem) in stems.stem.iter().enumerate() {
        assert!(depth(stem) <= limits[segment]);
        let first = segments.iter().position(|other| *other == segments[segment]).unwrap();
        assert_eq!(stem, stems.stem[first], "equal segments have one stem");
        if stem >= 0 {
            assert!(segments[segment].starts_with(tokens(stem as usize)));
            branches[stem as usize] += i64::from(first == segment);
        }
    }
    for (stem, &branches) in branches.iter().enumerate() {
        let own = i64::from(stems.depth[stem] - depth(stems.parent[stem]));
        assert!(own * (branches - 1) >= least, "each stem saves enough");
    }
    stems
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn segments_are_sorted(segments in segments(60)) {
        assert_order(&segments);
    }

    #[test]
    fn rows_hold_trees(segments in segments(60), more in 0..30i32) {
        let longest = lengths(&segments).into_iter().max().unwrap_or(0);
        assert_rows(&segments, longest + more);
    }

    /// Long segments in rows that are barely longer, so several pieces of a tree share tokens in one row.
    #[test]
    fn rows_share_across_pieces(
        grown in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..90usize, prop::collection::vec(0..3, 0..60)), 2..30,
        ),
        more in 0..120i32,
    ) {
        let mut segments: Vec<Vec<i32>> = Vec::new();
        for (from, keep, more) in grown {
            let mut segment = if segments.is_empty() { vec![0; 90] } else { from.get(&segments).clone() };
            segment.truncate(keep);
            segment.extend(more);
            segments.push(segment);
        }
        let longest = lengths(&segments).into_iter().max().unwrap_or(0);
        assert_rows(&segments, longest + more);
    }

    #[test]
    fn stems_are_shared_prefixes(segments in segments(60), cut in 0..12i32, least in 1..20i64) {
        let limits: Vec<i32> = lengths(&segments).into_iter().map(|length| (length - cut).max(0)).collect();
        assert_stems(&segments, &limits, least);
    }

    /// If a stem needs to save only one token, every prefix is computed once.
    #[test]
    fn stems_are_the_whole_tree(segments in segments(60)) {
        let stems = assert_stems(&segments, &lengths(&segments), 1);
        let depth = |stem: i64| if stem < 0 { 0 } else { stems.depth[stem as usize] };
        let in_stems: i32 =
            stems.depth.iter().zip(&stems.parent).map(|(own, &parent)| own - depth(parent)).sum();
        let distinct = (0..segments.len()).filter(|&at| !segments[..at].contains(&segments[at]));
        let after: i32 = distinct.map(|at| segments[at].len() as i32 - depth(stems.stem[at])).sum();
        assert_eq!((in_stems + after) as usize, distinct_prefixes(segments.iter()).len());
    }

    /// Deep trees, whose shared prefixes are much longer than the rest.
    #[test]
    fn deep_rows_hold_trees(ends in prop::collection::vec((0..4usize, prop::collection::vec(0..2, 0..4)), 0..40), more in 0..60i32) {
        let stems: Vec<Vec<i32>> = (0..4).map(|stem| vec![stem.min(2); 30 + 9 * stem as usize]).collect();
        let segments: Vec<Vec<i32>> =
            ends.into_iter().map(|(stem, end)| [stems[stem].clone(), end].concat()).collect();
        assert_order(&segments);
        assert_rows(&segments, 61 + more);
    }
}

#[test]
fn every_shape_of_tree() {
    for segments in shapes() {
        assert_order(&segments);
        for capacity in [40, 41, 64, 200] {
            assert_rows(&segments, capacity);
        }
    }
}

#[test]
fn equal_segments_in_different_places_share_all_tokens() {
    let segments = vec![vec![7, 8, 9], vec![7, 8, 9], vec![5], vec![7, 8, 9]];
    let (order, shared) = sorted(&segments);
    let lengths = lengths(&segments);
    let stems = |apart| prefix_stems(&lengths, &order, &shared, &lengths, 6, apart).unwrap();
    assert_eq!(stems(false).stem, [-1; 4]);
    assert_eq!(stems(true).stem, [0, 0, -1, 0]);
    assert_eq!(stems(true).depth, [3]);
}

#[test]
fn stems_of_every_shape_of_tree() {
    for segments in shapes() {
        for least in [1, 10] {
            assert_stems(&segments, &lengths(&segments), least);
            assert_stems(&segments, &vec![0; segments.len()], least);
        }
    }
}

#[test]
fn worked_example() {
    let letters = ["abcef", "hi", "abcd", "abg", "hi"].map(|text| text.bytes().map(i32::from).collect());
    let (order, shared) = sorted(&letters);
    assert_eq!((&order[..], &shared[..]), (&[2, 0, 3, 1, 4][..], &[0, 3, 2, 0, 2][..]));
    let rows = rows_of(&lengths(&letters), &order, &shared, 8).unwrap();
    assert_eq!(rows.row, [0, 1, 0, 0, 1]);
    assert_eq!(rows.start, [4, 0, 0, 6, 0]);
    assert_eq!(rows.own, [3, 0, 0, 2, 0]);
    assert_eq!(rows.parent, [2, -1, -1, 2, -1]);
}

/// Each segment starts with the whole previous one.
#[test]
fn chain_of_ten_thousand_segments() {
    let count = 10_000;
    let mut state = 1u64;
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    for order in [order, (0..count).collect(), (0..count).rev().collect()] {
        let segments: Vec<Vec<i32>> = order.iter().map(|&length| vec![4; length]).collect();
        let (tokens, offsets) = ragged(&segments);
        let (sorted, shared) = order_of(&tokens, &offsets).unwrap();
        assert!(sorted.iter().map(|&segment| order[segment as usize]).eq(0..count));
        assert!(shared.iter().copied().eq([0].into_iter().chain(0..count as i32 - 1)));
        let lengths = lengths(&segments);
        let rows = rows_of(&lengths, &sorted, &shared, count as i32).unwrap();
        assert_eq!(rows.count, 1);
        for (segment, &length) in order.iter().enumerate() {
            let before = if length < 2 { -1 } else { sorted[length - 1] };
            assert_eq!(rows.parent[segment], before);
            assert!(length == 0 || rows.start[segment] as usize == length - 1);
        }
    }
}

#[test]
fn many_segments_are_sorted() {
    for (tokens, longest) in [(2, 12), (50_000, 2), (3, 40), (1, 0), (1, 30)] {
        assert_order(&many_segments(tokens, longest));
    }
}

/// Small trees are packed like segments, and a large tree takes few more rows than its tokens need.
#[test]
fn many_segments_fill_rows() {
    let apart: Vec<Vec<i32>> = many_segments(50_000, 40)
        .into_iter()
        .zip(0..)
        .map(|(rest, first)| [vec![first], rest].concat())
        .collect();
    let sizes = lengths(&apart);
    let (order, shared) = sorted(&apart);
    let rows = rows_of(&sizes, &order, &shared, 100).unwrap();
    let mut packed = 0;
    written(sizes.len(), |row: &mut [MaybeUninit<i64>]| {
        written(sizes.len(), |start| {
            packed = pack_rows(&sizes, 100, i64::MAX, row, start)?;
            Ok::<_, Error>(())
        })
        .map(drop)
    })
    .unwrap();
    assert_eq!(rows.count, packed);

    let one: Vec<Vec<i32>> =
        many_segments(50_000, 40).into_iter().map(|rest| [vec![7; 60], rest].concat()).collect();
    let (order, shared) = sorted(&one);
    let rows = rows_of(&lengths(&one), &order, &shared, 1000).unwrap();
    let new: i64 = order
        .iter()
        .zip(&shared)
        .map(|(&segment, &shared)| one[segment as usize].len() as i64 - i64::from(shared))
        .sum();
    assert!((rows.count as i64) < new / (1000 - 60 - 40) + 2);
}

#[test]
fn wrong_arguments_are_refused() {
    let (tokens, offsets) = ([1, 2, 1], [0, 2, 3]);
    assert!(matches!(order_of(&tokens, &[]), Err(Error::Size { argument: "offsets", size: 0, .. })));
    assert!(matches!(order_of(&tokens, &[0, 2]), Err(Error::Element { argument: "offsets", index: 1, .. })));
    assert!(matches!(
        order_of(&tokens, &[0, 3, 2, 3]),
        Err(Error::Element { argument: "offsets", index: 2, .. })
    ));
    assert!(matches!(
        order_of(&tokens, &[0, -1, 3]),
        Err(Error::Element { argument: "offsets", index: 1, .. })
    ));
    let short =
        written(1, |order| written(2, |shared| prefix_order(&tokens, &offsets, order, shared)).map(drop));
    assert!(matches!(short, Err(Error::Size { argument: "order", size: 1, expected: 2, .. })));
    let short =
        written(2, |order| written(1, |shared| prefix_order(&tokens, &offsets, order, shared)).map(drop));
    assert!(matches!(short, Err(Error::Size { argument: "shared", size: 1, expected: 2, .. })));

    let lengths = [3, 2, 2];
    for (order, shared, capacity, expected) in [
        (vec![1, 2, 0], vec![0, 1, 2], -1, "capacity is -1; it must be at least 0"),
        (vec![1, 2, 0], vec![0, 1, 2], 2, "lengths[0] is 3; it must be at most capacity, which is 2"),
        (vec![1, 2], vec![0, 1, 2], 9, "order has 2 elements; it must have 3, one for each length"),
        (vec![1, 2, 0], vec![0, 1], 9, "shared has 2 elements; it must have 3, one for each length"),
        (vec![1, 3, 0], vec![0, 1, 2], 9, "order[1] is 3; it must be at least 0 and below the number"),
        (vec![1, -1, 0], vec![0, 1, 2], 9, "order[1] is -1; it must be at least 0"),
        (vec![1, 2, 1], vec![0, 1, 2], 9, "order[2] is 1; it must be a segment that has not come before"),
        (vec![1, 2, 0], vec![1, 1, 2], 9, "shared[0] is 1; it must be at least 0 and at most 0, since no"),
        (vec![1, 2, 0], vec![0, -1, 2], 9, "shared[1] is -1; it must be at least 0 and at most 2,"),
        (
            vec![1, 2, 0],
            vec![0, 1, 3],
            9,
            "shared[2] is 3; it must be at least 0 and at most 2, the length of",
        ),
        (vec![0, 1, 2], vec![0, 3, 2], 9, "shared[1] is 3; it must be at least 0 and at most 2, its own"),
        (vec![0, 1, 2], vec![0, 2, 2], 9, "shared[1] is 2; it must be at least 0 and at most 1, since a"),
    ] {
        let error = rows_of(&lengths, &order, &shared, capacity).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = rows_of(&[3, -2], &[0, 1], &[0, 0], 9).unwrap_err().to_string();
    assert!(error.starts_with("lengths[1] is -2; it must be at least 0"), "{error}");
}

#[test]
fn wrong_limits_of_stems_are_refused() {
    let stems = |limits: &[i32], least| {
        prefix_stems(&[3, 2, 2], &[1, 2, 0], &[0, 1, 2], limits, least, false).err().unwrap().to_string()
    };
    assert_eq!(stems(&[3, 2, 2], 0), "least is 0; it must be at least 1");
    assert_eq!(stems(&[3, 2], 1), "limits has 2 elements; it must have 3, one for each length");
    assert_eq!(stems(&[3, -1, 2], 1), "limits[1] is -1; it must be at least 0");
    assert_eq!(stems(&[3, 2, 4], 1), "limits[2] is 4; it must be at most the segment's length, which is 2");
}
