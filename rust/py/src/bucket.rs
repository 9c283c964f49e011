//! Binding of the core's `bucket`.

use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{admit, elements, filled};
use crate::errors::raise;
use crate::numbers::integer;

/// Rounds lengths up to a multiple; 0 stays 0.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each at least 0.
///     multiple: Results are multiples of this, at least 1; for example, the width of the device's vector
///         units.
///
/// Returns:
///     ``int32[n]``: for each length, the smallest multiple that is at least as large.
///
/// Raises:
///     TypeError: ``lengths`` is not a one-dimensional ``int32`` array, or
///         ``multiple`` is not an integer.
///     ValueError: A length is negative, its multiple is above 2**31 - 1, ``lengths``
///         is not contiguous, or ``multiple`` is out of range.
///
/// >>> round_up(np.array([3, 9, 0, 8], np.int32), multiple=8)
/// array([ 8, 16,  0,  8], dtype=int32)
#[pyfunction]
pub fn round_up<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    multiple: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    let multiple = integer("multiple", multiple)?;
    // SAFETY: `round_up` writes every element where it returns `Ok`.
    unsafe { filled(py, lengths.len(), |rounded| windrow_core::bucket::round_up(lengths, multiple, rounded)) }
}

fn a_multiple(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    integer("multiple", value)
}

/// The padded lengths that minimize the total number of padded tokens.
///
/// Each segment is padded to the smallest chosen length that holds it. The choice is
/// optimal: dynamic programming over how often each length occurs minimizes the total,
/// in time proportional to the segments plus the distinct lengths times ``max_shapes``.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each at least 0.
///     max_shapes: The maximum number of lengths to choose, at least 1.
///     multiple: Only multiples of this are chosen, at least 1.
///
/// Returns:
///     ``int32[k]``, ascending, ``k <= max_shapes``; the last holds the longest
///     segment. Among choices with equal totals, one with the fewest lengths. Empty
///     if there are no segments.
///
/// Raises:
///     TypeError: ``lengths`` is not a one-dimensional ``int32`` array, or one of
///         the others is not an integer.
///     ValueError: A length is negative, its multiple is above 2**31 - 1, ``lengths``
///         is not contiguous, or one of the others is out of range.
///
/// >>> lengths = np.array([3, 9, 4, 5], np.int32)
/// >>> choose_lengths(lengths, max_shapes=2)  # 5 + 9 + 5 + 5 padded tokens
/// array([5, 9], dtype=int32)
/// >>> choose_lengths(lengths, max_shapes=2, multiple=4)
/// array([ 4, 12], dtype=int32)
#[pyfunction]
#[pyo3(signature = (lengths, max_shapes, multiple = 1))]
pub fn choose_lengths<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    max_shapes: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = a_multiple)] multiple: i32,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    let max_shapes = integer("max_shapes", max_shapes)?;
    let chosen = py.detach(|| windrow_core::bucket::choose_lengths(lengths, max_shapes, multiple));
    Ok(PyArray1::from_vec(py, chosen.map_err(raise)?))
}

/// For each length, the smallest bucket that holds it.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each at least 0.
///     bucket_lengths: Padded lengths, ``int32[k]``, at least 0 and strictly
///         ascending, as ``choose_lengths`` returns them.
///
/// Returns:
///     ``int32[n]``: indices into ``bucket_lengths``.
///
/// Raises:
///     TypeError: An argument is not a one-dimensional ``int32`` array.
///     ValueError: A length is negative or above the last bucket length, the bucket
///         lengths are not ascending, or an argument is not contiguous.
///
/// >>> bucket_ids(np.array([3, 9, 4, 5], np.int32), np.array([4, 12], np.int32))
/// array([0, 1, 0, 1], dtype=int32)
#[pyfunction]
pub fn bucket_ids<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    bucket_lengths: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let lengths = elements(&lengths);
    let bucket_lengths = admit::<i32>("bucket_lengths", bucket_lengths)?;
    let bucket_lengths = elements(&bucket_lengths);
    // SAFETY: `bucket_ids` writes every element where it returns `Ok`.
    unsafe { filled(py, lengths.len(), |ids| windrow_core::bucket::bucket_ids(lengths, bucket_lengths, ids)) }
}
