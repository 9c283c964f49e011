//! The only module in which NumPy arrays enter and leave.
//!
//! Arguments are borrowed without a copy, or rejected. A wrong dtype or rank is a `TypeError`, and a layout
//! that would need a copy is a `ValueError`; each message names the argument and the call that fixes it.
//!
//! Results are written into memory allocated by NumPy, because NumPy requests huge pages and a new `Vec` does
//! not.
//!
//! Borrowed arrays are read with the GIL released. Another Python thread may write to them in the meantime,
//! so the core does not trust a value that it has to read twice.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use numpy::ndarray::{ArrayView1, Dimension, IntoDimension};
use numpy::npyffi::{NpyTypes, PY_ARRAY_API, get_type_object, npy_intp};
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1, PyUntypedArray,
};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Admits `value` as a contiguous, aligned, one-dimensional array of `T`.
pub fn admit<'py, T: Element>(
    argument: &'static str,
    value: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    let array = vector::<T>(argument, value)?.try_readonly().map_err(|_| {
        PyValueError::new_err(format!("{argument} is being written to; pass it after that is done"))
    })?;
    array.as_slice().map_err(|_| not_contiguous(argument))?;
    Ok(array)
}

/// Admits `value` as [`admit`] does, to be written to.
pub fn admit_writeable<'py, T: Element>(
    argument: &'static str,
    value: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArray1<'py, T>> {
    let array = vector::<T>(argument, value)?.try_readwrite().map_err(|_| {
        PyValueError::new_err(format!("{argument} must be writeable, and not be another argument too"))
    })?;
    array.as_slice().map_err(|_| not_contiguous(argument))?;
    Ok(array)
}

/// `value` as a one-dimensional array of `T`.
fn vector<'a, 'py, T: Element>(
    argument: &'static str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArray1<T>>> {
    let expected = dtype::<T>(value.py());
    let Ok(untyped) = value.cast::<PyUntypedArray>() else {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{argument} must be a NumPy array of {expected}, not {kind}; pass np.asarray({argument}, np.{expected})"
        )));
    };
    if !value.is_exact_instance_of::<PyUntypedArray>() && value.hasattr("mask")? {
        return Err(PyTypeError::new_err(format!(
            "{argument} is a masked array, and its mask would be ignored; pass {argument}.filled(...)"
        )));
    }
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
    Ok(value.cast::<PyArray1<T>>()?)
}

fn not_contiguous(argument: &str) -> PyErr {
    PyValueError::new_err(format!("{argument} must be contiguous and aligned; pass np.array({argument})"))
}

/// The elements of an array that [`admit`] accepted.
pub fn elements<'a, T: Element>(array: &'a PyReadonlyArray1<'_, T>) -> &'a [T] {
    array.as_slice().expect("admit() lets in contiguous arrays only")
}

/// The elements of an array that [`admit_writeable`] accepted.
pub fn elements_mut<'a, T: Element>(array: &'a mut PyReadwriteArray1<'_, T>) -> &'a mut [T] {
    array.as_slice_mut().expect("admit_writeable() lets in contiguous arrays only")
}

/// Allocates an array of `size` elements, and calls `fill` to write all of them with the GIL released.
///
/// # Safety
///
/// If `fill` returns `Ok`, it must have written every element.
pub unsafe fn filled<T, F>(py: Python<'_>, size: usize, fill: F) -> PyResult<Bound<'_, PyArray1<T>>>
where
    T: Element + Send,
    F: FnOnce(&mut [MaybeUninit<T>]) -> windrow_core::Result<()> + Send,
{
    let mut array = Fresh::allocate(py, [size])?;
    let slots = array.slots();
    py.detach(|| fill(slots)).map_err(crate::errors::raise)?;
    Ok(array.0)
}

/// The same as [`filled`], for two arrays of `size` elements each.
///
/// # Safety
///
/// As for [`filled`], for both.
pub unsafe fn filled_pair<T, U, F>(py: Python<'_>, size: usize, fill: F) -> PyResult<Pair<'_, T, U>>
where
    T: Element + Send,
    U: Element + Send,
    F: FnOnce(&mut [MaybeUninit<T>], &mut [MaybeUninit<U>]) -> windrow_core::Result<()> + Send,
{
    let (mut one, mut other) = (Fresh::allocate(py, [size])?, Fresh::allocate(py, [size])?);
    let slots = (one.slots(), other.slots());
    py.detach(|| fill(slots.0, slots.1)).map_err(crate::errors::raise)?;
    Ok((one.0, other.0))
}

/// The same as [`filled_pair`], for two arrays of each type.
///
/// # Safety
///
/// As for [`filled`], for all of them.
pub unsafe fn filled_pairs<T, U, F>(py: Python<'_>, size: usize, fill: F) -> PyResult<Pairs<'_, T, U>>
where
    T: Element + Send,
    U: Element + Send,
    F: FnOnce([&mut [MaybeUninit<T>]; 2], [&mut [MaybeUninit<U>]; 2]) -> windrow_core::Result<()> + Send,
{
    let mut ones = [Fresh::allocate(py, [size])?, Fresh::allocate(py, [size])?];
    let mut others = [Fresh::allocate(py, [size])?, Fresh::allocate(py, [size])?];
    let slots = (ones.each_mut().map(Fresh::slots), others.each_mut().map(Fresh::slots));
    py.detach(|| fill(slots.0, slots.1)).map_err(crate::errors::raise)?;
    Ok((ones.map(|array| array.0), others.map(|array| array.0)))
}

/// The same as [`filled`], for a matrix of `rows` × `columns` elements in C order.
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
    let mut array = Fresh::allocate(py, [rows, columns])?;
    let slots = array.slots();
    py.detach(|| fill(slots)).map_err(crate::errors::raise)?;
    Ok(array.0)
}

/// The same as [`filled_matrix`], for several matrices of `rows` rows each.
///
/// # Safety
///
/// As for [`filled`], for all of them.
pub unsafe fn filled_matrices<T, F, const N: usize>(
    py: Python<'_>,
    rows: usize,
    columns: [usize; N],
    fill: F,
) -> PyResult<[Bound<'_, PyArray2<T>>; N]>
where
    T: Element + Send,
    F: FnOnce([&mut [MaybeUninit<T>]; N]) -> windrow_core::Result<()> + Send,
{
    let mut arrays = Vec::with_capacity(N);
    for columns in columns {
        arrays.push(Fresh::allocate(py, [rows, columns])?);
    }
    let mut arrays: [Fresh<'_, T, _>; N] = arrays.try_into().ok().expect("one for each");
    let slots = arrays.each_mut().map(Fresh::slots);
    py.detach(|| fill(slots)).map_err(crate::errors::raise)?;
    Ok(arrays.map(|array| array.0))
}

/// A read-only array over memory that `owner` keeps alive.
///
/// # Safety
///
/// `elements` must not move or change while `owner` exists.
pub unsafe fn lent<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    elements: &[T],
) -> PyResult<Bound<'py, PyArray1<T>>> {
    // SAFETY: the array keeps its owner alive, and with it the elements.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(elements), owner.clone()) };
    array.try_readwrite()?.make_nonwriteable();
    Ok(array)
}

/// Two vectors of the same size.
pub type Pair<'py, T, U> = (Bound<'py, PyArray1<T>>, Bound<'py, PyArray1<U>>);

/// Two vectors of each of two types, all of the same size.
pub type Pairs<'py, T, U> = ([Bound<'py, PyArray1<T>>; 2], [Bound<'py, PyArray1<U>>; 2]);

/// A new array that is not shared yet and whose elements are not initialized.
struct Fresh<'py, T, D>(Bound<'py, PyArray<T, D>>);

impl<'py, T: Element, D: Dimension> Fresh<'py, T, D> {
    /// Allocates it with NumPy; if that fails, NumPy's exception is the error.
    /// (`PyArray::new` would panic.)
    fn allocate<const N: usize>(py: Python<'py>, shape: [usize; N]) -> PyResult<Self>
    where
        [usize; N]: IntoDimension<Dim = D>,
    {
        // A size beyond `isize` wraps to a negative one, which NumPy rejects.
        let mut shape = shape.map(|size| size as npy_intp);
        // SAFETY: NumPy takes over the reference to the dtype and reads `N` sizes from `shape`.
        // It returns a new reference to an array of that many dimensions, or null and an exception.
        unsafe {
            let array = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                get_type_object(py, NpyTypes::PyArray_Type),
                dtype::<T>(py).into_dtype_ptr(),
                N as c_int,
                shape.as_mut_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
                0,
                ptr::null_mut(),
            );
            Ok(Self(Bound::from_owned_ptr_or_err(py, array)?.cast_into_unchecked()))
        }
    }

    fn slots(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: there are no other references to the array, and a new array is contiguous and aligned.
        unsafe { std::slice::from_raw_parts_mut(self.0.data().cast(), self.0.len()) }
    }
}
