//! Finds shared prefixes that are worth computing before the segments that begin with them.
//!
//! The prefix tree is traversed once, depth first. A node of the tree becomes a *stem* if that saves enough:
//! of the `k` branches that begin at it, all but one save the tokens between it and the node above. Segments
//! without a stem of their own count as branches of the node above, so a node is judged by the branches that
//! remain below it.
//!
//! ```text
//! segments    a b c d · a b c e f · a b g · h i        at least 2 tokens saved
//! a b c       two branches, 1 token below a b: saves 1, no stem
//! a b         three branches, 2 tokens: saves 4, a stem
//! ```
//!
//! This takes a few steps and 40 bytes of memory per segment.

use crate::error::{Error, Result};
use crate::memory::room_for;
use crate::prefix::branches::{branches, check_size};

/// The stems of a set of segments, in depth-first order, and the stem of each segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stems {
    /// The number of tokens in each stem, counted from the beginning of a segment.
    pub depth: Vec<i32>,
    /// The deepest stem that each stem begins with, which comes before it; −1 for none.
    pub parent: Vec<i64>,
    /// A segment that begins with each stem.
    pub segment: Vec<i64>,
    /// The deepest stem that each segment begins with; −1 for none.
    pub stem: Vec<i64>,
}

/// Equal segments.
struct Run {
    segment: u32,
    shared: i32,
    limit: i32,
}

/// A node of the tree whose last branch is still to come.
struct Node {
    depth: i32,
    first: usize,
    branches: i64,
}

/// A range of runs with a stem of `depth` tokens.
struct Cut {
    first: usize,
    last: usize,
    depth: i32,
}

/// The stems that save at least `least` tokens each, no longer than the `limits` of the segments
/// that begin with them.
///
/// `order` and `shared` come from `prefix_order`. Equal segments count once, and have the same stem: the
/// smallest of their limits applies to all of them. If `apart` is set, each of them counts, so their common
/// tokens may be a stem.
pub fn prefix_stems(
    lengths: &[i32],
    order: &[i64],
    shared: &[i32],
    limits: &[i32],
    least: i64,
    apart: bool,
) -> Result<Stems> {
    if least < 1 {
        return Err(Error::Value { argument: "least", value: least, expected: "at least 1" });
    }
    check_size("limits", limits.len(), lengths.len())?;
    let sorted = branches(lengths, order, shared)?;
    for (index, (&value, &length)) in limits.iter().zip(lengths).enumerate() {
        if value < 0 {
            return Err(Error::Element {
                argument: "limits",
                index,
                value: value.into(),
                expected: "at least 0",
            });
        }
        if value > length {
            let (value, at_most) = (value.into(), length.into());
            return Err(Error::Limit {
                argument: "limits",
                index,
                value,
                limit: "the segment's length",
                at_most,
            });
        }
    }
    let mut runs: Vec<Run> = room_for(sorted.len());
    let mut run_of: Vec<usize> = vec![0; lengths.len()];
    let mut before = -1;
    for branch in &sorted {
        let limit = limits[branch.segment as usize];
        match runs.last_mut() {
            Some(run) if !apart && branch.shared == branch.length && branch.length == before => {
                run.limit = run.limit.min(limit);
            }
            _ => runs.push(Run { segment: branch.segment, shared: branch.shared, limit }),
        }
        before = branch.length;
        run_of[branch.segment as usize] = runs.len() - 1;
    }
    let cuts = cuts(&runs, least);
    let mut stems = Stems::default();
    let of_runs = numbered(&runs, &cuts, &mut stems);
    stems.stem = run_of.into_iter().map(|run| of_runs[run]).collect();
    Ok(stems)
}

/// The nodes that become stems, outer ones before inner ones.
fn cuts(runs: &[Run], least: i64) -> Vec<Cut> {
    let mut open = vec![Node { depth: 0, first: 0, branches: 0 }];
    let mut cuts = Vec::new();
    for next in 1..=runs.len() {
        let common = match runs.get(next) {
            Some(run) => run.shared.min(run.limit).min(runs[next - 1].limit),
            None => 0,
        };
        let mut below = Node { depth: 0, first: next - 1, branches: 1 };
        while open.last().is_some_and(|node| node.depth > common) {
            let mut node = open.pop().expect("there is one");
            node.branches += below.branches;
            let above = open.last().map_or(0, |above| above.depth).max(common);
            if i64::from(node.depth - above) * (node.branches - 1) >= least {
                cuts.push(Cut { first: node.first, last: next, depth: node.depth });
                node.branches = 1;
            }
            below = node;
        }
        match open.last_mut() {
            Some(node) if node.depth == common => node.branches += below.branches,
            _ => open.push(Node { depth: common, ..below }),
        }
    }
    cuts.sort_unstable_by_key(|cut| (cut.first, cut.depth));
    cuts
}

/// Writes the cuts into `stems`; returns the deepest stem of each run.
fn numbered(runs: &[Run], cuts: &[Cut], stems: &mut Stems) -> Vec<i64> {
    let mut around: Vec<usize> = Vec::new();
    let mut of_runs = room_for(runs.len());
    let mut next = 0;
    for (index, run) in runs.iter().enumerate() {
        while around.last().is_some_and(|&cut| cuts[cut].last <= index) {
            around.pop();
        }
        while cuts.get(next).is_some_and(|cut| cut.first == index) {
            stems.depth.push(cuts[next].depth);
            stems.parent.push(around.last().map_or(-1, |&cut| cut as i64));
            stems.segment.push(run.segment.into());
            around.push(next);
            next += 1;
        }
        of_runs.push(around.last().map_or(-1, |&cut| cut as i64));
    }
    of_runs
}
