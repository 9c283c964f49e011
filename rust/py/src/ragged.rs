//! Binding of the core's `ragged`.

use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{admit, elements, filled};

/// The number of tokens in each segment of a ragged array.
///
/// Args:
///     offsets: Where each segment begins and, last, where the last one ends,
///         ``int64[n + 1]``: from 0, not descending.
///
/// Returns:
///     ``int32[n]``.
///
/// Raises:
///     TypeError: ``offsets`` is not a one-dimensional ``int64`` array.
///     ValueError: ``offsets`` is empty, does not begin at 0, descends, has a
///         segment of more than 2**31 - 1 tokens, or is not contiguous.
///
/// >>> token_lengths(np.array([0, 2, 2, 5]))
/// array([2, 0, 3], dtype=int32)
#[pyfunction]
pub fn token_lengths<'py>(
    py: Python<'py>,
    offsets: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let offsets = admit::<i64>("offsets", offsets)?;
    let offsets = elements(&offsets);
    // SAFETY: `token_lengths` writes every element where it returns `Ok`.
    unsafe {
        filled(py, offsets.len().saturating_sub(1), |lengths| {
            windrow_core::ragged::token_lengths(offsets, lengths)
        })
    }
}

/// For each segment, the first segment with the same tokens.
///
/// Segments are found by hash and then compared token by token, so hash collisions do not
/// merge different segments.
///
/// Args:
///     tokens: The tokens of all segments, concatenated, ``int32[t]``.
///     offsets: Where each segment begins and, last, where the last one ends,
///         ``int64[n + 1]``: from 0 to ``t``, not descending.
///
/// Returns:
///     ``int64[n]``: the segment itself if no earlier one has the same tokens. All
///     segments without tokens are equal.
///
/// Raises:
///     TypeError: An argument is not a one-dimensional array of its dtype.
///     ValueError: ``offsets`` is empty, does not begin at 0, descends, or does not
///         end at ``t``, or an argument is not contiguous.
///
/// >>> tokens = np.array([7, 8, 7, 8, 5], np.int32)
/// >>> group_identical(tokens, np.array([0, 2, 4, 5]))  # [7, 8], [7, 8] and [5]
/// array([0, 0, 2])
#[pyfunction]
pub fn group_identical<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let tokens = admit::<i32>("tokens", tokens)?;
    let tokens = elements(&tokens);
    let offsets = admit::<i64>("offsets", offsets)?;
    let offsets = elements(&offsets);
    // SAFETY: `group_identical` writes every element where it returns `Ok`.
    unsafe {
        filled(py, offsets.len().saturating_sub(1), |first| {
            windrow_core::ragged::group_identical(tokens, offsets, first)
        })
    }
}
