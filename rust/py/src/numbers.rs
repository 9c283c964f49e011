//! The one place where Python's integers come in.

use std::any::type_name;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Admits `value` as an integer of type `T`: an `int` or whatever stands for one
/// (`np.int64(3)`), within `T`'s range.
pub fn integer<T: TryFrom<i64>>(argument: &'static str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    let number = value.extract::<i64>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(value.py()) {
            let kind = value.get_type().name().map_or_else(|_| String::from("that"), |name| name.to_string());
            PyTypeError::new_err(format!("{argument} must be an integer, not {kind}"))
        } else {
            PyValueError::new_err(format!(
                "{argument} does not fit into 64 bits; it must fit {}",
                type_name::<T>()
            ))
        }
    })?;
    T::try_from(number).map_err(|_| {
        PyValueError::new_err(format!("{argument} is {number}; it must fit {}", type_name::<T>()))
    })
}
