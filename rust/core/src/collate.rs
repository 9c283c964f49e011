//! Filling a batch's arrays, each in one pass.

mod batch;
mod reads;

pub use batch::{Sequences, inputs, positions, row_lengths, segment_ids, targets};
pub use reads::{Groups, ReadArrays, read_capacities, read_spans, reads};
