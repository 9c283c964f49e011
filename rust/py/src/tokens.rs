//! Binding of the tokens crate.
//!
//! Strings are borrowed as UTF-8 from Python's memory; the tuple that contains them keeps them alive while
//! the GIL is released.

use numpy::PyArray1;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use windrow_tokens::{Encoded, Job, Layout, Specials, pairs, prompts, rolling};

use crate::arrays::filled;

/// The result of every function here: tokens `int32[t]`, offsets `int64[n + 1]`,
/// score starts `int32[n]`, requests `int64[n]`, truncated tokens `int64[n]`, the number
/// of texts encoded, the number of segments that repeat an input, and the bad requests
/// with the reasons.
type Segments<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    [usize; 2],
    Vec<(usize, String)>,
);

/// Encodes texts, in Rust or by calling a Python function.
///
/// Args:
///     json: The text of a ``tokenizer.json``, of any version. Texts are encoded with it, on every core; with
///         ``None``, ``encode`` encodes all texts.
///     encode: ``encode(texts, add_special_tokens)`` returns for each text a list of
///         token ids, or a string that says why it rejects the text. It is called for
///         texts that may be encoded differently here and by the ``tokenizers`` package.
///     pattern: A split pattern that is not in ``json``; texts are split by it first.
///
/// Raises:
///     ValueError: The text is not JSON, or describes an unsupported component.
#[pyclass(frozen, module = "windrow._rust")]
pub struct Encoder {
    quick: Option<windrow_tokens::Encoder>,
    encode: Py<PyAny>,
}

/// The result of the Python function for one text.
#[derive(FromPyObject)]
enum Row {
    Refused(String),
    Tokens(Vec<i32>),
}

/// The number of texts that are passed to the Python function at once.
const BATCH: usize = 1024;

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (json, encode, pattern=None))]
    fn new(
        py: Python<'_>,
        json: Option<&str>,
        encode: Bound<'_, PyAny>,
        pattern: Option<&str>,
    ) -> PyResult<Self> {
        if !encode.is_callable() {
            let kind = encode.get_type().name()?;
            return Err(PyTypeError::new_err(format!("encode must be a function, not {kind}")));
        }
        let quick =
            json.map(|json| py.detach(|| windrow_tokens::Encoder::with_pattern(json, pattern))).transpose();
        let quick = quick.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { quick, encode: encode.unbind() })
    }

    /// The indices of the texts that have to be encoded by ``encode``, ascending.
    ///
    /// >>> Encoder(None, len).left(["a", "b"])
    /// [0, 1]
    fn left(&self, py: Python<'_>, texts: Vec<String>) -> Vec<usize> {
        let Some(quick) = &self.quick else {
            return (0..texts.len()).collect();
        };
        let jobs: Vec<_> = texts.iter().map(|head| Job { head, tail: "", specials: true }).collect();
        py.detach(|| quick.encode(&jobs).1)
    }
}

impl Encoder {
    fn encode(&self, py: Python<'_>, jobs: &[Job<'_>]) -> PyResult<Encoded> {
        let (mut encoded, left) = match &self.quick {
            Some(quick) => py.detach(|| quick.encode(jobs)),
            None => (Encoded::for_jobs(jobs.len()), (0..jobs.len()).collect()),
        };
        for specials in [false, true] {
            let alike: Vec<usize> =
                left.iter().copied().filter(|&job| jobs[job].specials == specials).collect();
            for batch in alike.chunks(BATCH) {
                self.ask(py, jobs, batch, specials, &mut encoded)?;
            }
        }
        Ok(encoded)
    }

    /// Encodes some jobs with the Python function.
    fn ask(
        &self,
        py: Python<'_>,
        jobs: &[Job<'_>],
        batch: &[usize],
        specials: bool,
        encoded: &mut Encoded,
    ) -> PyResult<()> {
        let texts = batch.iter().map(|&job| [jobs[job].head, jobs[job].tail].concat());
        let rows = self.encode.bind(py).call1((PyList::new(py, texts.collect::<Vec<_>>())?, specials))?;
        let rows = rows.extract::<Vec<Row>>().map_err(|error| {
            let range = format!("0 to {}", i32::MAX);
            PyValueError::new_err(format!(
                "encode must return a list of token ids, {range}, for each text: {error}"
            ))
        })?;
        if rows.len() != batch.len() {
            let message = format!("encode returned {} lists of tokens for {} texts", rows.len(), batch.len());
            return Err(PyValueError::new_err(message));
        }
        for (&job, row) in batch.iter().zip(rows) {
            let row = match row {
                Row::Refused(reason) => {
                    encoded.refuse(job, reason);
                    continue;
                }
                Row::Tokens(row) => row,
            };
            if let Some(bad) = row.iter().find(|&&token| token < 0) {
                return Err(PyValueError::new_err(format!("encode returned the negative token {bad}")));
            }
            encoded.set(job, row.into_iter().map(|token| token as u32));
        }
        Ok(())
    }
}

/// Encodes texts without truncation or scoring. See ``windrow.tokens.Tokenizer.encode_batch``.
#[pyfunction]
pub fn encode_texts<'py>(
    encoder: &Bound<'py, Encoder>,
    texts: &Bound<'py, PyAny>,
    add_special_tokens: bool,
    bare_prefix: Option<&str>,
) -> PyResult<Segments<'py>> {
    let py = encoder.py();
    let texts = texts.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let (texts, bad) = admit_texts(&texts, "text");
    let specials = Specials { add: add_special_tokens, unless: bare_prefix };
    let plan = py.detach(|| prompts::Prompts::plan(texts.into_iter(), specials));
    let encoded = encoder.get().encode(py, plan.jobs())?;
    hand_over(py, plan.whole(&encoded), &encoded, bad)
}

/// Lays out pairs of context and continuation. See ``windrow.tokens.loglikelihood_segments``.
#[pyfunction]
#[pyo3(signature = (encoder, pairs, add_special_tokens, bare_prefix, prefix_token_id, max_length, apart))]
pub fn pair_segments<'py>(
    encoder: &Bound<'py, Encoder>,
    pairs: &Bound<'py, PyAny>,
    add_special_tokens: bool,
    bare_prefix: Option<&str>,
    prefix_token_id: Option<u32>,
    max_length: Option<usize>,
    apart: bool,
) -> PyResult<Segments<'py>> {
    let py = encoder.py();
    let (requests, mut bad) = split_pairs(pairs)?;
    let pairs = requests.iter().filter_map(|(request, context, continuation)| {
        let admitted = admit_text(context, "context")
            .and_then(|one| Ok((one, admit_text(continuation, "continuation")?)));
        admitted
            .map(|(one, other)| (*request, one, other))
            .map_err(|message| bad.push((*request, message)))
            .ok()
    });
    let pairs: Vec<_> = pairs.collect();
    let specials = Specials { add: add_special_tokens, unless: bare_prefix };
    let rules = pairs::Rules { specials, prefix: prefix_token_id, max_length, apart };
    let plan = py.detach(|| pairs::Pairs::plan(pairs.into_iter(), rules));
    let encoded = encoder.get().encode(py, plan.jobs())?;
    hand_over(py, plan.layout(&encoded), &encoded, bad)
}

/// Lays out the windows of whole texts. See ``windrow.tokens.rolling_segments``.
#[pyfunction]
#[pyo3(signature = (encoder, texts, add_special_tokens, bare_prefix, prefix_token_id, max_length))]
pub fn rolling_segments<'py>(
    encoder: &Bound<'py, Encoder>,
    texts: &Bound<'py, PyAny>,
    add_special_tokens: bool,
    bare_prefix: Option<&str>,
    prefix_token_id: Option<u32>,
    max_length: Option<usize>,
) -> PyResult<Segments<'py>> {
    let py = encoder.py();
    let texts = texts.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let (texts, bad) = admit_texts(&texts, "text");
    let specials = Specials { add: add_special_tokens, unless: bare_prefix };
    let plan = py.detach(|| rolling::Rolling::plan(texts.into_iter(), specials));
    let encoded = encoder.get().encode(py, plan.jobs())?;
    hand_over(py, plan.layout(&encoded, prefix_token_id, max_length), &encoded, bad)
}

/// Lays out prompts for generation. See ``windrow.tokens.generation_prompts``.
#[pyfunction]
#[pyo3(signature = (encoder, texts, add_special_tokens, bare_prefix, max_length, max_new_tokens))]
pub fn prompt_segments<'py>(
    encoder: &Bound<'py, Encoder>,
    texts: &Bound<'py, PyAny>,
    add_special_tokens: bool,
    bare_prefix: Option<&str>,
    max_length: Option<usize>,
    max_new_tokens: Vec<usize>,
) -> PyResult<Segments<'py>> {
    let py = encoder.py();
    let texts = texts.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    if texts.len() != max_new_tokens.len() {
        let message =
            format!("max_new_tokens has {} elements for {} contexts", max_new_tokens.len(), texts.len());
        return Err(PyValueError::new_err(message));
    }
    let (texts, bad) = admit_texts(&texts, "context");
    let specials = Specials { add: add_special_tokens, unless: bare_prefix };
    let plan = py.detach(|| prompts::Prompts::plan(texts.into_iter(), specials));
    let encoded = encoder.get().encode(py, plan.jobs())?;
    hand_over(py, plan.layout(&encoded, max_length, |request| max_new_tokens[request]), &encoded, bad)
}

/// Borrows a Python string as UTF-8, or returns the problem with it.
fn admit_text<'a>(text: &'a Bound<'_, PyAny>, what: &str) -> Result<&'a str, String> {
    let Ok(string) = text.cast::<PyString>() else {
        let kind = text.get_type().name().map_or_else(|_| "another type".to_owned(), |name| name.to_string());
        return Err(format!("its {what} must be a string, not {kind}"));
    };
    string
        .to_str()
        .map_err(|_| format!("its {what} contains a lone surrogate, which is not a Unicode character"))
}

/// Borrows every valid text; the others come with a reason.
#[expect(clippy::type_complexity)]
fn admit_texts<'a>(
    texts: &'a [Bound<'_, PyAny>],
    what: &str,
) -> (Vec<(usize, &'a str)>, Vec<(usize, String)>) {
    let (mut good, mut bad) = (Vec::with_capacity(texts.len()), Vec::new());
    for (request, text) in texts.iter().enumerate() {
        match admit_text(text, what) {
            Ok(text) => good.push((request, text)),
            Err(message) => bad.push((request, message)),
        }
    }
    (good, bad)
}

/// Splits requests into context and continuation.
#[expect(clippy::type_complexity)]
fn split_pairs<'py>(
    pairs: &Bound<'py, PyAny>,
) -> PyResult<(Vec<(usize, Bound<'py, PyAny>, Bound<'py, PyAny>)>, Vec<(usize, String)>)> {
    let (mut good, mut bad) = (Vec::with_capacity(pairs.len().unwrap_or(0)), Vec::new());
    for (request, pair) in pairs.try_iter()?.enumerate() {
        let pair = pair?;
        let pair = match pair.cast_into::<PyTuple>() {
            Ok(pair) => pair,
            Err(error) => match error.into_inner().cast_into::<PyList>() {
                Ok(pair) => pair.to_tuple(),
                Err(error) => {
                    let kind = error.into_inner().get_type().name()?.to_string();
                    bad.push((request, format!("must be a pair of context and continuation, not {kind}")));
                    continue;
                }
            },
        };
        match pair.len() {
            2 => good.push((request, pair.get_item(0)?, pair.get_item(1)?)),
            count => {
                bad.push((request, format!("must be a pair of context and continuation, not {count} values")))
            }
        }
    }
    Ok((good, bad))
}

/// Writes a layout into NumPy arrays.
fn hand_over<'py>(
    py: Python<'py>,
    layout: Layout,
    encoded: &Encoded,
    mut bad: Vec<(usize, String)>,
) -> PyResult<Segments<'py>> {
    bad.extend(layout.problems().iter().map(|(request, problem)| (*request, problem.to_string())));
    bad.sort_by_key(|(request, _)| *request);
    let mut repeated = 0;
    // SAFETY: `write_tokens` and `write_offsets` write every element.
    let (tokens, offsets) = unsafe {
        let tokens = filled(py, layout.token_count(), |slots| {
            repeated = layout.repeated_inputs(layout.write_tokens(encoded, slots));
            Ok(())
        })?;
        let offsets = filled(py, layout.len() + 1, |slots| {
            layout.write_offsets(slots);
            Ok(())
        })?;
        (tokens, offsets)
    };
    let score_starts = PyArray1::from_iter(py, layout.score_starts());
    let requests = PyArray1::from_iter(py, layout.requests());
    let cuts = PyArray1::from_iter(py, layout.cuts());
    Ok((tokens, offsets, score_starts, requests, cuts, [encoded.len(), repeated], bad))
}
