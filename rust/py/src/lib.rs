//! The Python binding: each function admits its arrays, releases the GIL, calls
//! the core and hands the result over. No planning is done here.

mod arrays;
mod errors;
mod order;
mod tokens;

use pyo3::prelude::*;

/// The compiled part of windrow.
#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(order::length_order, module)?)?;
    module.add_class::<tokens::Encoder>()?;
    module.add_function(wrap_pyfunction!(tokens::encode_texts, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::pair_segments, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::prompt_segments, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::rolling_segments, module)?)?;
    Ok(())
}
