//! The only module in which the core's errors become Python exceptions.

use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyValueError};

/// The Python exception for an error of the core: an `IndexError` for a batch that
/// does not exist, else a `ValueError`. Wrong types do not reach the core.
pub fn raise(error: windrow_core::Error) -> PyErr {
    match error {
        windrow_core::Error::NoBatch { .. } => PyIndexError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}
