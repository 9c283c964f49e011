//! The Python binding: each function admits its arrays, releases the GIL, calls
//! the core and hands the result over. No planning is done here.

mod arrays;
mod errors;
mod numbers;
mod order;
mod plan;
mod policy;

use pyo3::prelude::*;

/// The compiled part of windrow.
#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(order::length_order, module)?)?;
    module.add_class::<plan::Plan>()?;
    Ok(())
}
