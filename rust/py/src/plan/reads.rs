//! Where the scores of a plan's batches are read.

use pyo3::prelude::*;
use windrow_core::collate::{self, Groups, ReadArrays, Sequences};

use super::{Matrix, Plan};
use crate::arrays::{admit, elements, filled_matrices, filled_matrix};
use crate::errors::raise;
use crate::numbers::Whole;

#[pymethods]
impl Plan {
    /// Where to read the scores of a batch.
    ///
    /// The rows are split into equal groups, one per device; ``g`` of them are between
    /// ``row_start`` and ``row_stop``. A *pick* is a position within a group whose logits
    /// are needed, a *read* is one scored token.
    ///
    /// Args:
    ///     batch: The batch, numbered from 0 in execution order.
    ///     tokens: As for ``inputs``.
    ///     offsets: As for ``inputs``.
    ///     score_starts: The index of the first scored token in each segment,
    ///         ``int32[n]``, from 1 to the segment's length in the plan. All tokens from
    ///         there on are scored, including the last.
    ///     groups: The number of groups that the batch's rows are split into.
    ///     pick_capacity: The capacity of a group for picks; see ``read_capacities``.
    ///     read_capacity: The capacity of a group for reads.
    ///     row_start: The first row, where a group begins.
    ///     row_stop: The end of the rows, exclusive, where a group ends; ``None`` for all.
    ///
    /// Returns:
    ///     ``pick_index``, ``int32[g, pick_capacity]``: row times length plus position, counted from the
    ///     group's first row. ``read_pick``, ``int32[g, read_capacity]``: the pick whose logits score a
    ///     token. ``read_target``, ``int32[g, read_capacity]``: that token. Reads are in the order of
    ///     ``batch_segments``, each segment's in the order of its tokens. Entries beyond a group's picks and
    ///     reads are 0.
    ///
    /// Raises:
    ///     IndexError: There is no such batch.
    ///     ValueError: A capacity is too small, an element of ``score_starts`` is out of
    ///         range, ``offsets`` does not match the plan's lengths, or the rows are not
    ///         whole groups.
    #[pyo3(signature = (batch, tokens, offsets, score_starts, groups, pick_capacity, read_capacity,
                        row_start = Whole::of(0), row_stop = None),
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
        let groups = Groups::new(batch, rows, groups.number("groups")?).map_err(raise)?;
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
    /// If ``values``, ``[g, read_capacity]``, are the values read, those of segment ``i`` of
    /// ``batch_segments`` are ``values.ravel()[begin:end]``, for the ``i``-th pair.
    ///
    /// Args:
    ///     batch: The batch, numbered from 0 in execution order.
    ///     score_starts: As for ``reads``.
    ///     groups: As for ``reads``.
    ///     read_capacity: As for ``reads``.
    ///     row_start: As for ``reads``.
    ///     row_stop: As for ``reads``.
    ///
    /// Returns:
    ///     ``int64[m, 2]``, one pair per segment in these rows.
    #[pyo3(signature = (batch, score_starts, groups, read_capacity, row_start = Whole::of(0), row_stop = None),
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
        let groups = Groups::new(batch, rows, groups.number("groups")?).map_err(raise)?;
        let capacity = read_capacity.within::<u32>("read_capacity")? as usize;
        // SAFETY: `read_spans` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, segments, 2, |out| {
                collate::read_spans(batch, &groups, score_starts, capacity, out)
            })
        }
    }

    /// For each shape, the maximum numbers of picks and reads in a group of any of its batches, so that one
    /// compiled program serves all of them.
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
    #[pyo3(signature = (offsets, score_starts, groups = Whole::of(1), multiple = Whole::of(1)),
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
        let (groups, multiple) = (groups.number("groups")?, multiple.number("multiple")?);
        // SAFETY: `read_capacities` writes every element where it returns `Ok`.
        unsafe {
            filled_matrix(py, self.core.shapes().len(), 2, |out| {
                collate::read_capacities(&self.core, offsets, score_starts, groups, multiple, out)
            })
        }
    }
}
