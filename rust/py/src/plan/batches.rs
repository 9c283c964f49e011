//! The arrays of a plan's batches.

use std::mem::MaybeUninit;
use std::ops::Range;

use pyo3::prelude::*;
use windrow_core::collate::{self, Sequences};
use windrow_core::plan::Batch;

use super::{Matrix, Plan, Vector};
use crate::arrays::{admit, elements, filled, filled_matrix};
use crate::errors::raise;
use crate::numbers::Whole;

#[pymethods]
impl Plan {
    /// The segments in a batch, including those that share a row, by row, start and number.
    ///
    /// Args:
    ///     batch: The batch, numbered from 0 in execution order.
    ///     row_start: The first row.
    ///     row_stop: The end of the rows, exclusive; ``None`` for all.
    ///
    /// Returns:
    ///     ``int64[m]``.
    #[pyo3(signature = (batch, row_start = Whole::of(0), row_stop = None),
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
    /// Unless rows are packed, all other segments in the row share it with this one, and the result can be
    /// passed to ``pad_rows``. In a packed row, it is the segment that begins at 0.
    fn batch_rows<'py>(&self, py: Python<'py>, batch: Whole) -> PyResult<Vector<'py, i64>> {
        let batch = self.core.batch(batch.number("batch")?).map_err(raise)?;
        // SAFETY: `write_rows` writes every element.
        unsafe {
            filled(py, batch.rows, |out| {
                batch.write_rows(out);
                Ok(())
            })
        }
    }

    /// The model's inputs: all tokens of each segment but the last.
    ///
    /// Args:
    ///     batch: The batch, numbered from 0 in execution order.
    ///     tokens: The tokens of all segments, concatenated, ``int32[t]``. Each segment
    ///         has one more than its length in the plan: the last is only a target.
    ///     offsets: Where each segment begins in ``tokens``, and where the last ends,
    ///         ``int64[n + 1]``.
    ///     row_start: The first row.
    ///     row_stop: The end of the rows, exclusive; ``None`` for all.
    ///     fill: The token for padding and filler.
    ///
    /// Returns:
    ///     ``int32[row_stop - row_start, length]``.
    ///
    /// Raises:
    ///     IndexError: There is no such batch.
    ///     ValueError: ``offsets`` does not match the plan's lengths, or the rows are
    ///         not in the batch.
    #[pyo3(signature = (batch, tokens, offsets, row_start = Whole::of(0), row_stop = None, fill = Whole::of(0)),
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
        let part = (batch, row_start, row_stop);
        // SAFETY: `inputs` writes every element where it returns `Ok`.
        unsafe { self.tokens_of(py, part, tokens, offsets, fill, collate::inputs) }
    }

    /// The token after each input, the target of its prediction.
    ///
    /// If segments share a row, these are the first one's; only the last token can
    /// differ. Arguments and errors are those of ``inputs``.
    #[pyo3(signature = (batch, tokens, offsets, row_start = Whole::of(0), row_stop = None, fill = Whole::of(0)),
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
        let part = (batch, row_start, row_stop);
        // SAFETY: `targets` writes every element where it returns `Ok`.
        unsafe { self.tokens_of(py, part, tokens, offsets, fill, collate::targets) }
    }

    /// The segment, or tree, of each position within its row, numbered from 1; 0 in
    /// padding and filler. ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole::of(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn segment_ids<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        // SAFETY: `segment_ids` writes every element where it returns `Ok`.
        unsafe { self.matrix(py, (batch, row_start, row_stop), collate::segment_ids) }
    }

    /// Each token's position in its segment, or its depth in a tree; 0 in padding and
    /// filler. ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole::of(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn positions<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        // SAFETY: `positions` writes every element where it returns `Ok`.
        unsafe { self.matrix(py, (batch, row_start, row_stop), collate::positions) }
    }

    /// The index up to which each token is visible: token ``i`` of a row sees token ``j`` if
    /// ``j <= i < reach[j]``.
    ///
    /// In a row of trees, a token's reach ends after the last of its branches; without
    /// trees, after its segment. In padding and filler it is ``j + 1``.
    /// ``int32[row_stop - row_start, length]``.
    #[pyo3(signature = (batch, row_start = Whole::of(0), row_stop = None),
           text_signature = "($self, batch, row_start=0, row_stop=None)")]
    fn reach<'py>(
        &self,
        py: Python<'py>,
        batch: Whole,
        row_start: Whole,
        row_stop: Option<Whole>,
    ) -> PyResult<Matrix<'py, i32>> {
        // SAFETY: `reach` writes every element where it returns `Ok`.
        unsafe { self.matrix(py, (batch, row_start, row_stop), collate::reach) }
    }

    /// The number of tokens in each row, ``int32[row_stop - row_start]``.
    ///
    /// Unless rows are packed, this determines segment ids and positions: column ``p`` of
    /// a row of length ``l`` has segment id 1 and position ``p`` if ``p < l``, else 0 and 0.
    #[pyo3(signature = (batch, row_start = Whole::of(0), row_stop = None),
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
}

/// A batch, its first row and the end of its rows, as passed from Python.
type Part = (Whole, Whole, Option<Whole>);

impl Plan {
    /// One number for each column of each row.
    ///
    /// # Safety
    ///
    /// `write` must write every element where it returns `Ok`.
    unsafe fn matrix<'py>(
        &self,
        py: Python<'py>,
        (batch, row_start, row_stop): Part,
        write: impl FnOnce(Batch, Range<usize>, &mut [MaybeUninit<i32>]) -> windrow_core::Result<()> + Send,
    ) -> PyResult<Matrix<'py, i32>> {
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        // SAFETY: the caller's promise.
        unsafe { filled_matrix(py, rows.len(), batch.length, |out| write(batch, rows, out)) }
    }

    /// The same, of the segments' tokens.
    ///
    /// # Safety
    ///
    /// As for `matrix`.
    unsafe fn tokens_of<'py>(
        &self,
        py: Python<'py>,
        (batch, row_start, row_stop): Part,
        tokens: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
        fill: Whole,
        write: impl FnOnce(
            Batch,
            Range<usize>,
            Sequences,
            i32,
            &mut [MaybeUninit<i32>],
        ) -> windrow_core::Result<()>
        + Send,
    ) -> PyResult<Matrix<'py, i32>> {
        let (tokens, offsets) = (admit::<i32>("tokens", tokens)?, admit::<i64>("offsets", offsets)?);
        let sequences = Sequences::new(&self.core, elements(&tokens), elements(&offsets)).map_err(raise)?;
        let (batch, rows) = self.part(batch, row_start, row_stop)?;
        let fill = fill.within("fill")?;
        // SAFETY: the caller's promise.
        unsafe { filled_matrix(py, rows.len(), batch.length, |out| write(batch, rows, sequences, fill, out)) }
    }
}
