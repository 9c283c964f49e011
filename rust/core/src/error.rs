//! Errors about invalid arguments, with the offending values.

use std::fmt;

/// An invalid argument. The message names the argument, what was expected and the actual value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An element is outside the range that the argument allows.
    Element {
        /// The argument's name.
        argument: &'static str,
        /// Where the offending element is.
        index: usize,
        /// The offending element.
        value: i64,
        /// What the argument's elements must be, for example "at least 0".
        expected: &'static str,
    },
    /// An element is above a limit that another argument sets.
    Limit {
        /// The argument's name.
        argument: &'static str,
        /// Where the offending element is.
        index: usize,
        /// The offending element.
        value: i64,
        /// The name of the argument that sets the limit.
        limit: &'static str,
        /// The limit.
        at_most: i64,
    },
    /// An element refers to a segment that does not exist.
    Segment {
        /// The argument's name.
        argument: &'static str,
        /// Where the offending element is.
        index: usize,
        /// The offending element.
        value: i64,
        /// The number of segments.
        segments: usize,
    },
    /// A row is shorter than its segment.
    TooLong {
        /// The index of the segment in `rows`.
        index: usize,
        /// The segment.
        segment: i64,
        /// The number of tokens it has.
        tokens: usize,
        /// The number of tokens in a row.
        length: i32,
    },
    /// A matrix would be too large to address.
    TooLarge {
        /// The number of rows.
        rows: usize,
        /// The number of tokens in each row.
        length: i32,
    },
    /// A single number is not a multiple of another argument.
    Multiple {
        /// The argument's name.
        argument: &'static str,
        /// The offending number.
        value: i64,
        /// The name of the argument that it must be a multiple of.
        of: &'static str,
        /// That argument.
        divisor: i64,
    },
    /// A single number is outside the range that the argument allows.
    Value {
        /// The argument's name.
        argument: &'static str,
        /// The offending number.
        value: i64,
        /// What it must be, for example "at least 1".
        expected: &'static str,
    },
    /// Two arguments that belong together have different sizes.
    Size {
        /// The argument's name.
        argument: &'static str,
        /// Its size.
        size: usize,
        /// The size it must have.
        expected: usize,
        /// The reason: what the size must match.
        because: &'static str,
    },
    /// A number, or an element, violates a bound that depends on other arguments.
    Bound {
        /// The argument's name.
        argument: &'static str,
        /// The index of the offending element; `None` for a single number.
        index: Option<usize>,
        /// The offending number.
        value: i64,
        /// The required relation to the limit: "at least", "at most", "a multiple of".
        relation: &'static str,
        /// The limit.
        limit: i64,
        /// The reason for the limit.
        because: &'static str,
    },
    /// There is no such batch.
    NoBatch {
        /// The requested batch.
        batch: i64,
        /// The number of batches.
        batches: usize,
    },
    /// Another thread wrote to an array while it was being read.
    Changed {
        /// The argument's name.
        argument: &'static str,
    },
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Element { argument, index, value, expected } => {
                write!(f, "{argument}[{index}] is {value}; it must be {expected}")
            }
            Error::Limit { argument, index, value, limit, at_most } => {
                write!(f, "{argument}[{index}] is {value}; it must be at most {limit}, which is {at_most}")
            }
            Error::Segment { argument, index, value, segments } => {
                write!(
                    f,
                    "{argument}[{index}] is {value}; it must be one of the {segments} segments, counted from 0, or -1 for filler"
                )
            }
            Error::TooLong { index, segment, tokens, length } => {
                write!(
                    f,
                    "rows[{index}] is segment {segment} with {tokens} tokens; a row must hold it, and length is {length}"
                )
            }
            Error::TooLarge { rows, length } => {
                write!(
                    f,
                    "rows has {rows} elements and length is {length}; together they must fit into memory"
                )
            }
            Error::Multiple { argument, value, of, divisor } => {
                write!(f, "{argument} is {value}; it must be a multiple of {of}, which is {divisor}")
            }
            Error::Value { argument, value, expected } => {
                write!(f, "{argument} is {value}; it must be {expected}")
            }
            Error::Size { argument, size, expected, because } => {
                let elements = if *size == 1 { "element" } else { "elements" };
                write!(f, "{argument} has {size} {elements}; it must have {expected}, {because}")
            }
            Error::Bound { argument, index, value, relation, limit, because } => {
                let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
                write!(f, "{argument}{index} is {value}; it must be {relation} {limit}, {because}")
            }
            Error::NoBatch { batch, batches } => {
                write!(f, "batch is {batch}; it must be one of the plan's {batches} batches, counted from 0")
            }
            Error::Changed { argument } => {
                write!(f, "{argument} changed while it was being read; pass a copy")
            }
        }
    }
}

impl std::error::Error for Error {}
