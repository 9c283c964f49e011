//! Binding of the core's `prefix`.

use numpy::PyArray1;
use pyo3::prelude::*;
use windrow_core::prefix::TreeRows;

use crate::arrays::{Pair, admit, elements, filled_pair, filled_pairs};
use crate::numbers::integer;

/// Segments in lexicographic order, and what each shares with the one before it.
///
/// That is the prefix tree of all segments, depth first: neighbours begin alike as
/// far as any two segments do. Segments with the same tokens stand side by side and
/// share all of them.
///
/// Args:
///     tokens: The tokens of all segments end to end, ``int32[t]``.
///     offsets: Where each segment begins and, last, where the last one ends,
///         ``int64[n + 1]``: from 0, never descending, ``t`` at the end.
///
/// Returns:
///     ``order``, ``int64[n]``: the segments in lexicographic order of their tokens,
///     equal ones in the order given, and one that begins another before it.
///     ``shared``, ``int32[n]``: how many first tokens ``order[i]`` has in common with
///     ``order[i - 1]``; 0 for the first.
///
/// Raises:
///     TypeError: An argument is not a one-dimensional array of its dtype.
///     ValueError: ``offsets`` is empty, does not begin at 0, descends, does not end at
///         ``t``, or leaves a segment with more than 2**31 - 1 tokens, or an argument is
///         not contiguous.
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

/// Segments laid into rows, depth first, so that a row holds every shared beginning once.
///
/// Rows are filled in lexicographic order; one that is full ends, and the next repeats
/// what its first segment shares. Trees smaller than a row are packed best-fit, as
/// ``pack_rows`` packs segments.
///
/// Args:
///     lengths: Token counts, ``int32[n]``, each from 0 to ``capacity``.
///     order: The segments in lexicographic order, ``int64[n]``, as ``prefix_order``
///         gives it.
///     shared: How many first tokens each has in common with the one before it in
///         ``order``, ``int32[n]``, from ``prefix_order`` too.
///     capacity: Tokens that a row holds, from 0 to 2**31 - 1.
///
/// Returns:
///     ``row``, ``int64[n]``: the row of each segment, from 0. All its tokens stand there.
///     ``start``, ``int32[n]``: where in the row its own tokens begin; token ``t`` stands
///     at ``start + t - own``. ``own``, ``int32[n]``: how many first tokens are not its
///     own but those of ``parent``, ``int64[n]``, which in turn has some from its parent;
///     -1 where there is none. Segments with the same tokens have the same place.
///
/// Raises:
///     TypeError: An array is not a one-dimensional one of its dtype, or ``capacity`` is
///         not an integer.
///     ValueError: ``order`` is not a permutation of the segments, an element of
///         ``shared`` is negative or more than either neighbour has, a length is negative
///         or above ``capacity``, sizes disagree, or an array is not contiguous.
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
