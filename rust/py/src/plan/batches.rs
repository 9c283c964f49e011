//! The arrays of a plan's batches.

use pyo3::prelude::*;
use windrow_core::collate::{self, Sequences};

use super::{Matrix, Plan, Vector};
use crate::arrays::{admit, elements, filled, filled_matrix};
use crate::errors::raise;
use crate::numbers::Whole;

#[pymethods]
impl Plan {
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
}
