//! The costs and savings of a plan, and its text form.

use std::fmt;

use super::Plan;
use super::policy::{BatchRows, Packing, PaddedLengths, Policy};
use super::shapes::Stretch;

/// The number of shapes that a printed plan lists; the others are only counted.
const SHOWN_SHAPES: usize = 16;

/// The statistics of a plan. Tokens are input tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The number of segments.
    pub segments: usize,
    /// Segments without their own row, because an earlier one has the same input.
    pub shared_segments: usize,
    /// Rows that hold a segment.
    pub rows: usize,
    /// Filler rows, which complete the last batch.
    pub filler_rows: usize,
    /// The number of batches.
    pub batches: usize,
    /// The tokens of all segments.
    pub real_tokens: u64,
    /// The tokens in rows; tokens that segments share count once.
    pub row_tokens: u64,
    /// Rows × length of all batches, filler included: the tokens that the device computes.
    pub device_tokens: u64,
    /// Further statistics if rows hold trees.
    pub tree: Option<TreeTokens>,
}

/// Token statistics of rows that hold trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeTokens {
    /// The tokens of all distinct inputs.
    pub distinct: u64,
    /// The size of the tree: the tokens if every shared prefix occurred only once.
    pub least: u64,
}

impl Statistics {
    /// The statistics of segments before they have rows; those with their own row are `distinct`.
    pub(super) fn of_segments(lengths: &[i32], distinct: &[i32]) -> Self {
        let tokens = |lengths: &[i32]| lengths.iter().map(|&length| length as u64).sum();
        Statistics {
            segments: lengths.len(),
            shared_segments: lengths.len() - distinct.len(),
            real_tokens: tokens(lengths),
            row_tokens: tokens(distinct),
            ..Statistics::default()
        }
    }

    /// Adds the statistics of the batches.
    pub(super) fn add_batches(&mut self, rows: usize, stretches: &[Stretch]) {
        self.rows = rows;
        self.batches = stretches.iter().map(|stretch| stretch.batches).sum();
        let batch_rows: usize = stretches.iter().map(|stretch| stretch.rows * stretch.batches).sum();
        self.filler_rows = batch_rows - rows;
        self.device_tokens = stretches.iter().map(Stretch::tokens).sum();
    }

    /// The padding tokens that the device computes, filler included.
    pub fn padding_tokens(&self) -> u64 {
        self.device_tokens - self.row_tokens
    }

    /// The tokens that need not be computed, because segments share rows or prefixes.
    pub fn shared_tokens(&self) -> u64 {
        self.real_tokens - self.row_tokens
    }

    /// The tokens of shared prefixes that are repeated in other rows.
    pub fn repeated_tokens(&self) -> u64 {
        self.tree.map_or(0, |tree| self.row_tokens - tree.least)
    }

    /// The steps from segment tokens to device tokens, line by line.
    fn lines(&self) -> Vec<(u64, &'static str)> {
        let mut lines = vec![(self.real_tokens, "tokens in segments")];
        match self.tree {
            None => lines.push((self.shared_tokens(), "deduplicated")),
            Some(tree) => lines.extend([
                (self.real_tokens - tree.distinct, "deduplicated"),
                (tree.distinct - tree.least, "in shared prefixes"),
                (self.repeated_tokens(), "prefix tokens repeated in other rows"),
            ]),
        }
        lines.extend([
            (self.padding_tokens(), "padding tokens"),
            (self.device_tokens, "tokens on the device"),
        ]);
        lines
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            BatchRows::Fixed(rows) => write!(f, "{} rows per batch", grouped(rows as u64))?,
            BatchRows::Budget(tokens) => write!(f, "{} tokens per batch", grouped(tokens as u64))?,
        }
        if self.row_multiple > 1 {
            write!(f, ", rows a multiple of {}", self.row_multiple)?;
        }
        match &self.padded_lengths {
            PaddedLengths::Multiples(multiple) => write!(f, ", lengths the multiples of {multiple}")?,
            PaddedLengths::Given(lengths) => write!(f, ", {} given lengths", lengths.len())?,
            PaddedLengths::Best { max_shapes, multiple, shape_price } => {
                write!(f, ", the best {max_shapes} lengths")?;
                if *multiple > 1 {
                    write!(f, " among multiples of {multiple}")?;
                }
                write!(f, " at {} tokens per shape", grouped(*shape_price as u64))?;
            }
        }
        match self.packing {
            None => {}
            Some(Packing { max_segments: None }) => write!(f, ", packed")?,
            Some(Packing { max_segments: Some(most) }) => write!(f, ", packed, at most {most} to a row")?,
        }
        write!(f, ", {} first", if self.longest_first { "longest" } else { "shortest" })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.statistics();
        writeln!(
            f,
            "Plan {:016x}: {} segments in {} rows, {} batches",
            self.fingerprint(),
            grouped(statistics.segments as u64),
            grouped(statistics.rows as u64),
            grouped(statistics.batches as u64),
        )?;
        let trees = if self.has_trees() { ", trees in rows" } else { "" };
        writeln!(f, "  {}{trees}", self.policy())?;
        for (tokens, what) in statistics.lines() {
            writeln!(f, "  {:>18} {what}", grouped(tokens))?;
        }
        write!(f, "  {:>10} × {:<10} {:>10}", "rows", "length", "batches")?;
        let shapes = self.shapes();
        for stretch in shapes.clone().take(SHOWN_SHAPES) {
            let (rows, length) = (grouped(stretch.rows as u64), grouped(stretch.length as u64));
            write!(f, "\n  {rows:>10} × {length:<10} {:>10}", grouped(stretch.batches as u64))?;
        }
        match shapes.len().saturating_sub(SHOWN_SHAPES) {
            0 => Ok(()),
            more => write!(f, "\n  … and {more} more shapes"),
        }
    }
}

/// A number with thousands separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
