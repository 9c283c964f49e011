//! Determines which elements each host gets.
//!
//! Data loaders give each host one contiguous slice of the data, which it batches. With
//! sorted data, the hosts' first batches would then have very different lengths. The
//! remap reorders the elements so that the batches of contiguous slices are parts of
//! the same global batch:
//!
//! ```text
//! 8 elements, global batches of 4, 2 hosts
//! remap             [0, 1, 4, 5,  2, 3, 6, 7]
//! host 0 takes      [0, 1, 4, 5]              batches [0, 1] and [4, 5]
//! host 1 takes                   [2, 3, 6, 7] batches [2, 3] and [6, 7]
//! global batches    [0, 1, 2, 3] and [4, 5, 6, 7]
//! ```

use std::mem::MaybeUninit;

use crate::error::{Error, Result};

/// The number of elements in a remap: `size`, or an error if it is invalid.
///
/// `size` must be a multiple of `global_batch_size`, and that of `host_count`: in a smaller last batch, the
/// hosts' parts would have another shape, or be empty.
pub fn remap_size(size: i64, global_batch_size: i64, host_count: i64) -> Result<usize> {
    if size < 0 {
        return Err(Error::Value { argument: "size", value: size, expected: "at least 0" });
    }
    check_multiple("size", size, "global_batch_size", global_batch_size)?;
    check_multiple("global_batch_size", global_batch_size, "host_count", host_count)?;
    let most = isize::MAX as usize / size_of::<i64>();
    usize::try_from(size).ok().filter(|&size| size <= most).ok_or(Error::Value {
        argument: "size",
        value: size,
        expected: "small enough for that many int64 elements to fit into memory",
    })
}

/// For each position in the remapped data, writes the element of the sorted data at that position into
/// `remap`.
///
/// Let each host hold `r = global_batch_size / host_count` rows of each of the `b = size / global_batch_size`
/// batches. Row `i` of host `h`'s part of batch `k` is then at position `(h * b + k) * r + i`, which gets
/// element `k * global_batch_size + h * r + i`.
///
/// `remap` must have [`remap_size`] elements; if the result is `Ok`, all are written.
pub fn multihost_remap(
    size: i64,
    global_batch_size: i64,
    host_count: i64,
    remap: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let expected = remap_size(size, global_batch_size, host_count)?;
    if remap.len() != expected {
        let because = "one for each element";
        return Err(Error::Size { argument: "remap", size: remap.len(), expected, because });
    }
    if size == 0 {
        return Ok(());
    }
    let host_rows = global_batch_size / host_count;
    let mut parts = remap.chunks_exact_mut(host_rows as usize);
    for host in 0..host_count {
        for batch in 0..size / global_batch_size {
            let first = batch * global_batch_size + host * host_rows;
            let part = parts.next().expect("each host has a part of each batch");
            for (row, place) in part.iter_mut().enumerate() {
                place.write(first + row as i64);
            }
        }
    }
    Ok(())
}

fn check_multiple(argument: &'static str, value: i64, of: &'static str, divisor: i64) -> Result<()> {
    if divisor < 1 {
        return Err(Error::Value { argument: of, value: divisor, expected: "at least 1" });
    }
    if value % divisor != 0 {
        return Err(Error::Multiple { argument, value, of, divisor });
    }
    Ok(())
}
