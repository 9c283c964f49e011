//! The one place where the core's errors become Python's.

use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyValueError};

/// The Python exception for a refusal of the core: an `IndexError` for a batch
/// that there is not, else a `ValueError`, since wrong types never reach the core.
pub fn raise(error: windrow_core::Error) -> PyErr {
    match error {
        windrow_core::Error::NoBatch { .. } => PyIndexError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}
