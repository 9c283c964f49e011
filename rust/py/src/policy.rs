//! Between Python's keywords and the core's policy.

use numpy::PyUntypedArray;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use windrow_core::plan::{BatchRows, Packing, PaddedLengths, Policy};

use crate::arrays::{admit, elements};
use crate::numbers::Whole;

/// How many rows a batch has.
pub fn batch_rows(batch_size: Option<Whole>, tokens_per_batch: Option<Whole>) -> PyResult<BatchRows> {
    match (batch_size, tokens_per_batch) {
        (Some(Whole(rows)), None) => Ok(BatchRows::Fixed(rows)),
        (None, Some(Whole(tokens))) => Ok(BatchRows::Budget(tokens)),
        _ => Err(PyValueError::new_err("give exactly one of batch_size and tokens_per_batch")),
    }
}

/// Whether and how segments share rows.
pub fn packing(pack: bool, max_segments: Option<Whole>) -> PyResult<Option<Packing>> {
    match (pack, max_segments) {
        (false, Some(_)) => Err(PyValueError::new_err("max_segments is for packed rows; give pack=True too")),
        (false, None) => Ok(None),
        (true, most) => Ok(Some(Packing { max_segments: most.map(|Whole(most)| most) })),
    }
}

/// Which lengths rows may be padded to.
pub fn padded_lengths(
    given: Option<&Bound<'_, PyAny>>,
    max_shapes: Option<Whole>,
    padding_multiple: Whole,
    shape_price: Whole,
) -> PyResult<PaddedLengths> {
    let Whole(multiple) = padding_multiple;
    match (given, max_shapes) {
        (Some(_), _) if multiple != 1 => {
            Err(PyValueError::new_err("give either padded_lengths or padding_multiple, not both"))
        }
        (Some(lengths), _) => Ok(PaddedLengths::Given(given_lengths(lengths)?)),
        (None, None) => Ok(PaddedLengths::Multiples(multiple)),
        (None, Some(Whole(max_shapes))) => {
            Ok(PaddedLengths::Best { max_shapes, multiple, shape_price: shape_price.0 })
        }
    }
}

/// Padded lengths from an array or from any other sequence of integers.
fn given_lengths(lengths: &Bound<'_, PyAny>) -> PyResult<Vec<i32>> {
    if lengths.cast::<PyUntypedArray>().is_ok() {
        return Ok(elements(&admit::<i32>("padded_lengths", lengths)?).to_vec());
    }
    let Ok(lengths) = lengths.extract::<Vec<Whole>>() else {
        let kind = lengths.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "padded_lengths must be a sequence of integers or an int32 array, not {kind}"
        )));
    };
    lengths.into_iter().map(|length| length.within("padded_lengths")).collect()
}

/// The policy under the names of the arguments that decided it.
pub fn policy_dict<'py>(py: Python<'py>, policy: &Policy) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match policy.rows {
        BatchRows::Fixed(rows) => dict.set_item("batch_size", rows)?,
        BatchRows::Budget(tokens) => dict.set_item("tokens_per_batch", tokens)?,
    }
    dict.set_item("row_multiple", policy.row_multiple)?;
    match &policy.padded_lengths {
        PaddedLengths::Given(lengths) => dict.set_item("padded_lengths", lengths)?,
        PaddedLengths::Multiples(multiple) => {
            dict.set_item("max_shapes", py.None())?;
            dict.set_item("padding_multiple", multiple)?;
        }
        PaddedLengths::Best { max_shapes, multiple, shape_price } => {
            dict.set_item("max_shapes", max_shapes)?;
            dict.set_item("padding_multiple", multiple)?;
            dict.set_item("shape_price", shape_price)?;
        }
    }
    dict.set_item("pack", policy.packing.is_some())?;
    if let Some(Packing { max_segments }) = policy.packing {
        dict.set_item("max_segments", max_segments)?;
    }
    dict.set_item("longest_first", policy.longest_first)?;
    Ok(dict)
}
