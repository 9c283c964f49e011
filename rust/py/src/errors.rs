//! The one place where the core's errors become Python's.

use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// The Python exception for a refusal of the core: always a `ValueError`, since
/// wrong types never reach the core.
pub fn raise(error: windrow_core::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
