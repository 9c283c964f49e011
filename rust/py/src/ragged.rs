//! Binding of the core's `ragged`.

use numpy::PyArray1;
use pyo3::prelude::*;
use windrow_core::ragged;

use crate::arrays::{admit, admit_writeable, elements, elements_mut, filled};
use crate::errors::raise;

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
    unsafe { filled(py, offsets.len().saturating_sub(1), |lengths| ragged::token_lengths(offsets, lengths)) }
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
        filled(py, offsets.len().saturating_sub(1), |first| ragged::group_identical(tokens, offsets, first))
    }
}

/// Copies the scores of some segments to their places among those of all segments.
///
/// It takes microseconds a batch, so unlike the other functions it keeps the GIL: another thread that runs
/// Python code would give it back only after the switch interval, which is milliseconds.
///
/// Args:
///     segments: The segments, ``int64[m]``.
///     offsets: Where the scores of each of all segments begin and, last, where those of the last one end,
///         ``int64[n + 1]``.
///     logprobs: The log-probabilities of ``segments``, one segment after another, ``float32[k]``; further
///         elements are ignored.
///     greedy: Their greedy flags, ``bool[k]``.
///     all_logprobs: Those of all segments, ``float32[offsets[n]]``, which is written to.
///     all_greedy: Those of all segments, ``bool[offsets[n]]``, which is written to.
///
/// Raises:
///     TypeError: An argument is not a one-dimensional array of its dtype.
///     ValueError: There is no such segment, ``offsets`` descends or exceeds the arrays, there are too few
///         scores, or an argument is not contiguous or, if it is written to, read-only. Some scores may have
///         been written.
///
/// >>> logprobs, greedy = np.zeros(6, np.float32), np.zeros(6, np.bool_)
/// >>> scores = np.array([1, 2, 3, 4, 5], np.float32), np.ones(5, np.bool_)
/// >>> spread_scores(np.array([2, 0]), np.array([0, 2, 3, 6]), *scores, logprobs, greedy)
/// >>> logprobs
/// array([4., 5., 0., 1., 2., 3.], dtype=float32)
#[pyfunction]
pub fn spread_scores(
    segments: &Bound<'_, PyAny>,
    offsets: &Bound<'_, PyAny>,
    logprobs: &Bound<'_, PyAny>,
    greedy: &Bound<'_, PyAny>,
    all_logprobs: &Bound<'_, PyAny>,
    all_greedy: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (segments, offsets) = (admit::<i64>("segments", segments)?, admit::<i64>("offsets", offsets)?);
    let (segments, offsets) = (elements(&segments), elements(&offsets));
    let (logprobs, greedy) = (admit::<f32>("logprobs", logprobs)?, admit::<bool>("greedy", greedy)?);
    let mut all_logprobs = admit_writeable::<f32>("all_logprobs", all_logprobs)?;
    let mut all_greedy = admit_writeable::<bool>("all_greedy", all_greedy)?;
    ragged::spread(segments, offsets, elements(&logprobs), elements_mut(&mut all_logprobs)).map_err(raise)?;
    ragged::spread(segments, offsets, elements(&greedy), elements_mut(&mut all_greedy)).map_err(raise)
}
