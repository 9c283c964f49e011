//! Binding of the core's `pack`.

use pyo3::prelude::*;

use crate::arrays::{Pair, admit, elements, filled_pair};
use crate::numbers::integer;

/// Segments packed into rows: best fit, longest first.
///
/// Each segment goes into the row where it leaves the least free space, and into a new row only if none has
/// room. Unless limited by ``max_segments``, this takes at most 11/9 of the minimum number of rows plus one
/// (D. S. Johnson, 1973).
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each from 0 to ``capacity``.
///     capacity: The maximum number of tokens in a row, from 0 to 2**31 - 1.
///     max_segments: The maximum number of segments in a row, at least 1. Segments without tokens count too.
///
/// Returns:
///     ``row``, ``int64[n]``: each segment's row, numbered from 0 in the order in which rows are opened;
///     there are ``row.max() + 1`` rows. ``start``, ``int32[n]``: the position in its row at which each
///     segment begins. Segments fill their row without gaps, longest first, segments of equal length in the
///     given order. If several rows have the same free space, the one that reached it first is used.
///
/// Raises:
///     TypeError: ``lengths`` is not a one-dimensional ``int32`` array, or one of
///         the others is not an integer.
///     ValueError: A length is negative or above ``capacity``, ``lengths`` is not
///         contiguous, or one of the others is out of range.
///
/// >>> row, start = pack_rows(np.array([4, 3, 2, 3], np.int32), capacity=6, max_segments=8)
/// >>> row
/// array([0, 1, 0, 1])
/// >>> start
/// array([0, 0, 4, 3], dtype=int32)
#[pyfunction]
pub fn pack_rows<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    capacity: &Bound<'py, PyAny>,
    max_segments: &Bound<'py, PyAny>,
) -> PyResult<Pair<'py, i64, i32>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    let capacity = integer("capacity", capacity)?;
    let max_segments = integer("max_segments", max_segments)?;
    // SAFETY: `pack_rows` writes every element of both where it returns `Ok`.
    unsafe {
        filled_pair(py, lengths.len(), |row, start| {
            windrow_core::pack::pack_rows(lengths, capacity, max_segments, row, start).map(drop)
        })
    }
}
