//! Laws of ragged tokens, compared with a map from tokens to the first segment with them.

use std::collections::HashMap;

use crate::seeds::trees::ragged;
use crate::seeds::{many_segments, written};
use proptest::prelude::*;
use windrow_core::{Error, Result, ragged};

fn token_lengths(offsets: &[i64]) -> Result<Vec<i32>> {
    written(offsets.len().saturating_sub(1), |slots| ragged::token_lengths(offsets, slots))
}

fn group_identical(tokens: &[i32], offsets: &[i64]) -> Result<Vec<i64>> {
    written(offsets.len().saturating_sub(1), |slots| ragged::group_identical(tokens, offsets, slots))
}

fn group_by(hash: impl Fn(&[i32]) -> u64 + Sync, tokens: &[i32], offsets: &[i64]) -> Vec<i64> {
    written(offsets.len() - 1, |slots| ragged::group_identical_by(hash, tokens, offsets, slots)).unwrap()
}

fn naive(tokens: &[i32], offsets: &[i64]) -> Vec<i64> {
    let mut seen = HashMap::new();
    let segments = offsets.windows(2).map(|ends| &tokens[ends[0] as usize..ends[1] as usize]);
    (0..).zip(segments).map(|(number, segment)| *seen.entry(segment).or_insert(number)).collect()
}

fn assert_laws(segments: &[Vec<i32>]) {
    let (tokens, offsets) = ragged(segments);
    let lengths = token_lengths(&offsets).unwrap();
    assert!(lengths.iter().zip(segments).all(|(&length, segment)| length as usize == segment.len()));
    let expected = naive(&tokens, &offsets);
    assert_eq!(group_identical(&tokens, &offsets).unwrap(), expected);
    // Hashes that always collide, or that depend only on the length, on one token, or on the last bits.
    assert_eq!(group_by(|_| 0, &tokens, &offsets), expected);
    assert_eq!(group_by(|tokens| tokens.len() as u64, &tokens, &offsets), expected);
    assert_eq!(
        group_by(|tokens| tokens.first().map_or(9, |&token| token as u64), &tokens, &offsets),
        expected
    );
    assert_eq!(group_by(|tokens| tokens.iter().map(|&t| t as u64 & 3).sum(), &tokens, &offsets), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_segments_are_grouped(
        segments in prop::collection::vec(prop::collection::vec(0..3, 0..5), 0..60),
    ) {
        assert_laws(&segments);
    }

    #[test]
    fn long_segments_are_grouped(
        mut segments in prop::collection::vec(prop::collection::vec(any::<i32>(), 0..70), 1..20),
        copies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        for (segment, token) in copies {
            let mut segment = segment.get(&segments).clone();
            segments.push(segment.clone());
            if !segment.is_empty() {
                *token.get_mut(&mut segment) ^= 1; // the same except for one token
                segments.push(segment);
            }
        }
        assert_laws(&segments);
    }
}

#[test]
fn many_segments_are_grouped() {
    for (tokens, longest) in [(2, 12), (50_000, 2), (3, 40), (1, 0)] {
        assert_laws(&many_segments(tokens, longest));
    }
}

#[test]
fn segments_with_a_shared_prefix_differ() {
    let zeros = (0..40).map(|count| vec![0; count]).collect::<Vec<_>>();
    assert_laws(&zeros);
    assert_laws(&[vec![], vec![], vec![0], vec![0, 0], vec![], vec![0]]);
    assert_laws(&[]);
}

#[test]
fn worked_example() {
    let offsets = [0, 2, 4, 4, 5];
    assert_eq!(token_lengths(&offsets).unwrap(), [2, 2, 0, 1]);
    assert_eq!(group_identical(&[7, 8, 7, 8, 5], &offsets).unwrap(), [0, 0, 2, 3]);
}

#[test]
fn longest_segment_is_measured() {
    let most = i64::from(i32::MAX);
    assert_eq!(token_lengths(&[0, most, most, 2 * most]).unwrap(), [i32::MAX, 0, i32::MAX]);
}

fn refused<T>(index: usize, value: i64, expected: &'static str) -> Result<T> {
    Err(Error::Element { argument: "offsets", index, value, expected })
}

#[test]
fn wrong_offsets_are_refused() {
    let (begin, before) = ("0, where the first segment begins", "at least the offset before it");
    let long = "at most 2147483647 above the offset before it";
    assert!(matches!(token_lengths(&[]), Err(Error::Size { argument: "offsets", size: 0, .. })));
    assert_eq!(token_lengths(&[1, 2]), refused(0, 1, begin));
    assert_eq!(token_lengths(&[-1]), refused(0, -1, begin));
    assert_eq!(token_lengths(&[0, 3, 2, 1]), refused(2, 2, before));
    assert_eq!(token_lengths(&[0, i64::MIN]), refused(1, i64::MIN, before));
    assert_eq!(token_lengths(&[0, 1 << 31]), refused(1, 1 << 31, long));
    assert_eq!(token_lengths(&[0, 5, i64::MAX, i64::MIN]), refused(2, i64::MAX, long));
    let mut offsets: Vec<i64> = (0..200_000).collect();
    offsets[150_000] = 7;
    assert_eq!(token_lengths(&offsets), refused(150_000, 7, before));

    let end = "the number of tokens, since the last segment ends there";
    assert!(matches!(group_identical(&[], &[]), Err(Error::Size { argument: "offsets", size: 0, .. })));
    assert_eq!(group_identical(&[4], &[1, 1]), refused(0, 1, begin));
    assert_eq!(group_identical(&[4], &[0]), refused(0, 0, end));
    assert_eq!(group_identical(&[4, 4], &[0, 1]), refused(1, 1, end));
    assert_eq!(group_identical(&[4], &[0, 2]), refused(1, 2, end));
    assert_eq!(group_identical(&[4, 4], &[0, 2, 1, 2]), refused(2, 1, before));
    assert_eq!(group_identical(&[4, 4], &[0, -1, 2]), refused(1, -1, before));
    assert_eq!(group_identical(&[4, 4], &[0, 3, 2]), refused(1, 3, "at most the number of tokens"));
    assert_eq!(
        group_identical(&[4, 4], &[0, i64::MAX, 2]),
        refused(1, i64::MAX, "at most the number of tokens")
    );
}

#[test]
fn sizes_must_agree() {
    let lengths = written(3, |slots| ragged::token_lengths(&[0, 1], slots));
    assert!(matches!(lengths, Err(Error::Size { argument: "lengths", size: 3, expected: 1, .. })));
    let first = written(0, |slots| ragged::group_identical(&[4], &[0, 1], slots));
    assert!(matches!(first, Err(Error::Size { argument: "first", size: 0, expected: 1, .. })));
}

fn spread(segments: &[i64], offsets: &[i64], values: &[i32]) -> Result<Vec<i32>> {
    let mut out = vec![-1; offsets.last().map_or(0, |&end| end.max(0) as usize)];
    ragged::spread(segments, offsets, values, &mut out).map(|()| out)
}

fn naive_spread(segments: &[i64], offsets: &[i64], values: &[i32]) -> Vec<i32> {
    let mut out = vec![-1; *offsets.last().unwrap() as usize];
    let mut values = values.iter();
    for &segment in segments {
        for at in offsets[segment as usize]..offsets[segment as usize + 1] {
            out[at as usize] = *values.next().unwrap();
        }
    }
    out
}

proptest! {
    #[test]
    fn values_are_spread_to_their_segments(
        lengths in prop::collection::vec(0..5_i64, 1..40),
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        spare in 0..3,
    ) {
        let mut offsets = vec![0];
        offsets.extend(lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }));
        let segments: Vec<i64> = chosen.iter().map(|index| index.index(lengths.len()) as i64).collect();
        let count: i64 = segments.iter().map(|&segment| lengths[segment as usize]).sum();
        let values: Vec<i32> = (0..count as i32 + spare).collect();
        let expected = naive_spread(&segments, &offsets, &values);
        prop_assert_eq!(spread(&segments, &offsets, &values).unwrap(), expected);
    }

    /// Whatever the contents, nothing is read or written outside the arrays.
    #[test]
    fn any_arrays_are_spread_or_rejected(
        segments in prop::collection::vec(-2..6_i64, 0..6),
        offsets in prop::collection::vec(-3..12_i64, 0..6),
        values in prop::collection::vec(any::<i32>(), 0..12),
    ) {
        let _ = spread(&segments, &offsets, &values);
    }
}

#[test]
fn spread_errors_name_the_argument() {
    let refused = |segments: &[i64], offsets: &[i64], values: &[i32]| {
        spread(segments, offsets, values).unwrap_err().to_string()
    };
    assert_eq!(spread(&[2, 0], &[0, 2, 3, 6], &[1, 2, 3, 4, 5]).unwrap(), [4, 5, -1, 1, 2, 3]);
    assert_eq!(spread(&[], &[], &[1]).unwrap(), []);
    for segment in [-1, 2, i64::MAX, i64::MIN] {
        let message = refused(&[0, segment], &[0, 1, 2], &[1, 2]);
        assert!(
            message.starts_with(&format!("segments[1] is {segment}; it must be at least 0 and less than 2"))
        );
    }
    assert!(refused(&[0], &[], &[]).starts_with("segments[0] is 0; it must be at least 0 and less than 0"));
    assert!(
        refused(&[0, 1], &[0, 2, 4], &[1, 2, 3])
            .starts_with("the number of values is 3; it must be at least 4")
    );
    assert!(refused(&[0], &[-1, 2], &[1, 2, 3]).starts_with("offsets[0] is -1; it must be at least 0"));
    assert!(refused(&[0], &[3, 2], &[1, 2, 3]).starts_with("offsets[0] is 3; it must be at least 0"));
    assert!(refused(&[0], &[0, 9, 2], &[1; 9]).starts_with("offsets[1] is 9; it must be at most"));
}
