//! Binding of the core's `plan`, and of `collate` for its batches.

mod batches;
mod reads;
mod segments;

use std::ops::Range;

use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};
use windrow_core::plan::{Batch, Choice, Policy, Prefixes, SHAPE_PRICE};

use crate::arrays::{admit, elements};
use crate::errors::raise;
use crate::numbers::{Flag, Whole};
use crate::policy;

/// Assigns each segment a batch, a row and a shape, and maps results back.
///
/// A plan is made once from the segments' lengths and is immutable. It is the same
/// on every machine, and can be pickled. Segments with equal inputs share a row,
/// rows are sorted longest first, and batches take them in that order, so only the
/// last batch has filler.
///
/// With ``prefixes``, a row holds *trees*: several segments with their shared prefixes stored once, as in
/// ``tree_rows``, for models that take ``reach``, which says which tokens see each other. A segment's tokens
/// from ``own`` on are at ``starts``; the ones before are its parent's.
///
/// Args:
///     lengths: The input length of each segment in tokens, ``int32[n]``, each at
///         least 0.
///     identities: For each segment, the first one with the same input, ``int64[n]``, from
///         ``group_identical``. Without it, no rows are shared.
///     prefixes: The prefix tree of the inputs, ``(order, shared)`` from
///         ``prefix_order``. It also says which inputs are equal, so it replaces
///         ``identities``, and rows are always packed.
///     row_prices: With ``prefixes``: the cost of a row of each of ``padded_lengths``, in any unit, as
///         integers from 1 to 2**56 (or ``int64[k]``). By default, the number of tokens.
///     batch_size: The number of rows in each batch, filler included. Give either this or
///         ``tokens_per_batch``.
///     tokens_per_batch: The maximum number of tokens in a batch, padding included. At the longest padded
///         length, a batch has as many rows as this allows; at shorter lengths, twice as many each time the
///         length allows it, but not more than there are rows.
///     row_multiple: The number of rows in each batch is a multiple of this; for example, the number of
///         shards that a batch's rows are split into.
///     max_shapes: The maximum number of padded lengths. They are chosen to minimize the cost: rows times
///         length of whole batches, filler included, plus ``shape_price`` for each shape after the first.
///         ``None`` means all multiples of ``padding_multiple`` to which a row is rounded up.
///     padding_multiple: Padded lengths are multiples of this.
///     padded_lengths: The padded lengths to use, ascending: a list or ``int32[k]``. ``max_shapes`` and
///         ``shape_price`` then have no effect, except with ``prefixes``: at most ``max_shapes`` of these
///         lengths are used, chosen to minimize the price of all batches and shapes (exactly, for one or two
///         lengths). Without it, rows of trees are as long as the longest segment, rounded up to a multiple
///         of ``padding_multiple``.
///     shape_price: The cost of compiling each additional shape, in tokens or in the unit of ``row_prices``.
///     pack: Whether to put several segments into one row, for models that use segment ids. Rows are packed
///         up to the longest padded length.
///     max_segments: The maximum number of segments in a packed row; ``None`` for any number.
///     longest_first: Whether the longest batch runs first, so that a batch that does
///         not fit in memory fails at the start.
///
/// Raises:
///     TypeError: An array is not one-dimensional or has another dtype, or a number is not an integer.
///     ValueError: A number or an element is out of range (the message names it and says what to pass), not
///         exactly one of ``batch_size`` and ``tokens_per_batch`` is given, or ``prefixes`` is combined with
///         ``identities`` or ``pack``.
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
            tokens_per_batch = None, row_multiple = Whole::of(1), max_shapes = Some(Whole::of(8)),
            padding_multiple = Whole::of(1), padded_lengths = None, shape_price = Whole::of(SHAPE_PRICE),
            pack = Flag::of(false), max_segments = None, longest_first = Flag::of(true)
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
        pack: Flag,
        max_segments: Option<Whole>,
        longest_first: Flag,
    ) -> PyResult<Self> {
        let policy = Policy {
            rows: policy::batch_rows(batch_size.as_ref(), tokens_per_batch.as_ref())?,
            row_multiple: row_multiple.number("row_multiple")?,
            padded_lengths: policy::padded_lengths(
                padded_lengths,
                max_shapes.as_ref(),
                &padding_multiple,
                &shape_price,
            )?,
            packing: policy::packing(&pack, max_segments.as_ref())?,
            longest_first: longest_first.value("longest_first")?,
        };
        let lengths = admit::<i32>("lengths", lengths)?;
        let lengths = elements(&lengths);
        if let Some(prefixes) = prefixes {
            if identities.is_some() || policy.packing.is_some() {
                let message =
                    "prefixes already identify equal inputs and pack rows; omit identities and pack";
                return Err(PyValueError::new_err(message));
            }
            let choice = policy::choice(row_prices, max_shapes.as_ref(), &shape_price)?;
            return Self::of_trees(py, lengths, prefixes, &choice, policy);
        }
        if row_prices.is_some() {
            return Err(PyValueError::new_err("row_prices apply only to rows of trees; give prefixes too"));
        }
        let identities = identities.map(|given| admit::<i64>("identities", given)).transpose()?;
        let identities = identities.as_ref().map(elements);
        let plan = py.detach(|| windrow_core::plan::Plan::new(lengths, identities, policy));
        Ok(plan.map_err(raise)?.into())
    }

    /// The number of batches.
    fn __len__(&self) -> usize {
        self.core.batch_count()
    }

    fn __str__(&self) -> String {
        self.core.to_string()
    }

    /// The same text as `print`, for notebooks.
    fn _repr_html_(&self) -> String {
        format!("<pre>{}</pre>", self.core)
    }

    fn __repr__(&self) -> String {
        let statistics = self.core.statistics();
        format!(
            "<Plan {}: {}, {}, {}>",
            self.fingerprint(),
            counted(statistics.segments, "segment", "segments"),
            counted(statistics.batches, "batch", "batches"),
            counted(self.core.shapes().len(), "shape", "shapes")
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

    /// 16 hexadecimal digits, the same on every platform for the same segments under the same policy. Two
    /// plans are equal if their fingerprints are equal.
    #[getter]
    fn fingerprint(&self) -> String {
        format!("{:016x}", self.core.fingerprint())
    }

    /// The plan's figures, as a new dictionary.
    ///
    /// ``segments``, ``shared_segments`` (deduplicated), ``rows`` (with a segment),
    /// ``filler_rows``, ``batches``; ``real_tokens`` (all segments), ``row_tokens`` (those
    /// in rows), ``shared_tokens`` (those saved by sharing), ``device_tokens`` (those the
    /// device computes), ``padding_tokens`` (filler included); ``shapes``, a list of
    /// ``[rows, length]``.
    ///
    /// With trees also ``distinct_tokens`` (all distinct inputs), ``tree_tokens`` (each
    /// shared prefix once) and ``repeated_tokens`` (prefix tokens repeated in other rows);
    /// ``row_tokens`` is the sum of the last two.
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
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

impl From<windrow_core::plan::Plan> for Plan {
    fn from(core: windrow_core::plan::Plan) -> Self {
        Plan { core, shapes: PyOnceLock::new(), batch_shapes: PyOnceLock::new() }
    }
}

impl Plan {
    fn of_trees(
        py: Python<'_>,
        lengths: &[i32],
        prefixes: &Bound<'_, PyAny>,
        choice: &Choice,
        policy: Policy,
    ) -> PyResult<Self> {
        let Ok((order, shared)) = prefixes.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
            let kind = prefixes.get_type().name()?;
            let message =
                format!("prefixes must be the order and shared arrays that prefix_order returns, not {kind}");
            return Err(PyTypeError::new_err(message));
        };
        let (order, shared) = (admit::<i64>("order", &order)?, admit::<i32>("shared", &shared)?);
        let prefixes = Prefixes { order: elements(&order), shared: elements(&shared), choice };
        let plan = py.detach(|| windrow_core::plan::Plan::of_trees(lengths, prefixes, policy));
        Ok(plan.map_err(raise)?.into())
    }

    /// A batch, and the requested rows.
    fn part(
        &self,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<(Batch<'_>, Range<usize>)> {
        let batch = self.core.batch(batch.number("batch")?).map_err(raise)?;
        let row_stop = row_stop.map(|stop| stop.number("row_stop")).transpose()?;
        let rows = batch.row_range(row_start.number("row_start")?, row_stop).map_err(raise)?;
        Ok((batch, rows))
    }
}
