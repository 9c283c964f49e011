//! Binding of the tokens crate's functions for corpora: windows of tokenized documents, and text sizes.

use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use windrow_tokens::rolling::windows;
use windrow_tokens::split_count;

use crate::arrays::{Pair, admit, elements};

/// The document, first token, end and first scored token of each window.
type Windows<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i32>>,
);

/// Splits token sequences into windows, as `rolling_segments` does with texts. The first token of a sequence
/// takes the role of a text's prefix token.
///
/// Args:
///     lengths: Token counts, `int64[n]`, each at least 0; a sequence without a second token has no window.
///     max_length: The maximum number of scored tokens per window, at least 1; with `None`, each sequence is
///         one window.
///
/// Returns:
///     For each of `m` windows, its sequence, and its first token and its end in that sequence, `int64[m]`
///     each; and the index of its first scored token, `int32[m]`.
///
/// Raises:
///     TypeError: `lengths` is not a one-dimensional `int64` array.
///     ValueError: A length is negative, `lengths` is not contiguous, or `max_length` is 0.
///
/// >>> rolling_windows(np.array([3, 1, 6]), 3)
/// (array([0, 2, 2]), array([0, 0, 2]), array([3, 4, 6]), array([1, 1, 2], dtype=int32))
#[pyfunction]
pub fn rolling_windows<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    max_length: Option<usize>,
) -> PyResult<Windows<'py>> {
    let lengths = admit::<i64>("lengths", lengths)?;
    let lengths = elements(&lengths);
    if let Some(at) = lengths.iter().position(|&length| length < 0) {
        return Err(PyValueError::new_err(format!(
            "lengths[{at}] is {}; it must be at least 0",
            lengths[at]
        )));
    }
    if max_length == Some(0) {
        return Err(PyValueError::new_err("max_length is 0; it must be at least 1"));
    }
    let made: Vec<_> = py.detach(|| {
        let each = lengths.iter().zip(0..);
        each.flat_map(|(&length, sequence)| {
            windows((length as usize).saturating_sub(1), max_length).map(move |window| (sequence, window))
        })
        .collect()
    });
    Ok((
        PyArray1::from_iter(py, made.iter().map(|(sequence, _)| *sequence)),
        PyArray1::from_iter(py, made.iter().map(|(_, (window, _))| window.start as i64)),
        PyArray1::from_iter(py, made.iter().map(|(_, (window, _))| window.end as i64)),
        PyArray1::from_iter(py, made.iter().map(|(_, (_, score_start))| *score_start as i32)),
    ))
}

/// The size of each text in UTF-8 bytes and in words, counted as in lm_eval: the parts of
/// `re.split(r"\s+", text)`.
///
/// Args:
///     texts: A list of `n` strings; a lone surrogate counts as the replacement characters of its bytes.
///
/// Returns:
///     Bytes and words, `int64[n]` each.
///
/// Raises:
///     TypeError: `texts` is not a list of strings.
///
/// >>> text_sizes(["two words", "", " é"])
/// (array([9, 0, 3]), array([2, 1, 2]))
#[pyfunction]
pub fn text_sizes<'py>(py: Python<'py>, texts: Vec<Bound<'py, PyString>>) -> PyResult<Pair<'py, i64, i64>> {
    let texts: Vec<_> = texts.iter().map(|text| text.to_string_lossy()).collect();
    let words: Vec<_> = py.detach(|| texts.iter().map(|text| split_count(text) as i64).collect());
    let bytes = texts.iter().map(|text| text.len() as i64);
    Ok((PyArray1::from_iter(py, bytes), PyArray1::from_vec(py, words)))
}
