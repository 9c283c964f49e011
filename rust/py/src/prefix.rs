//! Binding of the core's `prefix`.

use numpy::PyArray1;
use pyo3::prelude::*;
use windrow_core::prefix::TreeRows;

use crate::arrays::{Pair, admit, elements, filled_pair, filled_pairs};
use crate::errors::raise;
use crate::numbers::{Flag, integer};

/// Segments in lexicographic order, and the number of leading tokens that each shares with the previous one.
///
/// This is the prefix tree of all segments in depth-first order: adjacent segments have
/// the longest common prefixes. Segments with the same tokens are adjacent and share all
/// of them.
///
/// Args:
///     tokens: The tokens of all segments, concatenated, ``int32[t]``.
///     offsets: Where each segment begins and, last, where the last one ends,
///         ``int64[n + 1]``: from 0 to ``t``, not descending.
///
/// Returns:
///     ``order``, ``int64[n]``: the segments in lexicographic order of their tokens, equal ones in the given
///     order, and a prefix before its extensions. ``shared``, ``int32[n]``: the number of leading tokens that
///     ``order[i]`` has in common with ``order[i - 1]``; 0 for the first.
///
/// Raises:
///     TypeError: An argument is not a one-dimensional array of its dtype.
///     ValueError: ``offsets`` is empty, does not begin at 0, descends, does not end at
///         ``t``, or has a segment of more than 2**31 - 1 tokens, or an argument is not
///         contiguous.
///
/// >>> tokens = np.array([7, 8, 9, 5, 7, 8, 6], np.int32)
/// >>> order, shared = prefix_order(tokens, np.array([0, 3, 4, 7]))  # [7, 8, 9], [5] and [7, 8, 6]
/// >>> order
/// array([1, 2, 0])
/// >>> shared
/// array([0, 0, 2], dtype=int32)
#[pyfunction]
pub fn prefix_order<'py>(
    py: Python<'py>,
    tokens: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
) -> PyResult<Pair<'py, i64, i32>> {
    let tokens = admit::<i32>("tokens", tokens)?;
    let tokens = elements(&tokens);
    let offsets = admit::<i64>("offsets", offsets)?;
    let offsets = elements(&offsets);
    // SAFETY: `prefix_order` writes every element of both where it returns `Ok`.
    unsafe {
        filled_pair(py, offsets.len().saturating_sub(1), |order, shared| {
            windrow_core::prefix::prefix_order(tokens, offsets, order, shared)
        })
    }
}

type Vector<'py, T> = Bound<'py, PyArray1<T>>;
/// Row, start, own and parent of each segment.
type Rows<'py> = (Vector<'py, i64>, Vector<'py, i32>, Vector<'py, i32>, Vector<'py, i64>);

/// Packs segments into rows in depth-first order, so that a row holds every shared prefix once.
///
/// Rows are filled in lexicographic order. When a row is full, the next one repeats the
/// prefix that its first segment shares. Trees smaller than a row are packed best-fit,
/// like segments in ``pack_rows``.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each from 0 to ``capacity``.
///     order: The segments in lexicographic order, ``int64[n]``, from ``prefix_order``.
///     shared: How many first tokens each has in common with the previous one in
///         ``order``, ``int32[n]``, from ``prefix_order``.
///     capacity: The maximum number of tokens in a row, from 0 to 2**31 - 1.
///
/// Returns:
///     ``row``, ``int64[n]``: the row of each segment, from 0, which holds all of its tokens. ``start``,
///     ``int32[n]``: where its own tokens begin in the row; token ``t`` is at ``start + t - own``. ``own``,
///     ``int32[n]``: the number of leading tokens that belong to ``parent``, ``int64[n]``, or in turn to its
///     parent; -1 if there is none. Segments with the same tokens have the same place.
///
/// Raises:
///     TypeError: An array is not a one-dimensional one of its dtype, or ``capacity`` is
///         not an integer.
///     ValueError: ``order`` is not a permutation of the segments, an element of
///         ``shared`` is negative or longer than one of the two segments, a length is
///         negative or above ``capacity``, sizes differ, or an array is not contiguous.
///
/// >>> lengths = np.array([5, 2, 4, 3, 2], np.int32)  # a b c e f, h i, a b c d, a b g, h i
/// >>> order, shared = np.array([2, 0, 3, 1, 4]), np.array([0, 3, 2, 0, 2], np.int32)
/// >>> row, start, own, parent = tree_rows(lengths, order, shared, capacity=8)
/// >>> row
/// array([0, 1, 0, 0, 1])
/// >>> start
/// array([4, 0, 0, 6, 0], dtype=int32)
/// >>> own
/// array([3, 0, 0, 2, 0], dtype=int32)
/// >>> parent
/// array([ 2, -1, -1,  2, -1])
#[pyfunction]
pub fn tree_rows<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    order: &Bound<'py, PyAny>,
    shared: &Bound<'py, PyAny>,
    capacity: &Bound<'py, PyAny>,
) -> PyResult<Rows<'py>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let order = admit::<i64>("order", order)?;
    let shared = admit::<i32>("shared", shared)?;
    let (lengths, order, shared) = (elements(&lengths), elements(&order), elements(&shared));
    let capacity = integer("capacity", capacity)?;
    // SAFETY: `tree_rows` writes every element of all four where it returns `Ok`.
    let ([row, parent], [start, own]) = unsafe {
        filled_pairs(py, lengths.len(), |[row, parent], [start, own]| {
            let out = TreeRows { row, start, own, parent };
            windrow_core::prefix::tree_rows(lengths, order, shared, capacity, out).map(drop)
        })?
    };
    Ok((row, start, own, parent))
}

/// Depth, parent and segment of each stem, and the stem of each segment.
type StemArrays<'py> = (Vector<'py, i32>, Vector<'py, i64>, Vector<'py, i64>, Vector<'py, i64>);

/// The shared prefixes, called stems, that are worth computing once, before the segments that begin with them.
///
/// A node of the prefix tree becomes a stem if that saves at least ``least`` tokens: all but one of the
/// branches that begin there save the tokens between the node and the one above it.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each at least 0.
///     order: The segments in lexicographic order, ``int64[n]``, from ``prefix_order``.
///     shared: How many first tokens each has in common with the previous one in
///         ``order``, ``int32[n]``, from ``prefix_order``.
///     limits: The maximum number of leading tokens of each segment that may be in a stem, ``int32[n]``, each
///         from 0 to its length. Equal segments share the smallest of their limits.
///     least: The number of tokens that a stem must save, at least 1.
///     apart: Whether equal segments count as separate branches, so that their common tokens may be a stem;
///         otherwise, they count once.
///
/// Returns:
///     ``depth``, ``int32[s]``: the number of tokens in each stem. ``parent``, ``int64[s]``: the longest stem
///     with which each one begins, which comes before it; -1 if there is none. ``segment``, ``int64[s]``: a
///     segment that begins with it. ``stem``, ``int64[n]``: the longest stem with which each segment begins;
///     -1 if there is none.
///
/// Raises:
///     TypeError: An array is not a one-dimensional one of its dtype, or ``least`` is not
///         an integer.
///     ValueError: ``order`` and ``shared`` cannot belong to these lengths, a length or
///         limit is out of range, ``least`` is below 1, sizes differ, or an array is not
///         contiguous.
///
/// >>> lengths = np.array([5, 2, 4, 3], np.int32)  # a b c e f, h i, a b c d, a b g
/// >>> order, shared = np.array([2, 0, 3, 1]), np.array([0, 3, 2, 0], np.int32)
/// >>> depth, parent, segment, stem = prefix_stems(lengths, order, shared, lengths - 1, least=2)
/// >>> depth, parent, segment
/// (array([2], dtype=int32), array([-1]), array([2]))
/// >>> stem
/// array([ 0, -1,  0,  0])
#[pyfunction]
#[pyo3(
    signature = (lengths, order, shared, limits, least, apart = Flag::of(false)),
    text_signature = "(lengths, order, shared, limits, least, apart=False)"
)]
pub fn prefix_stems<'py>(
    py: Python<'py>,
    lengths: &Bound<'py, PyAny>,
    order: &Bound<'py, PyAny>,
    shared: &Bound<'py, PyAny>,
    limits: &Bound<'py, PyAny>,
    least: &Bound<'py, PyAny>,
    apart: Flag,
) -> PyResult<StemArrays<'py>> {
    let lengths = admit::<i32>("lengths", lengths)?;
    let order = admit::<i64>("order", order)?;
    let shared = admit::<i32>("shared", shared)?;
    let limits = admit::<i32>("limits", limits)?;
    let (lengths, order) = (elements(&lengths), elements(&order));
    let (shared, limits) = (elements(&shared), elements(&limits));
    let (least, apart) = (integer("least", least)?, apart.value("apart")?);
    let stems = py
        .detach(|| windrow_core::prefix::prefix_stems(lengths, order, shared, limits, least, apart))
        .map_err(raise)?;
    Ok((
        PyArray1::from_vec(py, stems.depth),
        PyArray1::from_vec(py, stems.parent),
        PyArray1::from_vec(py, stems.segment),
        PyArray1::from_vec(py, stems.stem),
    ))
}
