//! Binding of the core's `order`.

use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{admit, elements, filled};

/// Segments sorted by length, stable: equal lengths keep the order they came in.
///
/// Args:
///     lengths: Token counts, `int32[n]`, each at least 0.
///     descending: Longest first (the default), so that the largest shape is met
///         first; shortest first if false.
///
/// Returns:
///     `int64[n]`: the segment that comes first, second, and so on.
///
/// Raises:
///     TypeError: `lengths` is not a one-dimensional `int32` array.
///     ValueError: A length is negative, or `lengths` is not contiguous.
///
/// >>> length_order(np.array([3, 1, 2, 3], np.int32))
/// array([0, 3, 2, 1])
#[pyfunction]
#[pyo3(signature = (lengths, descending = true))]
pub fn length_order<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    descending: bool,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    // SAFETY: `length_order` writes every element where it returns `Ok`.
    unsafe {
        filled(py, lengths.len(), |order| windrow_core::order::length_order(lengths, descending, order))
    }
}
