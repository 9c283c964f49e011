//! The only module in which Python integers and booleans enter.

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
            return Err(not_an_integer(argument, &kind_of(value)?));
        }
        Err(_) => {
            let message = format!("{argument} does not fit in 64 bits; it must fit in {expected}");
            return Err(PyValueError::new_err(message));
        }
    };
    T::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("{argument} is {number}; it must fit in {expected}")))
}

/// An integer argument whose default is another integer.
///
/// PyO3 converts it without knowing its name, so [`Whole::number`] reports what is not an integer. A number
/// beyond 64 bits is clamped; the core then rejects it with the argument's name, or treats it as "any number".
pub struct Whole(Result<i64, String>);

impl Whole {
    /// A default.
    pub const fn of(number: i64) -> Self {
        Whole(Ok(number))
    }

    /// The number.
    pub fn number(&self, argument: &str) -> PyResult<i64> {
        self.0.as_ref().copied().map_err(|kind| not_an_integer(argument, kind))
    }

    /// The number as a `T`, if the core takes a narrower one.
    pub fn within<T: TryFrom<i64>>(&self, argument: &str) -> PyResult<T> {
        let number = self.number(argument)?;
        T::try_from(number).map_err(|_| {
            let expected = type_name::<T>().replace('i', "int").replace('u', "uint");
            PyValueError::new_err(format!("{argument} is {number}; it must fit in {expected}"))
        })
    }
}

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<i64>() {
            Ok(number) => Ok(Whole(Ok(number))),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                Ok(Whole(Ok(if value.lt(0)? { i64::MIN } else { i64::MAX })))
            }
            Err(_) => Ok(Whole(Err(kind_of(&value)?))),
        }
    }
}

/// A boolean argument with a default; as for [`Whole`], [`Flag::value`] reports anything else.
pub struct Flag(Result<bool, String>);

impl Flag {
    /// A default.
    pub const fn of(value: bool) -> Self {
        Flag(Ok(value))
    }

    /// The boolean.
    pub fn value(&self, argument: &str) -> PyResult<bool> {
        self.0
            .as_ref()
            .copied()
            .map_err(|kind| PyTypeError::new_err(format!("{argument} must be True or False, not {kind}")))
    }
}

impl<'py> FromPyObject<'_, 'py> for Flag {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Flag(match value.extract::<bool>() {
            Ok(flag) => Ok(flag),
            Err(_) => Err(kind_of(&value)?),
        }))
    }
}

fn not_an_integer(argument: &str, kind: &str) -> PyErr {
    PyTypeError::new_err(format!("{argument} must be an integer, not {kind}"))
}

/// The name of a value's type.
fn kind_of(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(value.get_type().name()?.to_string())
}
