//! Plans batches of token sequences.
//!
//! A language-model evaluation is a list of *segments* (token sequences) for a
//! model. This crate assigns each segment to a row of a batch with a padded length,
//! and fills the arrays. It does not depend on Python, tokenizers, or devices.
//!
//! # Index glossary
//!
//! | name | counts |
//! | --- | --- |
//! | `segment` | token sequences, in the order they were given |
//! | `batch` | batches, in the order they run |
//! | `row` | lines of one batch, `0..rows` |
//! | `start` | where in its row a segment begins |
//! | `shape` | distinct `(rows, length)` pairs, in the order they first run |
//!
//! Lengths are `i32`, like token counts on devices; positions in flat token arrays
//! and counts of segments are `i64`, like NumPy indices.

#![forbid(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

pub mod bucket;
mod chunks;
pub mod collate;
mod error;
mod lengths;
mod memory;
pub mod order;
pub mod pack;
mod parallel;
mod place;
pub mod plan;
pub mod prefix;
pub mod ragged;
pub mod shard;

pub use error::{Error, Result};
