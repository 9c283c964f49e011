//! Which elements each host takes.
//!
//! Data loaders give each host one contiguous slice of the data and batch that.
//! Of sorted data the hosts' first batches would then be far apart in length. The
//! remap puts the elements in an order whose contiguous slices, batched, are
//! parts of the same global batch:
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

/// Writes into `remap`, of `size` elements, for each place of the remapped data
/// which element of the sorted data stands there.
///
/// With `size / global_batch_size` batches, of which each host holds
/// `global_batch_size / host_count` rows, the place of row `r` of the host's part
/// of batch `b` on host `h` is `h * size / host_count + b * global_batch_size /
/// host_count + r`, and the element there is `b * global_batch_size + h *
/// global_batch_size / host_count + r`.
///
/// Only whole batches have such an order: in a smaller last batch the hosts
/// would hold parts of another shape, or none.
pub fn multihost_remap(
    size: i64,
    global_batch_size: i64,
    host_count: i64,
    remap: &mut [MaybeUninit<i64>],
) -> Result<()> {
    if size < 0 {
        return Err(Error::Value { argument: "size", value: size, expected: "at least 0" });
    }
    let multiple = |argument, value, of, divisor| match divisor {
        ..1 => Err(Error::Value { argument: of, value: divisor, expected: "at least 1" }),
        _ if value % divisor != 0 => Err(Error::Multiple { argument, value, of, divisor }),
        _ => Ok(value / divisor),
    };
    let batches = multiple("size", size, "global_batch_size", global_batch_size)?;
    let host_rows = multiple("global_batch_size", global_batch_size, "host_count", host_count)?;
    if remap.len() as i64 != size {
        let because = "one for each element";
        return Err(Error::Size { argument: "remap", size: remap.len(), expected: size as usize, because });
    }
    if size == 0 {
        return Ok(());
    }
    let mut host_batches = remap.chunks_exact_mut(host_rows as usize);
    for host in 0..host_count {
        for batch in 0..batches {
            let first = batch * global_batch_size + host * host_rows;
            let places = host_batches.next().expect("hosts x batches x host_rows is the size");
            for (row, place) in places.iter_mut().enumerate() {
                place.write(first + row as i64);
            }
        }
    }
    Ok(())
}
