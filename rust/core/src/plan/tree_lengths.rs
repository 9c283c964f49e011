//! Chooses the lengths of rows that hold trees.
//!
//! If there is a choice of lengths, the order is cut where almost nothing is shared, and each of the
//! resulting *groves* goes into rows of the length at which its tokens cost least. Sets of lengths are tried
//! out: each length alone, each pair, and more lengths while the total decreases. The total is the cost of
//! all batches, filler included, plus a price for each shape after the first.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::prefix::{Branch, Packed};

use super::layout;
use super::policy::{PaddedLengths, Policy};
use super::shapes::{Stretch, choose_stretches};
use super::trees::Choice;

/// Neighbors that share no more tokens than this may go into rows of different lengths.
const LITTLE: i32 = 16;

/// The maximum price of a row, so that no sum of prices overflows.
const LARGEST_PRICE: i64 = 1 << 56;

/// The candidate lengths, ascending, and the prices of their rows.
pub(super) struct Shop<'a> {
    policy: &'a Policy,
    choice: &'a Choice,
    lengths: Vec<i32>,
    prices: Vec<i64>,
    /// The smallest length that holds all segments.
    longest: usize,
}

impl<'a> Shop<'a> {
    pub(super) fn new(policy: &'a Policy, longest: i32, choice: &'a Choice) -> Result<Self> {
        check(policy, choice)?;
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

    /// The lengths with the smallest total found, ascending; the last holds all segments.
    pub(super) fn choose(&self, branches: &[Branch]) -> Result<Vec<usize>> {
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
        let parts = self.split(branches, &lengths);
        let filled: Vec<i32> =
            self.pack(&parts, &lengths)?.into_iter().flat_map(|packed| packed.filled).collect();
        let (stretches, _) = self.batches(&lengths, &filled)?;
        let total = self.total(&stretches);
        if total < best.0 {
            *best = (total, lengths);
        }
        Ok(())
    }

    /// The cost of these batches and their shapes.
    fn total(&self, stretches: &[Stretch]) -> i128 {
        let batches = stretches.iter().map(|stretch| {
            let at = self.lengths.partition_point(|&length| (length as usize) < stretch.length);
            (stretch.rows * stretch.batches) as i128 * i128::from(self.prices[at])
        });
        let shapes = stretches.len().saturating_sub(1) as i128;
        batches.sum::<i128>() + shapes * i128::from(self.choice.shape_price)
    }

    /// The rows for the segments assigned to each of the chosen lengths.
    pub(super) fn pack<'b>(&self, parts: &'b [Cow<[Branch]>], chosen: &[usize]) -> Result<Vec<Packed<'b>>> {
        parts.iter().zip(chosen).map(|(part, &length)| Packed::new(part, self.lengths[length])).collect()
    }

    /// The batches of rows with these fillings, and the position of each row among them.
    pub(super) fn batches(&self, chosen: &[usize], filled: &[i32]) -> Result<(Vec<Stretch>, Vec<u32>)> {
        let lengths = chosen.iter().map(|&length| self.lengths[length]).collect();
        let policy = Policy { padded_lengths: PaddedLengths::Given(lengths), ..self.policy.clone() };
        let sorted = layout::sort(filled, 1)?;
        Ok((choose_stretches(&policy, &sorted.runs, filled.len())?, sorted.position))
    }

    /// The segments assigned to each of the chosen lengths, in their order.
    pub(super) fn split<'b>(&self, branches: &'b [Branch], chosen: &[usize]) -> Vec<Cow<'b, [Branch]>> {
        if chosen.len() == 1 {
            return vec![branches.into()];
        }
        let mut parts: Vec<Part> = chosen.iter().map(|_| Part::default()).collect();
        let groves = branches.chunk_by(|_, next| next.shared > LITTLE || next.shared == next.length);
        for grove in groves {
            let at = self.cheapest(grove, chosen);
            for (index, part) in parts.iter_mut().enumerate() {
                if index == at { part.take(grove) } else { part.pass(grove) }
            }
        }
        parts.into_iter().map(|part| part.branches.into()).collect()
    }

    /// The chosen length at which a grove costs least; the longest one among ties.
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

/// The number of tokens that a grove takes in rows of `length`.
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

/// The segments assigned to rows of one length.
#[derive(Default)]
struct Part {
    branches: Vec<Branch>,
    /// The minimum shared by neighbors skipped since the last segment taken.
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
        return refuse("pack", 1, "off if there are prefixes, because rows of trees are always packed");
    }
    if choice.max_shapes < 1 {
        return refuse("max_shapes", choice.max_shapes, "at least 1");
    }
    if !(0..=LARGEST_PRICE).contains(&choice.shape_price) {
        return refuse("shape_price", choice.shape_price, "at least 0 and at most 2**56");
    }
    let Some(prices) = &choice.row_prices else { return Ok(()) };
    let (expected, because) = match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => (lengths.len(), "one for each of padded_lengths"),
        _ => (0, "because padded_lengths is not given; give both"),
    };
    if prices.len() != expected {
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
