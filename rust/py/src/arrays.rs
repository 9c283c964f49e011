//! The one place where NumPy arrays come in and go out.
//!
//! In: an argument is admitted as it lies in memory or not at all. A wrong dtype
//! or rank is a `TypeError`, a layout that would need a copy is a `ValueError`;
//! each message names the argument and the call that repairs it.
//!
//! Out: results are written into memory that NumPy allocated, since NumPy asks
//! the system for huge pages and a fresh `Vec` does not.
//!
//! A borrowed array is read with the GIL released. Nothing can stop another
//! Python thread from writing into it meanwhile, so the core never trusts a
//! value that it has to read twice.

use std::mem::MaybeUninit;

use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyUntypedArray};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Admits `value` as a contiguous, aligned, one-dimensional array of `T`.
pub fn admit<'py, T: Element>(
    argument: &'static str,
    value: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    let expected = dtype::<T>(value.py());
    let Ok(untyped) = value.cast::<PyUntypedArray>() else {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{argument} must be a NumPy array of {expected}, not {kind}; pass np.asarray({argument}, np.{expected})"
        )));
    };
    let found = untyped.dtype();
    if !found.is_equiv_to(&expected) {
        return Err(PyTypeError::new_err(format!(
            "{argument} must have dtype {expected}, not {found}; pass {argument}.astype(np.{expected})"
        )));
    }
    if untyped.ndim() != 1 {
        return Err(PyTypeError::new_err(format!(
            "{argument} must have 1 dimension, not {}",
            untyped.ndim()
        )));
    }
    let array = value.cast::<PyArray1<T>>()?.try_readonly().map_err(|_| {
        PyValueError::new_err(format!("{argument} is being written to; pass it when that has ended"))
    })?;
    if array.as_slice().is_err() {
        return Err(PyValueError::new_err(format!(
            "{argument} must be contiguous and aligned; pass np.array({argument})"
        )));
    }
    Ok(array)
}

/// The elements of an array that [`admit`] let in.
pub fn elements<'a, T: Element>(array: &'a PyReadonlyArray1<'_, T>) -> &'a [T] {
    array.as_slice().expect("admit() lets in contiguous arrays only")
}

/// Allocates an array of `size` elements and has `fill` write every one of them
/// with the GIL released.
///
/// # Safety
///
/// Where `fill` returns `Ok`, it must have written every element.
pub unsafe fn filled<T, F>(py: Python<'_>, size: usize, fill: F) -> PyResult<Bound<'_, PyArray1<T>>>
where
    T: Element + Send,
    F: FnOnce(&mut [MaybeUninit<T>]) -> windrow_core::Result<()> + Send,
{
    // SAFETY: the elements are exposed only as `MaybeUninit` until `fill` has written them.
    let array = unsafe { PyArray1::<T>::new(py, [size], false) };
    // SAFETY: nobody else has the array yet, and it is contiguous.
    let slots = unsafe { std::slice::from_raw_parts_mut(array.data().cast::<MaybeUninit<T>>(), size) };
    py.detach(|| fill(slots)).map_err(crate::errors::raise)?;
    Ok(array)
}

/// As [`filled`], for a matrix of `rows` × `columns` elements in C order.
///
/// # Safety
///
/// As for [`filled`].
pub unsafe fn filled_matrix<T, F>(
    py: Python<'_>,
    rows: usize,
    columns: usize,
    fill: F,
) -> PyResult<Bound<'_, PyArray2<T>>>
where
    T: Element + Send,
    F: FnOnce(&mut [MaybeUninit<T>]) -> windrow_core::Result<()> + Send,
{
    // SAFETY: as in `filled`.
    let array = unsafe { PyArray2::<T>::new(py, [rows, columns], false) };
    // SAFETY: as in `filled`.
    let slots =
        unsafe { std::slice::from_raw_parts_mut(array.data().cast::<MaybeUninit<T>>(), rows * columns) };
    py.detach(|| fill(slots)).map_err(crate::errors::raise)?;
    Ok(array)
}
