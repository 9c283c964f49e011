//! What several functions ask of the lengths they are given.

use crate::chunks::{on_threads, ranges};
use crate::error::{Error, Result};
use crate::parallel::threads_for;

/// The least and the greatest length, or nothing where there are none; refuses
/// negative ones.
pub(crate) fn extremes(lengths: &[i32]) -> Result<Option<(i32, i32)>> {
    let threads = threads_for(lengths.len());
    let of_range = |range: std::ops::Range<usize>| {
        let start = (i32::MAX, i32::MIN);
        lengths[range].iter().fold(start, |(least, most), &length| (least.min(length), most.max(length)))
    };
    let parts = on_threads(threads, ranges(lengths.len(), threads), of_range);
    let least = parts.iter().map(|part| part.0).min().expect("at least one thread");
    let most = parts.iter().map(|part| part.1).max().expect("at least one thread");
    if least < 0 {
        return Err(refusal(lengths, "lengths", "at least 0", |length| length < 0));
    }
    Ok((!lengths.is_empty()).then_some((least, most)))
}

/// The refusal of the first element that is `bad`, one being known to be there.
pub(crate) fn refusal<T: Copy + Into<i64>>(
    elements: &[T],
    argument: &'static str,
    expected: &'static str,
    bad: impl Fn(T) -> bool,
) -> Error {
    let found =
        elements.iter().enumerate().map(|(index, &value)| (index, value)).find(|&(_, value)| bad(value));
    match found {
        Some((index, value)) => Error::Element { argument, index, value: value.into(), expected },
        None => Error::Changed { argument },
    }
}
