//! Which lengths cost least, exactly.
//!
//! Dynamic programming over candidates, one layer for each length chosen. Within a
//! layer the cost of going on from a candidate is a straight line over the
//! position where the next candidate begins, so the best predecessor is read off
//! the lower hull of those lines instead of being searched (the "convex-hull
//! trick"). The cost is `O(candidates × max_shapes)` time, and 4 bytes of memory
//! for each.

/// Chooses, of `lengths`, the at most `max_shapes` that cost least, and returns
/// their indices, ascending.
///
/// Positions are covered in order, longest length first. Candidate `j`, if chosen,
/// is in force from position `starts[j]` until the next chosen candidate's start;
/// the last one chosen, until its own `ends[j]`. The cost is each chosen length
/// times the positions it is in force for, plus `price` for each length beyond
/// the first. Of equal costs the one with the fewest lengths is taken; beyond
/// that the choice depends on the arguments alone.
///
/// Candidate 0 is always chosen, since nothing else covers what comes before the
/// second. No candidates choose nothing; `max_shapes` below 1 counts as 1.
///
/// What the caller guarantees: the three slices have one element for each
/// candidate; `lengths` descend strictly and lie in `0..=i32::MAX`; `starts` begin
/// at 0 and never descend; `ends[j] >= starts[j]`; `price` is at least 0.
/// Otherwise the result is some subset, or the call panics.
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
    let layers = max_shapes.clamp(1, count);
    let least = cost_without_limit(lengths, starts, ends);
    // covered[j]: the least cost of the positions before starts[j] with as many
    // lengths as the layer says, all of them before candidate j.
    let mut covered = vec![0i128; count];
    let mut previous = Vec::new();
    let mut hull = Hull::default();
    let mut best = (tail(lengths, starts, ends, 0), 0, 0);
    for layer in 1..layers {
        if best.0 <= least + price as i128 * layer as i128 {
            break;
        }
        hull.clear();
        let mut line =
            Line { slope: lengths[layer - 1], at_zero: covered[layer - 1] }.through(starts[layer - 1]);
        for j in layer..count {
            if layer > 1 || j == 1 {
                hull.push(line, j - 1); // what is before the second length is the first's
            }
            let next = Line { slope: lengths[j], at_zero: covered[j] }.through(starts[j]);
            let (cost, from) = hull.lowest(starts[j]);
            covered[j] = cost;
            previous.push(from);
            line = next;
            let total = cost + tail(lengths, starts, ends, j) + price as i128 * layer as i128;
            if total < best.0 {
                best = (total, layer, j);
            }
        }
    }
    trace(&previous, count, best.1, best.2)
}

/// What the last chosen candidate costs from its start to its end.
fn tail(lengths: &[i64], starts: &[i64], ends: &[i64], j: usize) -> i128 {
    lengths[j] as i128 * (ends[j] as i128 - starts[j] as i128)
}

/// The least cost where every candidate may be chosen and none has a price: no
/// choice is cheaper.
fn cost_without_limit(lengths: &[i64], starts: &[i64], ends: &[i64]) -> i128 {
    let mut covered = 0;
    let mut least = tail(lengths, starts, ends, 0);
    for j in 1..lengths.len() {
        covered += lengths[j - 1] as i128 * (starts[j] as i128 - starts[j - 1] as i128);
        least = least.min(covered + tail(lengths, starts, ends, j));
    }
    least
}

/// Follows the predecessors back from candidate `last`, the one chosen in `layer`.
///
/// `previous` holds layer after layer, each from its first possible candidate on:
/// layer 1 has candidates `1..count`, layer 2 `2..count`, and so on.
fn trace(previous: &[u32], count: usize, layer: usize, last: usize) -> Vec<usize> {
    let mut chosen = vec![last];
    let mut end = (1..=layer).map(|layer| count - layer).sum::<usize>();
    for layer in (1..=layer).rev() {
        let begin = end - (count - layer);
        chosen.push(previous[begin + chosen[chosen.len() - 1] - layer] as usize);
        end = begin;
    }
    chosen.reverse();
    chosen
}

/// A cost that grows by `slope` with each position.
#[derive(Clone, Copy)]
struct Line {
    slope: i64,
    at_zero: i128,
}

impl Line {
    /// The line of the same slope that has at `position` what this one has at 0.
    fn through(self, position: i64) -> Self {
        Line { slope: self.slope, at_zero: self.at_zero - self.slope as i128 * position as i128 }
    }

    fn at(self, position: i64) -> i128 {
        self.at_zero + self.slope as i128 * position as i128
    }
}

/// The lower hull of lines that come with falling slopes and are asked for at
/// rising positions, so both ends only move one way.
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
            // `middle` is never the lowest if `new` is below `first` no later than `middle` is.
            let new_below = (new.at_zero - first.at_zero) * (first.slope - middle.slope) as i128;
            let middle_below = (middle.at_zero - first.at_zero) * (first.slope - new.slope) as i128;
            if new_below > middle_below {
                break;
            }
            self.lines.pop();
        }
        self.lines.push((new, candidate as u32));
    }

    /// The least cost at `position` and the candidate whose line gives it.
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
