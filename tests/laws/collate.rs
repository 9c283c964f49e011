//! Laws of padding, compared with padding element by element.

use std::mem::MaybeUninit;

use proptest::prelude::*;
use windrow_core::collate::{self, FILLER, padded_size};
use windrow_core::{Error, Result};

/// Pads into memory that is filled with another token, so that unwritten elements are noticed.
fn pad_rows(tokens: &[i32], offsets: &[i64], rows: &[i64], length: i32, fill: i32) -> Result<Vec<i32>> {
    const UNTOUCHED: i32 = 0x5A5A_5A5A;
    let mut padded = vec![MaybeUninit::new(UNTOUCHED); padded_size(rows.len(), length)?];
    collate::pad_rows(tokens, offsets, rows, length, fill, &mut padded)?;
    // SAFETY: every element had a value before.
    Ok(padded.into_iter().map(|token| unsafe { token.assume_init() }).collect())
}

fn naive(tokens: &[i32], offsets: &[i64], rows: &[i64], length: i32, fill: i32) -> Vec<i32> {
    let mut padded = vec![fill; rows.len() * length as usize];
    for (index, &row) in rows.iter().enumerate().filter(|&(_, &row)| row != FILLER) {
        let segment = offsets[row as usize]..offsets[row as usize + 1];
        for (at, token) in segment.enumerate() {
            padded[index * length as usize + at] = tokens[token as usize];
        }
    }
    padded
}

/// Tokens 1, 2, 3, … in segments of these lengths.
fn ragged(lengths: &[i32]) -> (Vec<i32>, Vec<i64>) {
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |end, &length| {
        *end += i64::from(length);
        Some(*end)
    }));
    ((1..=*offsets.last().unwrap() as i32).collect(), offsets)
}

#[test]
fn documented_example() {
    let padded = pad_rows(&[7, 8, 9, 5, 6], &[0, 3, 5], &[1, -1, 0], 4, 0).unwrap();
    assert_eq!(padded, [5, 6, 0, 0, 0, 0, 0, 0, 7, 8, 9, 0]);
}

/// Rows are written in blocks, so every number of tokens in a row of every length is a case.
#[test]
fn every_segment_in_every_row_length() {
    let lengths: Vec<i32> = (0..70).collect();
    let (tokens, offsets) = ragged(&lengths);
    for length in 0..70 {
        let fitting: Vec<i64> = (0..=i64::from(length)).rev().chain([FILLER]).collect();
        let padded = pad_rows(&tokens, &offsets, &fitting, length, -7).unwrap();
        assert_eq!(padded, naive(&tokens, &offsets, &fitting, length, -7), "in {length}");
    }
}

#[test]
fn empty_inputs() {
    assert_eq!(pad_rows(&[], &[0], &[], 8, 0).unwrap(), []);
    assert_eq!(pad_rows(&[], &[], &[], 8, 0).unwrap(), []);
    assert_eq!(pad_rows(&[], &[], &[FILLER, FILLER], 2, 9).unwrap(), [9; 4]);
    assert_eq!(pad_rows(&[1, 2], &[0, 0, 2], &[0, FILLER], 0, 9).unwrap(), []);
    assert_eq!(pad_rows(&[1], &[0, 1], &[], i32::MAX, 9).unwrap(), []);
}

#[test]
fn tokens_and_fill_can_have_any_value() {
    let tokens = [i32::MIN, -1, 0, i32::MAX];
    let padded = pad_rows(&tokens, &[0, 4], &[0], 5, i32::MIN).unwrap();
    assert_eq!(padded, [i32::MIN, -1, 0, i32::MAX, i32::MIN]);
}

#[test]
fn errors_name_the_argument() {
    let refused = |offsets: &[i64], rows: &[i64], length| {
        pad_rows(&[1, 2, 3, 4, 5], offsets, rows, length, 0).unwrap_err().to_string()
    };
    let unknown = |row: i64| {
        format!("rows[1] is {row}; it must be one of the 2 segments, counted from 0, or -1 for filler")
    };
    for row in [2, -2, i64::MAX, i64::MIN] {
        assert_eq!(refused(&[0, 3, 5], &[0, row], 4), unknown(row));
    }
    let too_long = "rows[2] is segment 0 with 3 tokens; a row must hold it, and length is 2";
    assert_eq!(refused(&[0, 3, 5], &[1, -1, 0], 2), too_long);
    assert!(refused(&[], &[0], 4).starts_with("rows[0] is 0; it must be one of the 0 segments"));
    assert!(refused(&[0], &[0], 4).starts_with("rows[0] is 0; it must be one of the 0 segments"));
    assert_eq!(refused(&[0, 6], &[0], 9), "offsets[1] is 6; it must be at most the number of tokens");
    assert!(refused(&[0, i64::MAX], &[0], 9).starts_with("offsets[1] is 9223372036854775807;"));
    for begin in [-1, i64::MIN, 4] {
        let message = "it must be at least 0 and at most the offset after it";
        assert_eq!(refused(&[begin, 3], &[0], 9), format!("offsets[0] is {begin}; {message}"));
    }
    assert_eq!(refused(&[0, 3], &[0], -1), "length is -1; it must be at least 0");
}

#[test]
fn sizes_beyond_memory_are_rejected() {
    let most = isize::MAX as usize / 4;
    assert_eq!(padded_size(most, 1), Ok(most));
    for (rows, length) in [(most + 1, 1), (usize::MAX, i32::MAX), (most / 1024, 1025)] {
        assert_eq!(padded_size(rows, length), Err(Error::TooLarge { rows, length }));
    }
    assert_eq!(padded_size(usize::MAX, 0), Ok(0));
}

#[test]
fn output_of_another_size_is_rejected() {
    let refused = collate::pad_rows(&[], &[0], &[FILLER], 4, 0, &mut [MaybeUninit::uninit(); 3]);
    assert_eq!(refused.unwrap_err().to_string(), "padded has 3 elements; it must have 4, rows × length");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn segments_are_padded_by_definition(
        lengths in prop::collection::vec(0..100_i32, 1..30),
        rows in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        spare in 0..40_i32,
        fill in any::<i32>(),
    ) {
        let (tokens, offsets) = ragged(&lengths);
        let rows: Vec<i64> = rows.iter().map(|row| row.index(lengths.len() + 1) as i64 - 1).collect();
        let length = lengths.iter().max().unwrap() + spare;
        let padded = pad_rows(&tokens, &offsets, &rows, length, fill).unwrap();
        prop_assert_eq!(padded, naive(&tokens, &offsets, &rows, length, fill));
    }

    /// Arrays with any contents give a result or an error.
    #[test]
    fn any_arrays_give_a_result_or_an_error(
        offsets in prop::collection::vec(-3..12_i64, 0..6),
        rows in prop::collection::vec(-2..6_i64, 0..6),
        length in -2..12_i32,
    ) {
        let tokens: Vec<i32> = (0..8).collect();
        if let Ok(padded) = pad_rows(&tokens, &offsets, &rows, length, -1) {
            prop_assert_eq!(padded, naive(&tokens, &offsets, &rows, length, -1));
        }
    }
}
