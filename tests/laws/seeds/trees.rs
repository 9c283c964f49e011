//! Segments with shared prefixes, and a naive tree to compare results with.

use std::collections::BTreeSet;

use proptest::prelude::*;
use windrow_core::Result;
use windrow_core::prefix::{TreeRows, prefix_order, tree_rows};

use super::written;

/// Segments with few different tokens; many share a prefix with an earlier one, or equal it.
pub fn segments(most: usize) -> impl Strategy<Value = Vec<Vec<i32>>> {
    let grown = (any::<prop::sample::Index>(), 0..12usize, prop::collection::vec(-1..3, 0..6));
    prop::collection::vec(grown, 0..most).prop_map(|grown| {
        let mut segments: Vec<Vec<i32>> = Vec::new();
        for (from, keep, more) in grown {
            let mut segment = if segments.is_empty() { Vec::new() } else { from.get(&segments).clone() };
            segment.truncate(keep);
            segment.extend(more);
            segments.push(segment);
        }
        segments
    })
}

/// Trees with special shapes: no segments, one, equal ones, nested, disjoint, and one for every token.
pub fn shapes() -> Vec<Vec<Vec<i32>>> {
    let nested = |lengths: Vec<usize>| lengths.into_iter().map(|length| vec![7; length]).collect();
    vec![
        vec![],
        vec![vec![]],
        vec![vec![]; 5],
        vec![vec![3]],
        vec![vec![3]; 4],
        vec![vec![1, 2, 3]; 9],
        vec![vec![], vec![5], vec![], vec![5]],
        nested((0..40).collect()),
        nested((0..40).rev().collect()),
        nested((0..20).map(|at| if at % 2 == 0 { at } else { 40 - at }).collect()),
        (0..50).map(|first| vec![first, 1, 2]).collect(),
        (0..50).map(|last| [vec![9; 30], vec![last]].concat()).collect(),
        vec![vec![i32::MIN], vec![i32::MIN; 2], vec![], vec![i32::MIN, 0], vec![i32::MAX], vec![i32::MIN; 3]],
        vec![
            vec![0],
            vec![-1],
            vec![i32::MIN],
            vec![i32::MAX],
            vec![1, i32::MIN],
            vec![1],
            vec![1, i32::MIN, 4],
        ],
    ]
}

pub fn ragged(segments: &[Vec<i32>]) -> (Vec<i32>, Vec<i64>) {
    let mut offsets = vec![0];
    offsets.extend(segments.iter().scan(0, |end, segment| {
        *end += segment.len() as i64;
        Some(*end)
    }));
    (segments.concat(), offsets)
}

pub fn lengths(segments: &[Vec<i32>]) -> Vec<i32> {
    segments.iter().map(|segment| segment.len() as i32).collect()
}

pub fn order_of(tokens: &[i32], offsets: &[i64]) -> Result<(Vec<i64>, Vec<i32>)> {
    let count = offsets.len().saturating_sub(1);
    let mut shared = Vec::new();
    let order = written(count, |order| {
        shared = written(count, |shared| prefix_order(tokens, offsets, order, shared))?;
        Ok(())
    })?;
    Ok((order, shared))
}

pub fn sorted(segments: &[Vec<i32>]) -> (Vec<i64>, Vec<i32>) {
    let (tokens, offsets) = ragged(segments);
    order_of(&tokens, &offsets).unwrap()
}

/// The order and shared prefixes, found by comparing whole segments.
pub fn naive_order(segments: &[Vec<i32>]) -> (Vec<i64>, Vec<i32>) {
    let mut order: Vec<usize> = (0..segments.len()).collect();
    order.sort_by_key(|&segment| (&segments[segment], segment));
    let common =
        |one: &[i32], other: &[i32]| one.iter().zip(other).take_while(|(a, b)| a == b).count() as i32;
    let shared = (0..order.len())
        .map(|at| if at == 0 { 0 } else { common(&segments[order[at]], &segments[order[at - 1]]) });
    (order.iter().map(|&segment| segment as i64).collect(), shared.collect())
}

/// The outputs of `tree_rows` for each segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    pub count: usize,
    pub row: Vec<i64>,
    pub start: Vec<i32>,
    pub own: Vec<i32>,
    pub parent: Vec<i64>,
}

pub fn rows_of(lengths: &[i32], order: &[i64], shared: &[i32], capacity: i32) -> Result<Rows> {
    let size = lengths.len();
    let mut rows = Rows { count: 0, row: vec![], start: vec![], own: vec![], parent: vec![] };
    rows.row = written(size, |row| {
        rows.parent = written(size, |parent| {
            rows.start = written(size, |start| {
                rows.own = written(size, |own| {
                    let out = TreeRows { row, start, own, parent };
                    rows.count = tree_rows(lengths, order, shared, capacity, out)?;
                    Ok(())
                })?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(rows)
}

/// The position in its row of each token of a segment, found through its parents.
pub fn path(segment: usize, length: usize, start: &[i32], own: &[i32], parent: &[i64]) -> Vec<usize> {
    let at = |token: usize| {
        let mut holder = segment;
        let mut steps = 0;
        while token < own[holder] as usize {
            holder = usize::try_from(parent[holder]).expect("tokens that are not its own are its parent's");
            steps += 1;
            assert!(steps <= own.len(), "the chain of parents ends");
        }
        start[holder] as usize + token - own[holder] as usize
    };
    (0..length).map(at).collect()
}

/// The distinct prefixes of some segments: the nodes of their tree.
pub fn distinct_prefixes<'a>(segments: impl Iterator<Item = &'a Vec<i32>>) -> BTreeSet<&'a [i32]> {
    segments.flat_map(|segment| (1..=segment.len()).map(|end| &segment[..end])).collect()
}
