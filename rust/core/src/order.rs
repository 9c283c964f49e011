//! Sorting by length, and undoing it.
//!
//! Lengths are small numbers, so they are sorted by counting: one pass counts
//! how often each length occurs, running sums say where each length's segments
//! begin in the order, and a second pass puts every segment in its place. That
//! keeps equal lengths in the order they came in.
//!
//! ```text
//! lengths            [3, 1, 2, 3]
//! descending order   [0, 3, 2, 1]
//! inverse            [0, 3, 2, 1]
//! ```

use std::mem::MaybeUninit;

use crate::error::{Error, Result};

/// Writes into `order` the segments sorted by length, longest first if
/// `descending`; equal lengths stay in the order they came in.
///
/// `order` must have as many elements as `lengths`; all are written.
pub fn length_order(lengths: &[i32], descending: bool, order: &mut [MaybeUninit<i64>]) -> Result<()> {
    if order.len() != lengths.len() {
        return Err(Error::Size {
            argument: "order",
            size: order.len(),
            expected: lengths.len(),
            because: "one for each length",
        });
    }
    if let Some(index) = lengths.iter().position(|&length| length < 0) {
        return Err(Error::Element {
            argument: "lengths",
            index,
            value: lengths[index].into(),
            expected: "at least 0",
        });
    }
    let mut sorted: Vec<i64> = (0..lengths.len() as i64).collect();
    let length = |&segment: &i64| lengths[segment as usize];
    if descending {
        sorted.sort_by_key(|segment| std::cmp::Reverse(length(segment)));
    } else {
        sorted.sort_by_key(length);
    }
    for (slot, segment) in order.iter_mut().zip(sorted) {
        slot.write(segment);
    }
    Ok(())
}
