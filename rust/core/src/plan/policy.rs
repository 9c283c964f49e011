//! The settings of a plan, and checks that they can be satisfied.

use crate::error::{Error, Result};

/// The default price of one more compiled shape, in tokens on the device.
///
/// Compiling a step takes a second or more. In that time, a device processes about ten thousand tokens of a
/// small model, or as many of a large model on an accelerator. In large suites, the price hardly matters; it
/// keeps suites of a few batches from having a shape for each batch.
pub const SHAPE_PRICE: i64 = 8192;

/// The upper limit of numbers in a policy, so that no sum of them overflows.
const LARGEST: i64 = i32::MAX as i64;
const LARGEST_PRICE: i64 = 1 << 40;

/// How many rows a batch has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchRows {
    /// Every batch has this many rows.
    Fixed(i64),
    /// As many rows as keep rows × length within this many tokens.
    Budget(i64),
}

/// Which lengths rows may be padded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaddedLengths {
    /// Every multiple of this number to which some row is rounded up.
    Multiples(i64),
    /// These lengths, ascending.
    Given(Vec<i32>),
    /// The multiples with the lowest cost.
    Best {
        /// At most this many.
        max_shapes: i64,
        /// Lengths are rounded up to a multiple of this.
        multiple: i64,
        /// The price of each shape after the first, in tokens.
        shape_price: i64,
    },
}

/// How segments share rows, for models that use segment ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// At most this many segments in a row; any number if `None`.
    pub max_segments: Option<i64>,
}

/// Everything that determines a plan, except the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many rows a batch has.
    pub rows: BatchRows,
    /// The number of rows in each batch is a multiple of this.
    pub row_multiple: i64,
    /// Which lengths rows may be padded to.
    pub padded_lengths: PaddedLengths,
    /// Whether a row may hold several segments.
    pub packing: Option<Packing>,
    /// Whether the longest batch runs first.
    pub longest_first: bool,
}

impl Policy {
    /// A fixed number of rows, the best 8 lengths, no packing, longest first.
    pub fn fixed(batch_size: i64) -> Self {
        Policy {
            rows: BatchRows::Fixed(batch_size),
            row_multiple: 1,
            padded_lengths: PaddedLengths::Best { max_shapes: 8, multiple: 1, shape_price: SHAPE_PRICE },
            packing: None,
            longest_first: true,
        }
    }

    /// The same as [`Policy::fixed`], with a token budget for each batch.
    pub fn budget(tokens_per_batch: i64) -> Self {
        Policy { rows: BatchRows::Budget(tokens_per_batch), ..Policy::fixed(1) }
    }

    /// Rejects numbers that no plan can satisfy.
    pub(super) fn check(&self) -> Result<()> {
        between("row_multiple", self.row_multiple, 1, LARGEST, COUNT)?;
        match self.rows {
            BatchRows::Fixed(rows) => {
                between("batch_size", rows, 1, LARGEST, COUNT)?;
                if rows % self.row_multiple != 0 {
                    let (value, divisor) = (rows, self.row_multiple);
                    let of = "row_multiple";
                    return Err(Error::Multiple { argument: "batch_size", value, of, divisor });
                }
            }
            BatchRows::Budget(tokens) => between("tokens_per_batch", tokens, 1, LARGEST, COUNT)?,
        }
        match &self.padded_lengths {
            PaddedLengths::Multiples(multiple) => between("padding_multiple", *multiple, 1, LARGEST, COUNT)?,
            PaddedLengths::Given(lengths) => ascending(lengths)?,
            PaddedLengths::Best { max_shapes, multiple, shape_price } => {
                between("max_shapes", *max_shapes, 1, i64::MAX, "at least 1")?;
                between("padding_multiple", *multiple, 1, LARGEST, COUNT)?;
                between("shape_price", *shape_price, 0, LARGEST_PRICE, "at least 0 and at most 2**40")?;
            }
        }
        match self.packing {
            Some(Packing { max_segments: Some(most) }) => {
                between("max_segments", most, 1, i64::MAX, "at least 1")
            }
            _ => Ok(()),
        }
    }

    /// The number of which rounded lengths are multiples.
    pub(super) fn multiple(&self) -> i64 {
        match self.padded_lengths {
            PaddedLengths::Multiples(multiple) | PaddedLengths::Best { multiple, .. } => multiple,
            PaddedLengths::Given(_) => 1,
        }
    }

    /// The policy as numbers, which [`Policy::from_words`] decodes.
    pub(super) fn words(&self) -> Vec<i64> {
        let mut words = match self.rows {
            BatchRows::Fixed(rows) => vec![0, rows],
            BatchRows::Budget(tokens) => vec![1, tokens],
        };
        words.extend([self.row_multiple, self.longest_first.into()]);
        words.push(match self.packing {
            None => -1,
            Some(Packing { max_segments }) => max_segments.unwrap_or(0),
        });
        match &self.padded_lengths {
            PaddedLengths::Multiples(multiple) => words.extend([0, *multiple]),
            PaddedLengths::Best { max_shapes, multiple, shape_price } => {
                words.extend([1, *multiple, *max_shapes, *shape_price]);
            }
            PaddedLengths::Given(lengths) => {
                words.extend([2, lengths.len() as i64]);
                words.extend(lengths.iter().map(|&length| i64::from(length)));
            }
        }
        words
    }

    /// The policy encoded by [`Policy::words`]; `None` if the words are invalid.
    pub(super) fn from_words(mut next: impl FnMut() -> Option<i64>) -> Option<Self> {
        let rows = match (next()?, next()?) {
            (0, rows) => BatchRows::Fixed(rows),
            (1, tokens) => BatchRows::Budget(tokens),
            _ => return None,
        };
        let row_multiple = next()?;
        let longest_first = match next()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let packing = match next()? {
            -1 => None,
            0 => Some(Packing { max_segments: None }),
            most => Some(Packing { max_segments: Some(most) }),
        };
        let padded_lengths = match (next()?, next()?) {
            (0, multiple) => PaddedLengths::Multiples(multiple),
            (1, multiple) => PaddedLengths::Best { multiple, max_shapes: next()?, shape_price: next()? },
            (2, count) => {
                let lengths = (0..count).map(|_| next()?.try_into().ok()).collect::<Option<_>>();
                PaddedLengths::Given(lengths?)
            }
            _ => return None,
        };
        Some(Policy { rows, row_multiple, padded_lengths, packing, longest_first })
    }
}

const COUNT: &str = "at least 1 and at most 2147483647";

fn between(argument: &'static str, value: i64, least: i64, most: i64, expected: &'static str) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Value { argument, value, expected })
}

fn ascending(lengths: &[i32]) -> Result<()> {
    let mut last = 0;
    if lengths.is_empty() {
        return Err(Error::Size { argument: "padded_lengths", size: 0, expected: 1, because: "at least" });
    }
    for (index, &length) in lengths.iter().enumerate() {
        if length <= last {
            let expected = if index == 0 { "at least 1" } else { "above the one before it" };
            return Err(Error::Element { argument: "padded_lengths", index, value: length.into(), expected });
        }
        last = length;
    }
    Ok(())
}
