//! Laws of the remap for hosts, compared with slicing and batching on each host.

use std::mem::MaybeUninit;

use proptest::prelude::*;
use windrow_core::shard::{self, remap_size};
use windrow_core::{Error, Result};

fn multihost_remap(size: i64, global_batch_size: i64, host_count: i64) -> Result<Vec<i64>> {
    let mut remap = vec![MaybeUninit::uninit(); remap_size(size, global_batch_size, host_count)?];
    shard::multihost_remap(size, global_batch_size, host_count, &mut remap)?;
    // SAFETY: `multihost_remap` guarantees that it writes every element.
    Ok(remap.into_iter().map(|element| unsafe { element.assume_init() }).collect())
}

/// Every host batches its own slice; together, these batches must be the sorted data in global batches.
fn assert_laws(remap: &[i64], global_batch_size: usize, host_count: usize) {
    let size = remap.len();
    let host_rows = global_batch_size / host_count;
    let mut batches = vec![Vec::new(); size / global_batch_size];
    for host in 0..host_count {
        let slice = &remap[host * size / host_count..(host + 1) * size / host_count];
        for (batch, rows) in batches.iter_mut().zip(slice.chunks(host_rows)) {
            batch.extend_from_slice(rows);
        }
    }
    assert_eq!(batches.concat(), (0..size as i64).collect::<Vec<_>>());
}

#[test]
fn documented_example() {
    assert_eq!(multihost_remap(8, 4, 2).unwrap(), [0, 1, 4, 5, 2, 3, 6, 7]);
}

#[test]
fn one_host_or_one_batch_is_the_identity() {
    let sorted: Vec<i64> = (0..12).collect();
    assert_eq!(multihost_remap(12, 4, 1).unwrap(), sorted);
    assert_eq!(multihost_remap(12, 12, 3).unwrap(), sorted);
}

#[test]
fn empty_dataset_has_an_empty_remap() {
    assert_eq!(multihost_remap(0, 1, 1).unwrap(), []);
    assert_eq!(multihost_remap(0, i64::MAX, i64::MAX).unwrap(), []);
}

#[test]
fn errors_name_the_argument() {
    let refused = |size, batch, hosts| multihost_remap(size, batch, hosts).unwrap_err().to_string();
    let multiple = "size is 10; it must be a multiple of global_batch_size, which is 4";
    assert_eq!(refused(10, 4, 2), multiple);
    let multiple = "global_batch_size is 4; it must be a multiple of host_count, which is 3";
    assert_eq!(refused(8, 4, 3), multiple);
    assert_eq!(refused(0, 2, i64::MAX).split(';').next(), Some("global_batch_size is 2"));
    assert_eq!(refused(-4, 4, 2), "size is -4; it must be at least 0");
    for low in [0, -1, i64::MIN] {
        assert_eq!(refused(8, low, 2), format!("global_batch_size is {low}; it must be at least 1"));
        assert_eq!(refused(8, 4, low), format!("host_count is {low}; it must be at least 1"));
    }
    assert!(refused(i64::MAX, 1, 1).starts_with("size is 9223372036854775807; it must be small enough"));
    let refused = shard::multihost_remap(4, 4, 2, &mut [MaybeUninit::uninit(); 3]);
    let because = "one for each element";
    assert_eq!(refused, Err(Error::Size { argument: "remap", size: 3, expected: 4, because }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn batched_slices_are_global_batches(batches in 0..20_usize, host_rows in 1..9_usize, hosts in 1..9_usize) {
        let global_batch_size = host_rows * hosts;
        let size = (batches * global_batch_size) as i64;
        let remap = multihost_remap(size, global_batch_size as i64, hosts as i64).unwrap();
        assert_laws(&remap, global_batch_size, hosts);
    }

    /// Every combination of numbers gives a result or an error, without overflow or an endless loop.
    #[test]
    fn any_numbers_give_a_result_or_an_error(size in -9..99_i64, batch in any::<i64>(), hosts in any::<i64>()) {
        prop_assert!(size == 0 || multihost_remap(size, batch, hosts).is_err());
    }
}
