//! The only module in which Python integers enter.

use std::any::type_name;

use numpy::{Element, dtype};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Converts `value` to an integer of type `T`: an `int` or an equivalent
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

/// An integer argument whose default is another integer.
///
/// A number beyond 64 bits is clamped; the core then rejects it with the
/// argument's name, or treats it as "any number".
#[derive(Clone, Copy)]
pub struct Whole(pub i64);

impl Whole {
    /// The number as a `T`, if the core takes a narrower one.
    pub fn within<T: TryFrom<i64>>(self, argument: &'static str) -> PyResult<T> {
        T::try_from(self.0).map_err(|_| {
            PyValueError::new_err(format!("{argument} is {}; it must fit {}", self.0, type_name::<T>()))
        })
    }
}

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<i64>() {
            Ok(number) => Ok(Whole(number)),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                Ok(Whole(if value.lt(0)? { i64::MIN } else { i64::MAX }))
            }
            Err(error) => Err(error),
        }
    }
}
