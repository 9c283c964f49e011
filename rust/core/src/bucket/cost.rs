//! Finds the optimal choice of lengths.
//!
//! This is dynamic programming over candidates, with one layer per chosen length. Within a layer, the cost of
//! continuing from a candidate is linear in the position where the next candidate begins, so the best
//! predecessor comes from the lower hull of those lines (the "convex-hull trick"). A first run finds the
//! cost, the number of lengths to use and the last of them; a second run finds the others. This takes
//! `O(candidates × max_shapes)` time and `O(candidates)` memory.

use std::ops::ControlFlow;

/// If candidates times layers is at most this, every predecessor is stored.
const MOST_WRITTEN_DOWN: usize = 1 << 22;

/// Chooses at most `max_shapes` of `lengths` with the lowest total cost, and returns their indices,
/// ascending.
///
/// Positions are covered in order, longest length first. Candidate `j`, if chosen, applies from position
/// `starts[j]` to the start of the next chosen candidate; the last one chosen applies to its own `ends[j]`.
/// The cost is each chosen length times the number of positions to which it applies, plus `price` for each
/// length after the first. Among equal costs, the choice with the fewest lengths is used; beyond that, it
/// depends only on the arguments.
///
/// Candidate 0 is always chosen, because only it covers the positions before the second. Without candidates,
/// the result is empty; `max_shapes` below 1 is treated as 1.
///
/// The caller guarantees: the three slices have one element per candidate; `lengths` are strictly descending
/// and in `0..=i32::MAX`; `starts` begin at 0 and do not descend; `ends[j] >= starts[j]`; `price` is at least
/// 0. Otherwise, the result is some subset, or the call panics.
///
/// ```text
/// lengths [9, 5, 4]   starts [0, 1, 2]   ends [4, 4, 4]   price 0
/// max_shapes 1   →   [0]         9 × 4               = 36
/// max_shapes 2   →   [0, 1]      9 × 1 + 5 × 3       = 24
/// max_shapes 3   →   [0, 1, 2]   9 × 1 + 5 × 1 + 4 × 2 = 22
/// ```
pub fn least_cost_lengths(
    lengths: &[i64],
    starts: &[i64],
    ends: &[i64],
    max_shapes: usize,
    price: i64,
) -> Vec<usize> {
    let count = lengths.len();
    assert!(starts.len() == count && ends.len() == count, "one start and one end for each length");
    if count == 0 {
        return Vec::new();
    }
    let least = cost_without_limit(lengths, starts, ends);
    let mut best = (tail(lengths, starts, ends, 0), 0, 0);
    let hopeless = |best: i128, layer| best <= least + price as i128 * layer as i128;
    if !hopeless(best.0, 1) {
        cover(lengths, starts, max_shapes.clamp(1, count) - 1, |layer, covered, _| {
            let prices = price as i128 * layer as i128;
            for (j, covered) in covered.iter().enumerate().skip(layer) {
                let total = covered + tail(lengths, starts, ends, j) + prices;
                if total < best.0 {
                    best = (total, layer, j);
                }
            }
            if hopeless(best.0, layer + 1) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    let (_, layers, last) = best;
    let mut chosen = vec![0];
    append_chain(&lengths[..=last], &starts[..=last], layers, 0, &mut chosen);
    chosen
}

/// Finds, layer by layer, the minimal cost of covering the positions before each
/// candidate with `layer` others, of which candidate 0 is the first.
///
/// Calls `visit(layer, covered, from)` after each layer, with the costs and the predecessors in the cheapest
/// chains. Both are valid from candidate `layer` on.
fn cover(
    lengths: &[i64],
    starts: &[i64],
    layers: usize,
    mut visit: impl FnMut(usize, &[i128], &[u32]) -> ControlFlow<()>,
) {
    let count = lengths.len();
    let mut covered = vec![0i128; count];
    let mut from = vec![0u32; count];
    let mut hull = Hull::default();
    for layer in 1..=layers {
        hull.clear();
        let mut line = Line::new(lengths[layer - 1], covered[layer - 1], starts[layer - 1]);
        for j in layer..count {
            if layer > 1 || j == 1 {
                hull.push(line, j - 1); // in the first layer all chains begin at candidate 0
            }
            line = Line::new(lengths[j], covered[j], starts[j]);
            (covered[j], from[j]) = hull.lowest(starts[j]);
        }
        if visit(layer, &covered, &from).is_break() {
            return;
        }
    }
}

/// Appends to `chosen` the candidates after the first in the cheapest chain of
/// `layers` steps from the first candidate to the last; `offset` is the first one's number.
///
/// If there are too many predecessors to store, it finds the candidate in the middle of
/// the chain, then both halves (D. S. Hirschberg, 1975).
fn append_chain(lengths: &[i64], starts: &[i64], layers: usize, offset: usize, chosen: &mut Vec<usize>) {
    let last = lengths.len() - 1;
    if layers <= 1 {
        chosen.extend((layers == 1).then_some(offset + last));
        return;
    }
    if layers * lengths.len() <= MOST_WRITTEN_DOWN {
        let mut written = Vec::with_capacity(layers * lengths.len());
        cover(lengths, starts, layers, |_, _, from| {
            written.extend_from_slice(from);
            ControlFlow::Continue(())
        });
        let end = chosen.len();
        let mut at = last;
        for from in written.chunks(lengths.len()).rev() {
            chosen.push(offset + at);
            at = from[at] as usize;
        }
        chosen[end..].reverse();
        return;
    }
    let half = layers / 2;
    let mut middle: Vec<u32> = (0..=last as u32).collect();
    cover(lengths, starts, layers, |layer, _, from| {
        if layer > half {
            let before = middle.clone();
            middle.iter_mut().zip(from).for_each(|(middle, &from)| *middle = before[from as usize]);
        }
        ControlFlow::Continue(())
    });
    let middle = middle[last] as usize;
    append_chain(&lengths[..=middle], &starts[..=middle], half, offset, chosen);
    append_chain(&lengths[middle..], &starts[middle..], layers - half, offset + middle, chosen);
}

/// The cost of the last chosen candidate from its start to its end.
fn tail(lengths: &[i64], starts: &[i64], ends: &[i64], j: usize) -> i128 {
    lengths[j] as i128 * (ends[j] as i128 - starts[j] as i128)
}

/// A lower bound: the cost if every candidate could be chosen without a price.
fn cost_without_limit(lengths: &[i64], starts: &[i64], ends: &[i64]) -> i128 {
    let mut covered = 0;
    let mut least = tail(lengths, starts, ends, 0);
    for j in 1..lengths.len() {
        covered += lengths[j - 1] as i128 * (starts[j] as i128 - starts[j - 1] as i128);
        least = least.min(covered + tail(lengths, starts, ends, j));
    }
    least
}

/// A cost that grows by `slope` with each position.
#[derive(Clone, Copy)]
struct Line {
    slope: i64,
    at_zero: i128,
}

impl Line {
    /// The line through `cost` at `position`.
    fn new(slope: i64, cost: i128, position: i64) -> Self {
        Line { slope, at_zero: cost - slope as i128 * position as i128 }
    }

    fn at(self, position: i64) -> i128 {
        self.at_zero + self.slope as i128 * position as i128
    }
}

/// The lower hull of lines that are added with decreasing slopes and queried at increasing positions, so both
/// ends only move in one direction.
///
/// Slopes are below 2³¹ and positions below 2⁶³, so costs are below 2⁹⁴ and the
/// products of [`Hull::push`] below 2¹²⁷.
#[derive(Default)]
struct Hull {
    lines: Vec<(Line, u32)>,
    head: usize,
}

impl Hull {
    fn clear(&mut self) {
        self.lines.clear();
        self.head = 0;
    }

    fn push(&mut self, new: Line, candidate: usize) {
        while self.lines.len() >= self.head + 2 {
            let [(first, _), (middle, _)] = self.lines[self.lines.len() - 2..] else { unreachable!() };
            // `middle` is never the lowest if `new` falls below `first` no later than `middle` does.
            let new_below = (new.at_zero - first.at_zero) * (first.slope - middle.slope) as i128;
            let middle_below = (middle.at_zero - first.at_zero) * (first.slope - new.slope) as i128;
            if new_below > middle_below {
                break;
            }
            self.lines.pop();
        }
        self.lines.push((new, candidate as u32));
    }

    /// The lowest cost at `position` and the candidate whose line gives it.
    fn lowest(&mut self, position: i64) -> (i128, u32) {
        let (line, mut candidate) = self.lines[self.head];
        let mut cost = line.at(position);
        while let Some(&(next, next_candidate)) = self.lines.get(self.head + 1) {
            let next_cost = next.at(position);
            if next_cost > cost {
                break;
            }
            self.head += 1;
            (cost, candidate) = (next_cost, next_candidate);
        }
        (cost, candidate)
    }
}
