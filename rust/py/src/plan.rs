//! Binding of the core's `plan`, and of `collate` for its batches.

use std::mem::MaybeUninit;
use std::ops::Range;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};
use windrow_core::collate::{self, Groups, ReadArrays, Sequences};
use windrow_core::plan::{Batch, Choice, Policy, Prefixes, SHAPE_PRICE};

use crate::arrays::{admit, elements, filled, filled_matrices, filled_matrix, lent};
use crate::errors::raise;
use crate::numbers::Whole;
use crate::policy;

/// Which segment lies in which row of which batch, in which shape, and back.
///
/// A plan is made once from the segments' lengths and never changes. It is the
/// same on every machine, and can be pickled. Segments with equal inputs hold one
/// row, rows are sorted longest first, and batches take them in that order, so
/// that filler stands only in the last batch.
///
/// With ``prefixes``, a row holds *trees*: several segments whose shared beginnings
/// stand once, as ``tree_rows`` lays them, for models that are told by ``reach`` which
/// token sees which. A segment's tokens from ``own`` on stand at ``starts``; those
/// before are tokens of its parent.
///
/// Args:
///     lengths: Tokens that the model sees of each segment, ``int32[n]``, each at
///         least 0.
///     identities: For each segment the first one with the same input,
///         ``int64[n]``, as ``group_identical`` gives it. Without it no row is
///         shared.
///     prefixes: The prefix tree of the inputs, ``(order, shared)`` as ``prefix_order``
///         gives it. It tells which inputs are equal, too, so it takes the place of
///         ``identities``, and rows are packed as it is.
///     row_prices: With ``prefixes``: what a row of each of ``padded_lengths`` costs, in any
///         unit, integers from 1 to 2**56 (or ``int64[k]``). By default a row costs its
///         tokens.
///     batch_size: Rows of every batch, filler included. Give either this or
///         ``tokens_per_batch``.
///     tokens_per_batch: The most tokens in a batch, padding included. At the
///         longest padded length a batch has as many rows as that allows; at
///         shorter ones twice as many each time the length allows it, but not
///         more than there are rows for.
///     row_multiple: Rows of every batch are a multiple of this: how many shards
///         a batch's rows are split into.
///     max_shapes: The most padded lengths, chosen so that they cost the least:
///         rows times length of whole batches, filler included, and
///         ``shape_price`` for each shape after the first. ``None`` means all
///         multiples of ``padding_multiple`` that a row rounds up to.
///     padding_multiple: Padded lengths are multiples of this.
///     padded_lengths: The padded lengths to use, ascending: a list or
///         ``int32[k]``. With it ``max_shapes`` and ``shape_price`` play no part, except
///         with ``prefixes``: then at most ``max_shapes`` of these lengths are used, those
///         that make the price of all batches and shapes least (of one or two lengths
///         exactly so). Without it, rows of trees are as long as the longest segment,
///         rounded up to a multiple of ``padding_multiple``.
///     shape_price: What one more shape is charged, in tokens, or in the unit of
///         ``row_prices``: the time that its compilation takes.
///     pack: Whether several segments may stand in one row, end to end, for
///         models that honour segment ids. Rows are packed up to the longest
///         padded length.
///     max_segments: The most segments in a packed row; ``None`` for any number.
///     longest_first: Whether the longest batch runs first, so that what does not
///         fit into memory fails at once.
///
/// Raises:
///     TypeError: An array is not one-dimensional or of another dtype, or a number
///         is not an integer.
///     ValueError: A number or an element is out of range (the message names it and
///         what to pass), not exactly one of ``batch_size`` and
///         ``tokens_per_batch`` is given, or ``prefixes`` with ``identities`` or ``pack``.
///
/// >>> lengths = np.array([5, 1, 3, 5, 2], np.int32)
/// >>> identities = np.array([0, 1, 2, 0, 4])
/// >>> plan = Plan(lengths, identities, batch_size=2, shape_price=0)
/// >>> plan.shapes
/// array([[2, 5],
///        [2, 2]], dtype=int32)
/// >>> plan.batches
/// array([0, 1, 0, 0, 1], dtype=int32)
/// >>> plan.rows
/// array([0, 1, 1, 0, 0], dtype=int32)
/// >>> plan.batch_segments(0)
/// array([0, 3, 2])
/// >>> plan.statistics["device_tokens"]
/// 14
///
/// Rows of trees: a b c d, a b c e f, a b g and h i.
///
/// >>> tokens = np.array([1, 2, 3, 4, 1, 2, 3, 5, 6, 1, 2, 7, 8, 9], np.int32)
/// >>> offsets = np.array([0, 4, 9, 12, 14])
/// >>> plan = Plan(token_lengths(offsets), prefixes=prefix_order(tokens, offsets),
/// ...             padded_lengths=[8], batch_size=2)
/// >>> plan.rows
/// array([0, 0, 0, 1], dtype=int32)
/// >>> plan.starts
/// array([0, 4, 6, 0], dtype=int32)
/// >>> plan.own
/// array([0, 3, 2, 0], dtype=int32)
/// >>> plan.parents
/// array([-1,  0,  0, -1], dtype=int32)
/// >>> plan.reach(0)
/// array([[7, 7, 6, 4, 6, 6, 7, 8],
///        [2, 2, 3, 4, 5, 6, 7, 8]], dtype=int32)
#[pyclass(frozen, module = "windrow.planning")]
pub struct Plan {
    core: windrow_core::plan::Plan,
    shapes: PyOnceLock<Py<PyArray2<i32>>>,
    batch_shapes: PyOnceLock<Py<PyArray2<i32>>>,
}

type Vector<'py, T> = Bound<'py, PyArray1<T>>;
type Matrix<'py, T> = Bound<'py, PyArray2<T>>;

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(
        signature = (
            lengths, identities = None, *, prefixes = None, row_prices = None, batch_size = None,
            tokens_per_batch = None, row_multiple = Whole(1), max_shapes = Some(Whole(8)), padding_multiple = Whole(1),
            padded_lengths = None, shape_price = Whole(SHAPE_PRICE), pack = false, max_segments = None,
            longest_first = true
        ),
        text_signature = "(lengths, identities=None, *, prefixes=None, row_prices=None, batch_size=None, \
            tokens_per_batch=None, row_multiple=1, max_shapes=8, padding_multiple=1, padded_lengths=None, shape_price=8192, \
            pack=False, max_segments=None, longest_first=True)"
    )]
    #[expect(clippy::too_many_arguments, reason = "each is one of Python's keywords")]
    fn new(
        py: Python<'_>,
        lengths: &Bound<'_, PyAny>,
        identities: Option<&Bound<'_, PyAny>>,
        prefixes: Option<&Bound<'_, PyAny>>,
        row_prices: Option<&Bound<'_, PyAny>>,
        batch_size: Option<Whole>,
        tokens_per_batch: Option<Whole>,
        row_multiple: Whole,
        max_shapes: Option<Whole>,
        padding_multiple: Whole,
        padded_lengths: Option<&Bound<'_, PyAny>>,
        shape_price: Whole,
        pack: bool,
        max_segments: Option<Whole>,
        longest_first: bool,
    ) -> PyResult<Self> {
        let policy = Policy {
            rows: policy::batch_rows(batch_size, tokens_per_batch)?,
            row_multiple: row_multiple.0,
            padded_lengths: policy::padded_lengths(
                padded_lengths,
                max_shapes,
                padding_multiple,
                shape_price,
            )?,
            packing: policy::packing(pack, max_segments)?,
            longest_first,
        };
        let lengths = admit::<i32>("lengths", lengths)?;
        let lengths = elements(&lengths);
        if let Some(prefixes) = prefixes {
            if identities.is_some() || pack {
                let message =
                    "prefixes tell which inputs are equal and pack rows; give neither identities nor pack";
                return Err(PyValueError::new_err(message));
            }
            let choice = policy::choice(row_prices, max_shapes, shape_price)?;
            return Self::of_trees(py, lengths, prefixes, &choice, policy);
        }
        if row_prices.is_some() {
            return Err(PyValueError::new_err("row_prices are for rows of trees; give prefixes too"));
        }
        let identities = identities.map(|given| admit::<i64>("identities", given)).transpose()?;
        let identities = identities.as_ref().map(elements);
        let plan = py.detach(|| windrow_core::plan::Plan::new(lengths, identities, policy));
        Ok(plan.map_err(raise)?.into())
    }

    /// How many batches there are.
    fn __len__(&self) -> usize {
        self.core.batch_count()
    }

    fn __str__(&self) -> String {
        self.core.to_string()
    }

    /// The text of `print`, for notebooks.
    fn _repr_html_(&self) -> String {
        format!("<pre>{}</pre>", self.core)
    }

    fn __repr__(&self) -> String {
        let statistics = self.core.statistics();
        format!(
            "<Plan {}: {} segments, {} batches, {} shapes>",
            self.fingerprint(),
            statistics.segments,
            statistics.batches,
            self.core.shapes().len()
        )
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.core == other.core
    }

    fn __hash__(&self) -> u64 {
        self.core.fingerprint()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let py = slf.py();
        let plan = &slf.get().core;
        let bytes = py.detach(|| plan.to_bytes());
        Ok((slf.get_type().getattr("_from_bytes")?, (PyBytes::new(py, &bytes),)))
    }

    /// The plan that was pickled as these bytes.
    #[classmethod]
    fn _from_bytes(_class: &Bound<'_, PyType>, stored: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = stored.as_bytes();
        let plan = stored.py().detach(|| windrow_core::plan::Plan::from_bytes(bytes));
        Ok(plan.map_err(raise)?.into())
    }

    /// How many segments there are.
    #[getter]
    fn segment_count(&self) -> usize {
        self.core.statistics().segments
    }

    /// Whether rows may hold several segments.
    #[getter]
    fn packed(&self) -> bool {
        self.core.is_packed()
    }

    /// Whether rows hold trees, in which segments share beginnings.
    #[getter]
    fn trees(&self) -> bool {
        self.core.has_trees()
    }

    /// The distinct shapes, ``int32[s, 2]`` of rows and length, in the order they
    /// first run; not to be written to.
    #[getter]
    fn shapes<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, i32>> {
        kept(py, &self.shapes, self.core.shapes().len(), |out| self.core.write_shapes(out))
    }

    /// The shape of each batch, ``int32[b, 2]`` of rows and length, not to be written to.
    #[getter]
    fn batch_shapes<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, i32>> {
        kept(py, &self.batch_shapes, self.core.batch_count(), |out| self.core.write_batch_shapes(out))
    }

    /// The batch of each segment, ``int32[n]``, not to be written to.
    #[getter]
    fn batches<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.batches()) }
    }

    /// The row of each segment within its batch, ``int32[n]``, not to be written to.
    #[getter]
    fn rows<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.rows()) }
    }

    /// Where in its row each segment begins, ``int32[n]``, not to be written to; in a
    /// row of trees, where the tokens begin that are its own.
    #[getter]
    fn starts<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.starts()) }
    }

    /// How many of each segment's first tokens are not its own but its parent's,
    /// ``int32[n]``, not to be written to; 0 without trees.
    #[getter]
    fn own<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        Self::of_tree(slf, slf.get().core.all_own(), 0)
    }

    /// The segment whose tokens, or whose parent's, stand for those that are not a
    /// segment's own, ``int32[n]``, not to be written to; -1 for none, as without trees.
    #[getter]
    fn parents<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        Self::of_tree(slf, slf.get().core.all_parents(), -1)
    }

    /// The lengths that the plan was made from, ``int32[n]``, not to be written to.
    #[getter]
    fn lengths<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.lengths()) }
    }

    /// 16 hexadecimal digits, the same on every platform for the same segments under
    /// the same policy. Two plans are equal if their fingerprints are.
    #[getter]
    fn fingerprint(&self) -> String {
        format!("{:016x}", self.core.fingerprint())
    }

    /// What the plan amounts to, as a new dictionary.
    ///
    /// ``segments``, ``shared_segments`` (those that hold no row of their own), ``rows`` (those that hold a segment), ``filler_rows``,
    /// ``batches``; ``real_tokens`` of all segments, ``row_tokens`` of those that
    /// hold a row, ``shared_tokens`` of those that need none of their own,
    /// ``device_tokens`` that the device computes, ``padding_tokens`` of these that
    /// nobody needs, filler included; ``shapes``, a list of ``[rows, length]``.
    ///
    /// With trees also ``distinct_tokens`` of segments with different inputs,
    /// ``tree_tokens`` if every shared beginning stood once, and ``repeated_tokens`` of
    /// those that stand again in another row: ``row_tokens`` are both together.
    #[getter]
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = self.core.statistics();
        let dict = PyDict::new(py);
        dict.set_item("segments", statistics.segments)?;
        dict.set_item("shared_segments", statistics.shared_segments)?;
        dict.set_item("rows", statistics.rows)?;
        dict.set_item("filler_rows", statistics.filler_rows)?;
        dict.set_item("batches", statistics.batches)?;
        dict.set_item("real_tokens", statistics.real_tokens)?;
        dict.set_item("row_tokens", statistics.row_tokens)?;
        dict.set_item("shared_tokens", statistics.shared_tokens())?;
        dict.set_item("padding_tokens", statistics.padding_tokens())?;
        dict.set_item("device_tokens", statistics.device_tokens)?;
        if let Some(tree) = statistics.tree {
            dict.set_item("distinct_tokens", tree.distinct)?;
            dict.set_item("tree_tokens", tree.least)?;
            dict.set_item("repeated_tokens", statistics.repeated_tokens())?;
        }
        let shapes: Vec<_> = self.core.shapes().map(|shape| [shape.rows, shape.length]).collect();
        dict.set_item("shapes", shapes)?;
        Ok(dict)
    }

    /// The policy, the statistics and the fingerprint, ready for JSON.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("policy", policy::policy_dict(py, self.core.policy(), self.core.choice())?)?;
        dict.set_item("statistics", self.statistics(py)?)?;
        dict.set_item("fingerprint", self.fingerprint())?;
        Ok(dict)
    }

    /// The segments in a batch, sharing ones included, by row, start and number.
    ///
    /// Args:
    ///     batch: The batch, counted from 0 in the order batches run.
    ///     row_start: The first row to look at.
    ///     row_stop: The row to stop before; ``None`` for the batch's last.
    ///
    /// Returns:
    ///     ``int64[m]``.
    #[pyo3(signature = (batch, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn batch_segments<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Vector<'py, i64>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: `write_segments` writes every element.
        unsafe {
            filled(py, batch.segments(rows.clone()).len(), |out| {
                batch.write_segments(rows, out);
                Ok(())
            })
        }
    }

    /// The first segment in each row of a batch, ``int64[rows]``; -1 for filler.
    ///
    /// Unless rows are packed, this is the one that all others in the row share it
    /// with, and ``pad_rows`` takes it. A packed row's first is the one that begins
    /// at 0.
    fn batch_rows<'py>(&self, py: Python<'py>, batch: Whole) -> PyResult<Vector<'py, i64>> {
        let batch = self.core.batch(batch.0).map_err(raise)?;
        // SAFETY: `write_rows` writes every element.
        unsafe {
            filled(py, batch.rows, |out| {
                batch.write_rows(out);
                Ok(())
            })
        }
    }

    /// What the model sees: each segment's tokens but the last.
    ///
    /// Args:
    ///     batch: The batch, counted from 0 in the order batches run.
    ///     tokens: The tokens of all segments, end to end, ``int32[t]``. Each
    ///         segment has one more than its length in the plan: the last is only
    ///         predicted.
    ///     offsets: Where each segment begins in ``tokens``, and where the last ends,
    ///         ``int64[n + 1]``.
    ///     row_start: The first row to write.
    ///     row_stop: The row to stop before; ``None`` for the batch's last.
    ///     fill: What stands in padding and filler.
    ///
    /// Returns:
    ///     ``int32[row_stop - row_start, length]``.
    ///
    /// Raises:
    ///     IndexError: There is no such batch.
    ///     ValueError: ``offsets`` and the plan's lengths disagree, or the rows are
    ///         not the batch's.
    #[pyo3(signature = (batch, tokens, offsets, row_start = Whole(0), row_stop = None, fill = Whole(0)),
           text_signature = "($self, batch, tokens, offsets, row_start=0, row_stop=None, fill=0)")]
    #[expect(clippy::too_many_arguments, reason = "each is one of Python's keywords")]
    fn inputs<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        tokens: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
        row_start: Whole,
        row_stop: Option<Whole>,
        fill: Whole,
    ) -> PyResult<Matrix<'py, i32>> {
        let (tokens, offsets) = (admit::<i32>("tokens", tokens)?, admit::<i64>("offsets", offsets)?);
        let sequences = Sequences::new(&self.core, elements(&tokens), elements(&offsets)).map_err(raise)?;
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        let fill = fill.within("fill")?;
        // SAFETY: `inputs` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, rows.len(), batch.length, |out| {
                collate::inputs(batch, rows, sequences, fill, out)
            })
        }
    }

    /// The token after each input, which the model should have predicted there.
    ///
    /// Where segments share a row this is the first one's; only the last token can
    /// differ. Arguments and errors are those of ``inputs``.
    #[pyo3(signature = (batch, tokens, offsets, row_start = Whole(0), row_stop = None, fill = Whole(0)),
           text_signature = "($self, batch, tokens, offsets, row_start=0, row_stop=None, fill=0)")]
    #[expect(clippy::too_many_arguments, reason = "each is one of Python's keywords")]
    fn targets<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        tokens: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
        row_start: Whole,
        row_stop: Option<Whole>,
        fill: Whole,
    ) -> PyResult<Matrix<'py, i32>> {
        let (tokens, offsets) = (admit::<i32>("tokens", tokens)?, admit::<i64>("offsets", offsets)?);
        let sequences = Sequences::new(&self.core, elements(&tokens), elements(&offsets)).map_err(raise)?;
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        let fill = fill.within("fill")?;
        // SAFETY: `targets` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, rows.len(), batch.length, |out| {
                collate::targets(batch, rows, sequences, fill, out)
            })
        }
    }

    /// Which of its row's segments, or trees, each position belongs to, counted from 1; 0
    /// in padding and filler. ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn segment_ids<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: `segment_ids` writes every element where it returns `Ok`.
        unsafe { filled_matrix(py, rows.len(), batch.length, |out| collate::segment_ids(batch, rows, out)) }
    }

    /// Where in its segment each position is, in a tree its depth; 0 in padding and filler.
    /// ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn positions<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: `positions` writes every element where it returns `Ok`.
        unsafe { filled_matrix(py, rows.len(), batch.length, |out| collate::positions(batch, rows, out)) }
    }

    /// Up to where each position is seen: token ``i`` of a row sees token ``j`` where
    /// ``j <= i < reach[j]``.
    ///
    /// In a row of trees that ends behind the last of a token's branches; without trees,
    /// with its segment. In padding and filler it is ``j + 1``.
    /// ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn reach<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: `reach` writes every element where it returns `Ok`.
        unsafe { filled_matrix(py, rows.len(), batch.length, |out| collate::reach(batch, rows, out)) }
    }

    /// How many positions of each row are filled, ``int32[row_stop - row_start]``.
    ///
    /// Unless rows are packed, segment ids and positions follow from this: position
    /// ``p`` of a row of length ``l`` has the id 1 and itself as position if
    /// ``p < l``, else 0 and 0.
    #[pyo3(signature = (batch, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn row_lengths<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Vector<'py, i32>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: `row_lengths` writes every element where it returns `Ok`.
        unsafe { filled(py, rows.len(), |out| collate::row_lengths(batch, rows, out)) }
    }

    /// Where the scores of a batch are read.
    ///
    /// The rows are split into equal groups, one for each device; ``g`` of them
    /// lie between ``row_start`` and ``row_stop``. A *pick* is a position within a
    /// group whose logits are needed, a *read* one scored token.
    ///
    /// Args:
    ///     batch: The batch, counted from 0 in the order batches run.
    ///     tokens: As for ``inputs``.
    ///     offsets: As for ``inputs``.
    ///     score_starts: The index within each segment of its first scored token,
    ///         ``int32[n]``, from 1 to the segment's length in the plan. All from
    ///         there on are scored, the last included.
    ///     groups: Into how many groups the batch's rows are split.
    ///     pick_capacity: How many picks a group has room for; see
    ///         ``read_capacities``.
    ///     read_capacity: How many reads a group has room for.
    ///     row_start: The first row to look at, where a group begins.
    ///     row_stop: The row to stop before, where a group ends; ``None`` for the
    ///         batch's last.
    ///
    /// Returns:
    ///     ``pick_index``, ``int32[g, pick_capacity]``: row times length plus
    ///     position, counted from the group's first row. ``read_pick``,
    ///     ``int32[g, read_capacity]``: the pick whose logits score a token.
    ///     ``read_target``, ``int32[g, read_capacity]``: that token. Reads are in
    ///     the order of ``batch_segments``, each segment's in the order of its
    ///     tokens. What is beyond a group's picks and reads is 0.
    ///
    /// Raises:
    ///     IndexError: There is no such batch.
    ///     ValueError: A capacity is too small, ``score_starts`` has an element out
    ///         of its range, ``offsets`` and the plan's lengths disagree, or the rows
    ///         are not whole groups.
    #[pyo3(signature = (batch, tokens, offsets, score_starts, groups, pick_capacity, read_capacity,
                        row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, tokens, offsets, score_starts, groups, pick_capacity, \
                             read_capacity, row_start=0, row_stop=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is one of Python's keywords")]
    fn reads<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        tokens: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
        score_starts: &Bound<'py, PyAny>,
        groups: Whole,
        pick_capacity: Whole,
        read_capacity: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<(Matrix<'py, i32>, Matrix<'py, i32>, Matrix<'py, i32>)> {
        let (tokens, offsets) = (admit::<i32>("tokens", tokens)?, admit::<i64>("offsets", offsets)?);
        let sequences = Sequences::new(&self.core, elements(&tokens), elements(&offsets)).map_err(raise)?;
        let score_starts = admit::<i32>("score_starts", score_starts)?;
        let score_starts = elements(&score_starts);
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        let groups = Groups::new(batch, rows, groups.0).map_err(raise)?;
        let picks = pick_capacity.within::<u32>("pick_capacity")? as usize;
        let reads = read_capacity.within::<u32>("read_capacity")? as usize;
        // SAFETY: `reads` writes every element where it returns `Ok`.
        let arrays = unsafe {
            filled_matrices(
                py,
                groups.count(),
                [picks, reads, reads],
                |[pick_index, read_pick, read_target]| {
                    let out = ReadArrays { pick_index, read_pick, read_target };
                    collate::reads(batch, &groups, sequences, score_starts, out)
                },
            )?
        };
        Ok(arrays.into())
    }

    /// Where each segment's reads begin and end among those of all groups.
    ///
    /// With ``values`` what was read, ``[g, read_capacity]``, segment ``i`` of
    /// ``batch_segments`` has ``values.ravel()[begin:end]`` for the ``i``-th pair.
    ///
    /// Args:
    ///     batch: The batch, counted from 0 in the order batches run.
    ///     score_starts: As for ``reads``.
    ///     groups: As for ``reads``.
    ///     read_capacity: As for ``reads``.
    ///     row_start: As for ``reads``.
    ///     row_stop: As for ``reads``.
    ///
    /// Returns:
    ///     ``int64[m, 2]``, a pair for each of the segments in these rows.
    #[pyo3(signature = (batch, score_starts, groups, read_capacity, row_start = Whole(0), row_stop = None),
           text_signature = "($self, batch, score_starts, groups, read_capacity, row_start=0, row_stop=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is one of Python's keywords")]
    fn read_spans<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        score_starts: &Bound<'py, PyAny>,
        groups: Whole,
        read_capacity: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i64>> {
        let score_starts = admit::<i32>("score_starts", score_starts)?;
        let score_starts = elements(&score_starts);
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        let segments = batch.segments(rows.clone()).len();
        let groups = Groups::new(batch, rows, groups.0).map_err(raise)?;
        let capacity = read_capacity.within::<u32>("read_capacity")? as usize;
        // SAFETY: `read_spans` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, segments, 2, |out| {
                collate::read_spans(batch, &groups, score_starts, capacity, out)
            })
        }
    }

    /// For each shape, the most picks and the most reads of any group of any of its
    /// batches, so that one compiled program serves them all.
    ///
    /// Args:
    ///     offsets: As for ``inputs``. All are checked.
    ///     score_starts: As for ``reads``. All are checked.
    ///     groups: As for ``reads``.
    ///     multiple: Each number is rounded up to a multiple of this.
    ///
    /// Returns:
    ///     ``int32[s, 2]``: ``pick_capacity`` and ``read_capacity`` of each of ``shapes``.
    ///
    /// Raises:
    ///     ValueError: As for ``reads``.
    #[pyo3(signature = (offsets, score_starts, groups = Whole(1), multiple = Whole(1)),
           text_signature = "($self, offsets, score_starts, groups=1, multiple=1)")]
    fn read_capacities<'py>(
        &self,
        py: Python<'py>,
        offsets: &Bound<'py, PyAny>,
        score_starts: &Bound<'py, PyAny>,
        groups: Whole,
        multiple: Whole,
    ) -> PyResult<Matrix<'py, i32>> {
        let (offsets, score_starts) =
            (admit::<i64>("offsets", offsets)?, admit::<i32>("score_starts", score_starts)?);
        let (offsets, score_starts) = (elements(&offsets), elements(&score_starts));
        // SAFETY: `read_capacities` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, self.core.shapes().len(), 2, |out| {
                collate::read_capacities(&self.core, offsets, score_starts, groups.0, multiple.0, out)
            })
        }
    }
}

impl From<windrow_core::plan::Plan> for Plan {
    fn from(core: windrow_core::plan::Plan) -> Self {
        Plan { core, shapes: PyOnceLock::new(), batch_shapes: PyOnceLock::new() }
    }
}

/// The pairs that `write` writes, made when they are first asked for.
fn kept<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyArray2<i32>>>,
    rows: usize,
    write: impl FnOnce(&mut [MaybeUninit<i32>]) + Send,
) -> PyResult<Matrix<'py, i32>> {
    let array = cell.get_or_try_init(py, || -> PyResult<_> {
        // SAFETY: the core's `write_shapes` and `write_batch_shapes` write every element.
        let array = unsafe {
            filled_matrix(py, rows, 2, |out| {
                write(out);
                Ok(())
            })?
        };
        array.try_readwrite()?.make_nonwriteable();
        Ok(array.unbind())
    })?;
    Ok(array.bind(py).clone())
}

impl Plan {
    /// What is known of each segment in a tree; `otherwise` for each where there are none.
    fn of_tree<'py>(
        slf: &Bound<'py, Self>,
        known: Option<&[i32]>,
        otherwise: i32,
    ) -> PyResult<Vector<'py, i32>> {
        if let Some(known) = known {
            // SAFETY: a plan never changes.
            return unsafe { lent(slf.as_any(), known) };
        }
        // SAFETY: every element is written.
        let array = unsafe {
            filled(slf.py(), slf.get().core.lengths().len(), |slots| {
                slots.fill(MaybeUninit::new(otherwise));
                Ok(())
            })?
        };
        array.try_readwrite()?.make_nonwriteable();
        Ok(array)
    }

    fn of_trees(
        py: Python<'_>,
        lengths: &[i32],
        prefixes: &Bound<'_, PyAny>,
        choice: &Choice,
        policy: Policy,
    ) -> PyResult<Self> {
        let Ok((order, shared)) = prefixes.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
            let kind = prefixes.get_type().name()?;
            let message = format!("prefixes must be order and shared as prefix_order gives them, not {kind}");
            return Err(PyTypeError::new_err(message));
        };
        let (order, shared) = (admit::<i64>("order", &order)?, admit::<i32>("shared", &shared)?);
        let prefixes = Prefixes { order: elements(&order), shared: elements(&shared), choice };
        let plan = py.detach(|| windrow_core::plan::Plan::of_trees(lengths, prefixes, policy));
        Ok(plan.map_err(raise)?.into())
    }

    /// A batch and the rows of it that are asked for.
    fn part(
        &self,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<(Batch<'_>, Range<usize>)> {
        let batch = self.core.batch(batch.0).map_err(raise)?;
        let rows = batch.row_range(row_start.0, row_stop.map(|Whole(stop)| stop)).map_err(raise)?;
        Ok((batch, rows))
    }
}
