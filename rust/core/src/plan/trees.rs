//! Plans whose rows hold prefix trees, and the lengths of such rows.
//!
//! Rows are laid as `tree_rows` lays them. Where there is a choice of lengths, the
//! order is cut where next to nothing is shared, and each of these *groves* goes
//! into rows of the length at which its tokens cost least. Which lengths there are
//! is tried out: every one alone, every two, and more while the total falls. The
//! total is what all batches cost, filler included, and a price for each shape
//! after the first.

use crate::error::{Error, Result};
use crate::memory::collected;
use crate::prefix::{Branch, Packed, Places, branches};

use super::layout;
use super::policy::{PaddedLengths, Policy, SHAPE_PRICE};
use super::shapes::{Stretch, choose_stretches};
use super::statistics::{Statistics, TreeTokens};

/// Neighbours that share no more than this may go into rows of different lengths.
const LITTLE: i32 = 16;

/// A row costs no more than this, so that no sum of prices overflows.
const LARGEST_PRICE: i64 = 1 << 56;

/// The prefix tree of a plan's segments, and what rows of trees cost.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes<'a> {
    /// The segments in lexicographic order, as `prefix_order` gives it.
    pub order: &'a [i64],
    /// How many first tokens each has in common with the one before it, likewise.
    pub shared: &'a [i32],
    /// How the lengths of rows are chosen.
    pub choice: &'a Choice,
}

/// How the lengths of tree rows are chosen among the policy's given padded lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What a row of each length costs, in any unit; its tokens if nothing.
    pub row_prices: Option<Vec<i64>>,
    /// At most this many lengths are used.
    pub max_shapes: i64,
    /// What each shape beyond the first costs, in the unit of `row_prices`.
    pub shape_price: i64,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { row_prices: None, max_shapes: 8, shape_price: SHAPE_PRICE }
    }
}

impl Choice {
    /// As numbers, from which [`Choice::from_words`] makes it again.
    pub(super) fn words(&self) -> Vec<i64> {
        let prices = self.row_prices.as_deref().unwrap_or_default();
        let mut words = vec![self.max_shapes, self.shape_price, self.row_prices.is_some().into()];
        words.push(prices.len() as i64);
        words.extend(prices);
        words
    }

    /// What [`Choice::words`] wrote; nothing if it wrote no such words.
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

/// What a plan keeps of its trees.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    pub order: Vec<u32>,
    pub shared: Vec<i32>,
    pub choice: Choice,
    /// How many of each segment's first tokens stand as its parent's.
    pub own: Vec<i32>,
    /// The parent of each segment; −1 for none.
    pub parents: Vec<i32>,
}

/// Rows of trees before they are sorted.
pub(super) struct TreeRows {
    pub trees: Trees,
    /// The row of each segment, and where its own tokens begin.
    pub rows: Vec<u32>,
    pub starts: Vec<i32>,
    pub stretches: Vec<Stretch>,
    /// Where each row stands, longest first.
    pub position: Vec<u32>,
    pub statistics: Statistics,
}

/// Lays the segments into rows of the lengths that cost least.
pub(super) fn lay(policy: &Policy, lengths: &[i32], prefixes: Prefixes) -> Result<TreeRows> {
    let branches = branches(lengths, prefixes.order, prefixes.shared)?;
    let mut statistics = statistics(lengths, &branches);
    let order = collected(branches.iter().map(|branch| branch.segment));
    let shared = collected(branches.iter().map(|branch| branch.shared));
    let shop = Shop::new(policy, lengths, prefixes.choice)?;
    let chosen = shop.choose(&branches)?;
    let mut packed = Vec::with_capacity(chosen.len());
    for (branches, &length) in shop.split(branches, &chosen).into_iter().zip(&chosen) {
        packed.push(Packed::new(branches, shop.lengths[length])?);
    }
    // As the lengths were chosen: what pieces in one row share does not count.
    let filled: Vec<i32> = packed.iter().flat_map(|packed| packed.filled.iter().copied()).collect();
    let (stretches, position) = shop.batches(&chosen, &filled)?;
    let mut places = Places::new(lengths.len());
    let mut first_row = 0;
    for packed in packed {
        let filled = packed.lay(first_row, &mut places);
        first_row += filled.len() as u32;
        statistics.row_tokens += filled.into_iter().map(|filled| filled as u64).sum::<u64>();
    }
    statistics.add_batches(filled.len(), &stretches);
    let trees = Trees {
        order,
        shared,
        choice: prefixes.choice.clone(),
        own: collected(places.0.iter().map(|place| place.own)),
        parents: collected(places.0.iter().map(|place| place.parent as i32)), // none is −1
    };
    let rows = collected(places.0.iter().map(|place| place.row));
    let starts = collected(places.0.iter().map(|place| place.start));
    Ok(TreeRows { trees, rows, starts, stretches, position, statistics })
}

/// What is known of the segments before they have rows.
fn statistics(lengths: &[i32], branches: &[Branch]) -> Statistics {
    let mut tree = TreeTokens::default();
    let mut shared_segments = 0;
    for (index, branch) in branches.iter().enumerate() {
        tree.least += (branch.length - branch.shared) as u64;
        if index > 0 && branch.shared == branch.length {
            shared_segments += 1;
        } else {
            tree.distinct += branch.length as u64;
        }
    }
    Statistics {
        segments: lengths.len(),
        shared_segments,
        real_tokens: lengths.iter().map(|&length| length as u64).sum(),
        tree: Some(tree),
        ..Statistics::default()
    }
}

/// The lengths there are to choose from, ascending, and what rows of them cost.
struct Shop<'a> {
    policy: &'a Policy,
    choice: &'a Choice,
    lengths: Vec<i32>,
    prices: Vec<i64>,
    /// The first of the lengths that holds all segments.
    longest: usize,
}

impl<'a> Shop<'a> {
    fn new(policy: &'a Policy, lengths: &[i32], choice: &'a Choice) -> Result<Self> {
        check(policy, choice)?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let lengths = match &policy.padded_lengths {
            PaddedLengths::Given(lengths) => lengths.clone(),
            _ => vec![layout::padded(longest, policy.multiple()) as i32],
        };
        let prices = match &choice.row_prices {
            Some(prices) => prices.clone(),
            None => lengths.iter().map(|&length| length.into()).collect(),
        };
        let longest = lengths.partition_point(|&length| length < longest);
        Ok(Shop { policy, choice, lengths, prices, longest })
    }

    /// The lengths whose total is the least found, ascending; the last holds all segments.
    fn choose(&self, branches: &[Branch]) -> Result<Vec<usize>> {
        let all = 0..self.lengths.len();
        let mut best = (i128::MAX, Vec::new());
        for longest in self.longest..self.lengths.len() {
            self.try_lengths(vec![longest], branches, &mut best)?;
        }
        if self.choice.max_shapes > 1 && all.len() > 1 {
            for longest in self.longest..self.lengths.len() {
                for shorter in 0..longest {
                    self.try_lengths(vec![shorter, longest], branches, &mut best)?;
                }
            }
        }
        while best.1.len() > 1 && (best.1.len() as i64) < self.choice.max_shapes {
            let before = best.1.clone();
            for more in all.clone().filter(|length| !before.contains(length)) {
                let mut lengths = before.clone();
                lengths.push(more);
                lengths.sort_unstable();
                self.try_lengths(lengths, branches, &mut best)?;
            }
            if best.1 == before {
                break;
            }
        }
        Ok(best.1)
    }

    /// Keeps these lengths if they cost less than the best so far.
    fn try_lengths(
        &self,
        lengths: Vec<usize>,
        branches: &[Branch],
        best: &mut (i128, Vec<usize>),
    ) -> Result<()> {
        if self.lengths.len() == 1 {
            *best = (0, lengths); // nothing to compare it with
            return Ok(());
        }
        let mut filled = Vec::new();
        for (branches, &length) in self.split(branches.to_vec(), &lengths).into_iter().zip(&lengths) {
            filled.append(&mut Packed::new(branches, self.lengths[length])?.filled);
        }
        let (stretches, _) = self.batches(&lengths, &filled)?;
        let total = self.total(&stretches);
        if total < best.0 {
            *best = (total, lengths);
        }
        Ok(())
    }

    /// What these batches and their shapes cost.
    fn total(&self, stretches: &[Stretch]) -> i128 {
        let batches = stretches.iter().map(|stretch| {
            let at = self.lengths.partition_point(|&length| (length as usize) < stretch.length);
            (stretch.rows * stretch.batches) as i128 * i128::from(self.prices[at])
        });
        let shapes = stretches.len().saturating_sub(1) as i128;
        batches.sum::<i128>() + shapes * i128::from(self.choice.shape_price)
    }

    /// The batches of rows that are filled so far, and where each row stands among them.
    fn batches(&self, chosen: &[usize], filled: &[i32]) -> Result<(Vec<Stretch>, Vec<u32>)> {
        let lengths = chosen.iter().map(|&length| self.lengths[length]).collect();
        let policy = Policy { padded_lengths: PaddedLengths::Given(lengths), ..self.policy.clone() };
        let sorted = layout::sort(filled, 1)?;
        Ok((choose_stretches(&policy, &sorted.runs, filled.len())?, sorted.position))
    }

    /// The segments that go into rows of each of the chosen lengths, in their order.
    fn split(&self, branches: Vec<Branch>, chosen: &[usize]) -> Vec<Vec<Branch>> {
        if chosen.len() == 1 {
            return vec![branches];
        }
        let mut parts: Vec<Part> = chosen.iter().map(|_| Part::default()).collect();
        let groves = branches.chunk_by(|_, next| next.shared > LITTLE || next.shared == next.length);
        for grove in groves {
            let at = self.cheapest(grove, chosen);
            for (index, part) in parts.iter_mut().enumerate() {
                if index == at { part.take(grove) } else { part.pass(grove) }
            }
        }
        parts.into_iter().map(|part| part.branches).collect()
    }

    /// Which of the chosen lengths a grove costs the least at; the longest of equal ones.
    fn cheapest(&self, grove: &[Branch], chosen: &[usize]) -> usize {
        let longest = grove.iter().map(|branch| branch.length).max().unwrap_or(0);
        let cost = |&at: &usize| {
            let length = self.lengths[chosen[at]];
            let for_each_token = ((self.prices[chosen[at]] as u128) << 20) / length as u128;
            u128::from(tokens(grove, length)).saturating_mul(for_each_token)
        };
        let holding = (0..chosen.len()).rev().filter(|&at| self.lengths[chosen[at]] >= longest);
        holding.min_by_key(cost).expect("the last chosen length holds all segments")
    }
}

/// How many tokens a grove takes in rows of `length`.
fn tokens(grove: &[Branch], length: i32) -> u64 {
    let (mut total, mut filled) = (0, 0);
    for (index, branch) in grove.iter().enumerate() {
        let new = branch.length - branch.shared;
        if index > 0 && new <= length - filled {
            filled += new;
        } else {
            total += filled as u64;
            filled = branch.length;
        }
    }
    total + filled as u64
}

/// The segments that go into rows of one length.
#[derive(Default)]
struct Part {
    branches: Vec<Branch>,
    /// The least that neighbours passed over since the last one taken share.
    least: i32,
}

impl Part {
    fn take(&mut self, grove: &[Branch]) {
        let first = Branch { shared: grove[0].shared.min(self.least), ..grove[0] };
        self.branches.push(first);
        self.branches.extend_from_slice(&grove[1..]);
        self.least = i32::MAX;
    }

    fn pass(&mut self, grove: &[Branch]) {
        self.least = grove.iter().map(|branch| branch.shared).fold(self.least, i32::min);
    }
}

fn check(policy: &Policy, choice: &Choice) -> Result<()> {
    let refuse = |argument, value, expected| Err(Error::Value { argument, value, expected });
    if policy.packing.is_some() {
        return refuse("pack", 1, "off where there are prefixes, since rows of trees are packed as it is");
    }
    if choice.max_shapes < 1 {
        return refuse("max_shapes", choice.max_shapes, "at least 1");
    }
    if !(0..=LARGEST_PRICE).contains(&choice.shape_price) {
        return refuse("shape_price", choice.shape_price, "at least 0 and at most 2**56");
    }
    let Some(prices) = &choice.row_prices else { return Ok(()) };
    let expected = match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => lengths.len(),
        _ => 0,
    };
    if prices.len() != expected {
        let because = "one for each of padded_lengths, which must be given";
        return Err(Error::Size { argument: "row_prices", size: prices.len(), expected, because });
    }
    match prices.iter().position(|price| !(1..=LARGEST_PRICE).contains(price)) {
        None => Ok(()),
        Some(index) => Err(Error::Element {
            argument: "row_prices",
            index,
            value: prices[index],
            expected: "at least 1 and at most 2**56",
        }),
    }
}
