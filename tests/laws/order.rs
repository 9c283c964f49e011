//! Laws of orders, compared with the standard library's stable sort.

use crate::seeds::{lengths, many_lengths, written};
use proptest::prelude::*;
use windrow_core::{Error, Result, order};

fn length_order(lengths: &[i32], descending: bool) -> Result<Vec<i64>> {
    written(lengths.len(), |slots| order::length_order(lengths, descending, slots))
}

fn invert_order(order: &[i64]) -> Result<Vec<i64>> {
    written(order.len(), |slots| order::invert_order(order, slots))
}

fn naive(lengths: &[i32], descending: bool) -> Vec<i64> {
    let mut order: Vec<i64> = (0..lengths.len() as i64).collect();
    match descending {
        true => order.sort_by_key(|&segment| std::cmp::Reverse(lengths[segment as usize])),
        false => order.sort_by_key(|&segment| lengths[segment as usize]),
    }
    order
}

fn assert_laws(lengths: &[i32]) {
    for descending in [true, false] {
        let order = length_order(lengths, descending).unwrap();
        assert_eq!(order, naive(lengths, descending));
        let inverse = invert_order(&order).unwrap();
        assert!((0..).zip(&order).all(|(at, &segment)| inverse[segment as usize] == at));
        assert_eq!(invert_order(&inverse).unwrap(), order);
    }
}

#[test]
fn seeds_are_ordered() {
    lengths().iter().for_each(|lengths| assert_laws(lengths));
}

#[test]
fn many_lengths_are_ordered() {
    many_lengths().iter().for_each(|lengths| assert_laws(lengths));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn short_lengths_are_ordered(lengths in prop::collection::vec(0..20, 0..200)) {
        assert_laws(&lengths);
    }

    #[test]
    fn any_lengths_are_ordered(lengths in prop::collection::vec(0..=i32::MAX, 0..200)) {
        assert_laws(&lengths);
    }

    #[test]
    fn only_permutations_are_inverted(order in prop::collection::vec(-1..12i64, 0..10)) {
        let permutation = (0..order.len() as i64).all(|segment| order.contains(&segment));
        prop_assert_eq!(invert_order(&order).is_ok(), permutation);
    }
}

#[test]
fn negative_lengths_are_rejected() {
    let refused = |index, value| Error::Element { argument: "lengths", index, value, expected: "at least 0" };
    assert_eq!(length_order(&[3, -1, -2], true), Err(refused(1, -1)));
    for (place, value) in [(0, -1), (70_000, i32::MIN), (150_000, -5)] {
        for mut lengths in many_lengths() {
            lengths[place] = value;
            assert_eq!(length_order(&lengths, false), Err(refused(place, value.into())));
        }
    }
}

#[test]
fn errors_name_the_first_wrong_element() {
    let range = "at least 0 and below the number of elements";
    let again = "a segment that has not come before: an order has each segment once";
    let refused = |index, value, expected| Err(Error::Element { argument: "order", index, value, expected });
    assert_eq!(invert_order(&[0, 2, 1, 2]), refused(3, 2, again));
    assert_eq!(invert_order(&[0, -1, 0]), refused(1, -1, range));
    assert_eq!(invert_order(&[1, 0, 3]), refused(2, 3, range));
    assert_eq!(invert_order(&[i64::MAX]), refused(0, i64::MAX, range));
    assert_eq!(invert_order(&[i64::MIN, 0]), refused(0, i64::MIN, range));
    let mut order: Vec<i64> = (0..150_001).collect();
    order[149_000] = 5;
    assert_eq!(invert_order(&order), refused(149_000, 5, again));
    order[3] = 150_001;
    assert_eq!(invert_order(&order), refused(3, 150_001, range));
}

#[test]
fn sizes_must_agree() {
    let order = written(3, |slots| order::length_order(&[1, 2], true, slots));
    assert!(matches!(order, Err(Error::Size { argument: "order", size: 3, expected: 2, .. })));
    let inverse = written(1, |slots| order::invert_order(&[0, 1], slots));
    assert!(matches!(inverse, Err(Error::Size { argument: "inverse", size: 1, expected: 2, .. })));
}
