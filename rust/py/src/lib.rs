//! The Python binding: each function checks its arrays, releases the GIL, calls
//! the core and returns the result. No planning is done here.

mod arrays;
mod bucket;
mod collate;
mod corpus;
mod errors;
mod numbers;
mod order;
mod pack;
mod plan;
mod policy;
mod prefix;
mod ragged;
mod shard;
mod tokens;

use pyo3::prelude::*;

/// The compiled part of windrow.
#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(bucket::bucket_ids, module)?)?;
    module.add_function(wrap_pyfunction!(bucket::choose_lengths, module)?)?;
    module.add_function(wrap_pyfunction!(bucket::round_up, module)?)?;
    module.add_function(wrap_pyfunction!(collate::pad_rows, module)?)?;
    module.add_function(wrap_pyfunction!(corpus::rolling_windows, module)?)?;
    module.add_function(wrap_pyfunction!(corpus::text_sizes, module)?)?;
    module.add_function(wrap_pyfunction!(order::invert_order, module)?)?;
    module.add_function(wrap_pyfunction!(order::length_order, module)?)?;
    module.add_class::<tokens::Encoder>()?;
    module.add_function(wrap_pyfunction!(tokens::encode_texts, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::pair_segments, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::prompt_segments, module)?)?;
    module.add_function(wrap_pyfunction!(tokens::rolling_segments, module)?)?;
    module.add_class::<plan::Plan>()?;
    module.add_function(wrap_pyfunction!(pack::pack_rows, module)?)?;
    module.add_function(wrap_pyfunction!(prefix::prefix_order, module)?)?;
    module.add_function(wrap_pyfunction!(prefix::prefix_stems, module)?)?;
    module.add_function(wrap_pyfunction!(prefix::tree_rows, module)?)?;
    module.add_function(wrap_pyfunction!(ragged::group_identical, module)?)?;
    module.add_function(wrap_pyfunction!(ragged::spread_scores, module)?)?;
    module.add_function(wrap_pyfunction!(ragged::token_lengths, module)?)?;
    module.add_function(wrap_pyfunction!(shard::multihost_remap, module)?)?;
    Ok(())
}
