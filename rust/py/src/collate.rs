//! Binding of the core's `collate`.

use numpy::PyArray2;
use pyo3::prelude::*;
use windrow_core::collate::padded_size;

use crate::arrays::{admit, elements, filled_matrix};
use crate::errors::raise;
use crate::numbers::integer;

/// Segments as the rows of a matrix, padded to the same length.
///
/// Args:
///     tokens: The tokens of all segments, concatenated, ``int32[t]``.
///     offsets: Where each segment begins in ``tokens``, and where the last ends,
///         ``int64[n + 1]``, ascending from 0 to ``t``. Only segments in ``rows`` are
///         read.
///     rows: The segment for each row, ``int64[r]``; -1 for a row of filler.
///     length: Tokens in a row, from 0 to 2**31 - 1, at least the length of the
///         longest of these segments.
///     fill: The padding token, an ``int32``.
///
/// Returns:
///     ``int32[r, length]``.
///
/// Raises:
///     TypeError: An array is not a one-dimensional one of its dtype, or a number
///         is not an integer.
///     ValueError: A row's segment does not exist or is too long, an offset is
///         outside ``tokens`` or below the previous one, an array is not contiguous, a
///         number is out of range, or ``r * length`` is too large to address.
///     MemoryError: There is not enough memory.
///
/// >>> tokens, offsets = np.array([7, 8, 9, 5, 6], np.int32), np.array([0, 3, 5])
/// >>> pad_rows(tokens, offsets, np.array([1, -1, 0]), length=4, fill=0)
/// array([[5, 6, 0, 0],
///        [0, 0, 0, 0],
///        [7, 8, 9, 0]], dtype=int32)
#[pyfunction]
pub fn pad_rows<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    rows: &Bound<'py, PyAny>,
    length: &Bound<'py, PyAny>,
    fill: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let tokens = admit::<i32>("tokens", tokens)?;
    let offsets = admit::<i64>("offsets", offsets)?;
    let rows = admit::<i64>("rows", rows)?;
    let (tokens, offsets, rows) = (elements(&tokens), elements(&offsets), elements(&rows));
    let length: i32 = integer("length", length)?;
    let fill = integer("fill", fill)?;
    padded_size(rows.len(), length).map_err(raise)?;
    // SAFETY: `pad_rows` writes every element where it returns `Ok`.
    unsafe {
        filled_matrix(py, rows.len(), length as usize, |padded| {
            windrow_core::collate::pad_rows(tokens, offsets, rows, length, fill, padded)
        })
    }
}
