//! Converts between Python's keywords and the core's policy.

use numpy::{Element, PyUntypedArray, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use windrow_core::plan::{BatchRows, Choice, Packing, PaddedLengths, Policy};

use crate::arrays::{admit, elements};
use crate::numbers::{Flag, Whole};

/// The number of rows in a batch.
pub fn batch_rows(batch_size: Option<&Whole>, tokens_per_batch: Option<&Whole>) -> PyResult<BatchRows> {
    match (batch_size, tokens_per_batch) {
        (Some(rows), None) => Ok(BatchRows::Fixed(rows.number("batch_size")?)),
        (None, Some(tokens)) => Ok(BatchRows::Budget(tokens.number("tokens_per_batch")?)),
        _ => Err(PyValueError::new_err("give exactly one of batch_size and tokens_per_batch")),
    }
}

/// Whether and how segments share rows.
pub fn packing(pack: &Flag, max_segments: Option<&Whole>) -> PyResult<Option<Packing>> {
    match (pack.value("pack")?, max_segments) {
        (false, Some(_)) => {
            Err(PyValueError::new_err("max_segments applies only to packed rows; give pack=True too"))
        }
        (false, None) => Ok(None),
        (true, most) => {
            let max_segments = most.map(|most| most.number("max_segments")).transpose()?;
            Ok(Some(Packing { max_segments }))
        }
    }
}

/// Which lengths rows may be padded to.
pub fn padded_lengths(
    given: Option<&Bound<'_, PyAny>>,
    max_shapes: Option<&Whole>,
    padding_multiple: &Whole,
    shape_price: &Whole,
) -> PyResult<PaddedLengths> {
    let multiple = padding_multiple.number("padding_multiple")?;
    match (given, max_shapes) {
        (Some(_), _) if multiple != 1 => {
            Err(PyValueError::new_err("give either padded_lengths or padding_multiple, not both"))
        }
        (Some(lengths), _) => Ok(PaddedLengths::Given(given_lengths(lengths)?)),
        (None, None) => Ok(PaddedLengths::Multiples(multiple)),
        (None, Some(max_shapes)) => Ok(PaddedLengths::Best {
            max_shapes: max_shapes.number("max_shapes")?,
            multiple,
            shape_price: shape_price.number("shape_price")?,
        }),
    }
}

/// Padded lengths from an array or from any other sequence of integers.
fn given_lengths(lengths: &Bound<'_, PyAny>) -> PyResult<Vec<i32>> {
    let lengths = numbers::<i32>("padded_lengths", lengths)?;
    let named = |(index, length): (usize, Whole)| length.within(&format!("padded_lengths[{index}]"));
    lengths.into_iter().enumerate().map(named).collect()
}

/// Integers from an array of `T` or from any other sequence of them.
fn numbers<T: Element + Copy + Into<i64>>(
    argument: &'static str,
    given: &Bound<'_, PyAny>,
) -> PyResult<Vec<Whole>> {
    if given.cast::<PyUntypedArray>().is_ok() {
        return Ok(elements(&admit::<T>(argument, given)?)
            .iter()
            .map(|&number| Whole::of(number.into()))
            .collect());
    }
    given.extract::<Vec<Whole>>().or_else(|_| {
        let (kind, expected) = (given.get_type().name()?, dtype::<T>(given.py()));
        Err(PyTypeError::new_err(format!(
            "{argument} must be a sequence of integers or an {expected} array, not {kind}"
        )))
    })
}

/// How the lengths of tree rows are chosen.
pub fn choice(
    row_prices: Option<&Bound<'_, PyAny>>,
    max_shapes: Option<&Whole>,
    shape_price: &Whole,
) -> PyResult<Choice> {
    let prices = row_prices.map(|prices| numbers::<i64>("row_prices", prices)).transpose()?;
    let named = |(index, price): (usize, Whole)| price.number(&format!("row_prices[{index}]"));
    Ok(Choice {
        row_prices: prices.map(|prices| prices.into_iter().enumerate().map(named).collect()).transpose()?,
        max_shapes: max_shapes.map_or(Ok(i64::MAX), |most| most.number("max_shapes"))?,
        shape_price: shape_price.number("shape_price")?,
    })
}

/// The policy, under the names of its arguments, and the choice of tree row lengths, if there are trees.
pub fn policy_dict<'py>(
    py: Python<'py>,
    policy: &Policy,
    choice: Option<&Choice>,
) -> PyResult<Bound<'py, PyDict>> {
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
    if let Some(choice) = choice {
        dict.set_item("max_shapes", choice.max_shapes)?;
        dict.set_item("shape_price", choice.shape_price)?;
        dict.set_item("row_prices", choice.row_prices.as_deref())?;
    }
    Ok(dict)
}
