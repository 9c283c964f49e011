//! Binding of the core's `order`.

use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{admit, elements, filled};
use crate::numbers::Flag;

/// Segments sorted by length; the sort is stable.
///
/// Args:
///     lengths: Token counts, `int32[n]`, each at least 0.
///     descending: Longest first (the default), so that the largest shape comes
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
#[pyo3(signature = (lengths, descending = Flag::of(true)), text_signature = "(lengths, descending=True)")]
pub fn length_order<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    descending: Flag,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    let descending = descending.value("descending")?;
    // SAFETY: `length_order` writes every element where it returns `Ok`.
    unsafe {
        filled(py, lengths.len(), |order| windrow_core::order::length_order(lengths, descending, order))
    }
}

/// The inverse of an order: each segment's position in it.
///
/// Args:
///     order: Each segment from 0 to n - 1 once, ``int64[n]``.
///
/// Returns:
///     ``int64[n]``, with ``inverse[order] == np.arange(n)``. ``results[inverse]``
///     brings results in that order back into segment order.
///
/// Raises:
///     TypeError: ``order`` is not a one-dimensional ``int64`` array.
///     ValueError: ``order`` is not a permutation, or not contiguous.
///
/// >>> invert_order(np.array([2, 0, 1]))
/// array([1, 2, 0])
#[pyfunction]
pub fn invert_order<'py>(py: Python<'py>, order: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let order = admit::<i64>("order", order)?;
    let order = elements(&order);
    // SAFETY: `invert_order` writes every element where it returns `Ok`.
    unsafe { filled(py, order.len(), |inverse| windrow_core::order::invert_order(order, inverse)) }
}
