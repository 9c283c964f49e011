//! The one place where Python's integers come in.

use numpy::{Element, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Admits `value` as an integer of type `T`: an `int` or what stands for one
/// (`np.int64(3)`), within `T`'s range.
pub fn integer<T: Element + TryFrom<i64>>(argument: &'static str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    let expected = dtype::<T>(value.py());
    let number = match value.extract::<i64>() {
        Ok(number) => number,
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {
            let kind = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!("{argument} must be an integer, not {kind}")));
        }
        Err(_) => {
            let message = format!("{argument} does not fit into 64 bits; it must fit {expected}");
            return Err(PyValueError::new_err(message));
        }
    };
    T::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("{argument} is {number}; it must fit {expected}")))
}
