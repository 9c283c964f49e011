//! Plans whose rows hold prefix trees.
//!
//! Rows are laid out as by `tree_rows`. The number of segments in each row, and its position among the sorted
//! rows, are known in advance, so each segment's place is written once.

use std::sync::OnceLock;

use crate::error::Result;
use crate::memory::{collected, prefetch, zeroed};
use crate::prefix::{Branch, Packed, Place, Places, branches};

use super::layout::Members;
use super::policy::{Policy, SHAPE_PRICE};
use super::shapes::Stretch;
use super::statistics::{Statistics, TreeTokens};
use super::tree_lengths::Shop;

/// The prefix tree of a plan's segments, and how to choose row lengths.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes<'a> {
    /// The segments in lexicographic order, from `prefix_order`.
    pub order: &'a [i64],
    /// The number of leading tokens that each shares with the previous one, from `prefix_order`.
    pub shared: &'a [i32],
    /// How row lengths are chosen.
    pub choice: &'a Choice,
}

/// How the lengths of tree rows are chosen from the policy's padded lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The price of a row of each length, in any unit; the number of its tokens if `None`.
    pub row_prices: Option<Vec<i64>>,
    /// At most this many lengths are used.
    pub max_shapes: i64,
    /// The price of each shape after the first, in the unit of `row_prices`.
    pub shape_price: i64,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { row_prices: None, max_shapes: 8, shape_price: SHAPE_PRICE }
    }
}

impl Choice {
    /// The choice as numbers, which [`Choice::from_words`] decodes.
    pub(super) fn words(&self) -> Vec<i64> {
        let prices = self.row_prices.as_deref().unwrap_or_default();
        let mut words = vec![self.max_shapes, self.shape_price, self.row_prices.is_some().into()];
        words.push(prices.len() as i64);
        words.extend(prices);
        words
    }

    /// The choice encoded by [`Choice::words`]; `None` if the words are invalid.
    pub(super) fn from_words(mut next: impl FnMut() -> Option<i64>) -> Option<Self> {
        let (max_shapes, shape_price) = (next()?, next()?);
        let (given, count) = (next()?, next()?);
        let prices = (0..count).map(|_| next()).collect::<Option<Vec<i64>>>()?;
        let row_prices = match (given, count) {
            (0, 0) => None,
            (1, _) => Some(prices),
            _ => return None,
        };
        Some(Choice { row_prices, max_shapes, shape_price })
    }
}

/// The part of its trees that a plan stores.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    pub branches: Vec<Branch>,
    pub choice: Choice,
    /// The place of each segment in its row.
    pub seats: Vec<Seat>,
    /// The same as three arrays, made when they are first requested.
    columns: OnceLock<[Vec<i32>; 3]>,
}

/// A segment's start, the number of leading tokens that it shares with its parent, and its parent, −1 for
/// none. All three are written at once, and segments come in random order.
pub(super) type Seat = [i32; 3];

impl Trees {
    /// The starts, shared tokens and parents of all segments.
    pub(super) fn columns(&self) -> &[Vec<i32>; 3] {
        let column = |number: usize| collected(self.seats.iter().map(|seat| seat[number]));
        self.columns.get_or_init(|| [0, 1, 2].map(column))
    }
}

/// Rows of trees, in batches.
pub(super) struct Laid {
    pub trees: Trees,
    pub members: Members,
    pub stretches: Vec<Stretch>,
    pub statistics: Statistics,
}

/// Lays out the segments, the longest of which has `longest` tokens, in rows of the lengths that cost least.
pub(super) fn lay(policy: &Policy, lengths: &[i32], longest: i32, prefixes: Prefixes) -> Result<Laid> {
    let branches = branches(lengths, prefixes.order, prefixes.shared)?;
    let mut statistics = statistics(lengths, &branches);
    let shop = Shop::new(policy, longest, prefixes.choice)?;
    let chosen = shop.choose(&branches)?;
    let parts = shop.split(&branches, &chosen);
    let packed = shop.pack(&parts, &chosen)?;
    // As in the choice of lengths, sharing between pieces in the same row is not counted.
    let filled: Vec<i32> = packed.iter().flat_map(|packed| packed.filled.iter().copied()).collect();
    let (stretches, position) = shop.batches(&chosen, &filled)?;
    statistics.add_batches(filled.len(), &stretches);
    let mut seats = Seats::new(&packed, position);
    let mut first_row = 0;
    for packed in &packed {
        statistics.row_tokens += packed.lay(first_row, &mut seats);
        first_row += packed.filled.len() as u32;
    }
    drop(packed);
    drop(parts);
    let Seats { seats, mut members, untidy, .. } = seats;
    let trees = Trees { branches, choice: prefixes.choice.clone(), seats, columns: OnceLock::new() };
    if untidy {
        members.sort(&trees.columns()[0]);
    }
    Ok(Laid { trees, members, stretches, statistics })
}

/// The statistics that do not depend on rows.
fn statistics(lengths: &[i32], branches: &[Branch]) -> Statistics {
    let mut tree = TreeTokens::default();
    let mut shared_segments = 0;
    for branch in branches {
        let repeated = branch.shared == branch.length;
        tree.least += (branch.length - branch.shared) as u64;
        tree.distinct += if repeated { 0 } else { branch.length as u64 };
        shared_segments += usize::from(repeated);
    }
    // The first segment shares nothing; if it has no tokens, that is all of them.
    shared_segments -= usize::from(branches.first().is_some_and(|first| first.length == 0));
    Statistics {
        segments: lengths.len(),
        shared_segments,
        real_tokens: lengths.iter().map(|&length| length as u64).sum(),
        tree: Some(tree),
        ..Statistics::default()
    }
}

/// The place of each segment, written while rows are laid out.
struct Seats {
    seats: Vec<Seat>,
    members: Members,
    /// The index for the next segment of each row; rows are not sorted.
    next: Vec<u32>,
    /// Whether a segment follows one with a higher number that starts at the same token.
    untidy: bool,
}

impl Seats {
    /// For packed rows, given the position of each row among the sorted rows.
    fn new(packed: &[Packed], position: Vec<u32>) -> Self {
        let mut ends = vec![0u32; position.len() + 1];
        let mut first_row = 0;
        for packed in packed {
            for (row, segments) in packed.segments() {
                ends[position[first_row + row as usize] as usize + 1] += segments;
            }
            first_row += packed.filled.len();
        }
        let mut count = 0;
        for end in &mut ends {
            count += *end;
            *end = count;
        }
        let next = position.into_iter().map(|position| ends[position as usize]).collect();
        let count = count as usize;
        Seats {
            seats: zeroed(count),
            members: Members { segments: zeroed(count), ends },
            next,
            untidy: false,
        }
    }
}

impl Places for Seats {
    fn foresee(&self, segment: u32) {
        prefetch(&self.seats, segment as usize);
    }

    fn foresee_row(&self, row: u32) {
        prefetch(&self.members.segments, self.next[row as usize] as usize);
    }

    fn put(&mut self, segment: u32, place: Place, tied: bool) {
        let next = &mut self.next[place.row as usize];
        let at = *next as usize;
        *next += 1;
        self.untidy |= tied && at > 0 && self.members.segments[at - 1] > segment;
        self.members.segments[at] = segment;
        self.seats[segment as usize] = [place.start, place.own, place.parent as i32]; // no parent is −1
    }

    unsafe fn own_and_parent(&self, segment: u32) -> (i32, u32) {
        let [_, own, parent] = self.seats[segment as usize];
        (own, parent as u32)
    }
}
