//! The properties of a plan's shapes and segments.

use std::mem::MaybeUninit;

use numpy::{PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::{Matrix, Plan, Vector};
use crate::arrays::{filled, filled_matrix, lent};

#[pymethods]
impl Plan {
    /// The number of segments.
    #[getter]
    fn segment_count(&self) -> usize {
        self.core.statistics().segments
    }

    /// Whether rows may hold several segments.
    #[getter]
    fn packed(&self) -> bool {
        self.core.is_packed()
    }

    /// Whether rows hold trees, in which segments share prefixes.
    #[getter]
    fn trees(&self) -> bool {
        self.core.has_trees()
    }

    /// The distinct shapes, ``int32[s, 2]`` of rows and length, in the order of their
    /// first use; read-only.
    #[getter]
    fn shapes<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, i32>> {
        kept(py, &self.shapes, self.core.shapes().len(), |out| self.core.write_shapes(out))
    }

    /// The shape of each batch, ``int32[b, 2]`` of rows and length, read-only.
    #[getter]
    fn batch_shapes<'py>(&self, py: Python<'py>) -> PyResult<Matrix<'py, i32>> {
        kept(py, &self.batch_shapes, self.core.batch_count(), |out| self.core.write_batch_shapes(out))
    }

    /// The batch of each segment, ``int32[n]``, read-only.
    #[getter]
    fn batches<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.batches()) }
    }

    /// The row of each segment within its batch, ``int32[n]``, read-only.
    #[getter]
    fn rows<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.rows()) }
    }

    /// Where each segment begins in its row, ``int32[n]``, read-only; in a row of trees,
    /// where its own tokens begin.
    #[getter]
    fn starts<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.starts()) }
    }

    /// The number of leading tokens of each segment that belong to its parent, ``int32[n]``, read-only; 0
    /// without trees.
    #[getter]
    fn own<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        Self::of_tree(slf, slf.get().core.all_own(), 0)
    }

    /// The segment that holds the tokens before each segment's own, itself or through its parent,
    /// ``int32[n]``, read-only; -1 if there is none, or without trees.
    #[getter]
    fn parents<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        Self::of_tree(slf, slf.get().core.all_parents(), -1)
    }

    /// The lengths that the plan was made from, ``int32[n]``, read-only.
    #[getter]
    fn lengths<'py>(slf: &Bound<'py, Self>) -> PyResult<Vector<'py, i32>> {
        // SAFETY: a plan never changes.
        unsafe { lent(slf.as_any(), slf.get().core.lengths()) }
    }
}

/// The pairs written by `write`, computed when they are first requested.
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
    /// A property of each segment in a tree; `otherwise` for all segments if there are no trees.
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
}
