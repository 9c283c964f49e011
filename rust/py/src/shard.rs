//! Binding of the core's `shard`.

use numpy::PyArray1;
use pyo3::prelude::*;
use windrow_core::shard::remap_size;

use crate::arrays::filled;
use crate::errors::raise;
use crate::numbers::integer;

/// The order in which the hosts' contiguous slices, when batched, form the global batches.
///
/// Element ``i`` of the remapped data is element ``remap[i]`` of the sorted data.
/// Host ``h`` takes the slice ``h * size // host_count`` up to
/// ``(h + 1) * size // host_count`` and batches it by
/// ``global_batch_size // host_count``; the ``b``-th batches of all hosts together are
/// then ``global_batch_size`` consecutive elements of the sorted data. This is the order
/// of ``MultihostSortedRemapDataset`` in ``xlstm_jax.dataset.lmeval_pipeline``.
///
/// Args:
///     size: The number of elements, at least 0 and a multiple of ``global_batch_size``; fill up the last
///         batch, because a smaller one would have another shape.
///     global_batch_size: The number of rows in a batch, on all hosts together; a multiple of ``host_count``.
///     host_count: The number of hosts, at least 1.
///
/// Returns:
///     ``int64[size]``, a permutation.
///
/// Raises:
///     TypeError: An argument is not an integer.
///     ValueError: An argument is out of range, or not the required multiple.
///     MemoryError: There is not enough memory.
///
/// >>> multihost_remap(8, global_batch_size=4, host_count=2)
/// array([0, 1, 4, 5, 2, 3, 6, 7])
#[pyfunction]
pub fn multihost_remap<'py>(
    py: Python<'py>,
    size: &Bound<'py, PyAny>,
    global_batch_size: &Bound<'py, PyAny>,
    host_count: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let size = integer("size", size)?;
    let global_batch_size = integer("global_batch_size", global_batch_size)?;
    let host_count = integer("host_count", host_count)?;
    let elements = remap_size(size, global_batch_size, host_count).map_err(raise)?;
    // SAFETY: `multihost_remap` writes every element where it returns `Ok`.
    unsafe {
        filled(py, elements, |remap| {
            windrow_core::shard::multihost_remap(size, global_batch_size, host_count, remap)
        })
    }
}
