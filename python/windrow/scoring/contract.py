"""Checks, by tracing a model's functions before anything runs, that they meet the contract."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windrow.admission import admit_whole, kind_of
from windrow.bad_requests import BadRequestsError
from windrow.model import LanguageModel, call_of, raised_by, run_forward
from windrow.scoring.mistakes import (
    DRAWS,
    draws_random_numbers,
    first_line,
    remedy_for,
    tracing_hint,
)
from windrow.tokens import Segments
from windrow.warning import warn


def vocabulary(model: LanguageModel, params: Any, shape: tuple[int, int], rows: int = 1) -> int:
    """Checks every function of a model and returns its vocabulary size.

    Functions are only traced; nothing is computed.

    Args:
        model: The model.
        params: Its parameters.
        shape: ``(rows, length)`` to trace with, a shape that the run could use.
        rows: The number of rows to trace ``head`` with.

    Raises:
        TypeError: A function does not return an array.
        ValueError: A function returns the wrong shape or dtype, or two functions have
            different vocabulary sizes.

    >>> model = LanguageModel(jnp.zeros((5, 7)), lambda params, tokens, positions, ids: params[tokens])
    >>> vocabulary(model, model.params, (2, 8))
    7
    """
    batch = [jax.ShapeDtypeStruct(shape, jnp.int32)] * 3
    found = {"apply": _traced("apply", partial(run_forward, model.apply), shape, params, *batch)}
    width = None
    if model.hidden is not None and model.head is not None:
        hidden = _traced("hidden", partial(run_forward, model.hidden), shape, params, *batch)
        picked = jax.ShapeDtypeStruct((rows, hidden.shape[-1]), hidden.dtype)
        found["head"] = _traced("head", model.head, (rows,), params, picked)
        width = hidden.shape[-1]
    if model.init_state is not None and model.step is not None:
        step, chunk = model.step, (shape[0], model.room(shape[1]))
        before = _first_state(model, params, *chunk)

        def first_step(params: Any, *batch: jax.Array) -> Any:
            made: Any = step(params, model.state_for(params, *chunk), *batch)
            if not isinstance(made, tuple) or len(made) != 2:
                return _Wrong(f"step returned {_described(made)}; return (state, {_output(model)})")
            return _state_changed(before, made[0]) or made[1]

        batch = [jax.ShapeDtypeStruct(chunk, jnp.int32)] * 3
        output = _traced("step", first_step, chunk, params, *batch)
        if width is None:
            found["step"] = output
        elif output.shape[-1] != width:
            raise ValueError(
                f"step returns width {output.shape[-1]}, but hidden returns width {width}; with hidden and "
                "head, step must return what head takes"
            )
    sizes = {name: logits.shape[-1] for name, logits in found.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"the model's functions have different vocabulary sizes: {shown}")
    return int(sizes["apply"])


def known_tokens(segments: Segments, vocabulary: int, on_bad_request: str = "raise") -> Segments:
    """The segments whose tokens are all in the model's vocabulary.

    Without this check, an embedding lookup would silently clamp other tokens.

    Args:
        segments: Any segments.
        vocabulary: The model's vocabulary size.
        on_bad_request: ``"raise"``, or ``"skip"`` to skip the other requests.

    Raises:
        BadRequestsError: A request has a token outside the vocabulary.
    """
    if int(segments.tokens.max(initial=0)) < vocabulary:
        return segments
    lengths = np.diff(segments.offsets)
    beyond = np.flatnonzero(segments.tokens >= vocabulary)
    requests, first = np.unique(np.repeat(segments.requests, lengths)[beyond], return_index=True)
    reasons = {
        request: f"token {token} is outside the model's vocabulary of {vocabulary}; "
        "use the tokenizer that the model was trained with"
        for request, token in zip(requests.tolist(), segments.tokens[beyond[first]].tolist(), strict=True)
    }
    if on_bad_request != "skip":
        raise BadRequestsError(reasons)
    return segments.without(reasons)


def check_chunk_length(model: LanguageModel, chunk_length: int | None) -> None:
    """Rejects an invalid chunk length, and any chunk length for a model without ``step``."""
    if chunk_length is None:
        return
    admit_whole("chunk_length", chunk_length, also=", or None")
    if model.step is None:
        raise ValueError("chunk_length needs a model with init_state and step")


def _first_state(model: LanguageModel, params: Any, rows: int, length: int) -> Any:
    """The shapes and dtypes of a new state's leaves; checks that each leaf's leading axis is rows."""
    try:
        state = jax.eval_shape(lambda params: model.state_for(params, rows, length), params)
    except Exception as error:  # anything that the model's function raises
        error.add_note(raised_by("init_state"))
        raise
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.ndim == 0 or leaf.shape[0] != rows:
            raise ValueError(
                f"init_state(params, {rows}) returns state{jax.tree_util.keystr(path)} with shape "
                f"{leaf.shape}; the leading axis of each leaf must have a length of {rows}, the number of "
                "rows; keep a number, such as a write index, once per row"
            )
    return state


def _state_changed(before: Any, after: Any) -> "_Wrong | None":
    """The problem with a state returned by ``step``, or ``None``."""
    structure: Any = jax.tree.structure(before)  # typed as Any: its declared type does not allow !=
    if structure != jax.tree.structure(after):
        return _Wrong(
            "step returned a state with a different structure than init_state: "
            f"{_first_difference(before, after)}; return the same structure"
        )
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (jnp.shape(new), jnp.result_type(new)):
            return _Wrong(
                f"step returned state{jax.tree_util.keystr(path)} as "
                f"{jnp.result_type(new)}{list(jnp.shape(new))}, "
                f"but init_state returned {old.dtype}{list(old.shape)}; "
                "a state must keep its shapes and dtypes"
            )
    return None


def _first_difference(before: Any, after: Any) -> str:
    """Where two states with different structures differ.

    >>> _first_difference({"k": 1.0}, {"k": 1.0, "v": 2.0}), _first_difference([1.0], (1.0,))
    ("state['v'] is new", 'a tuple of 1, not a list of 1')
    """
    old, new = (
        [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
        for state in (before, after)
    )
    missing, added = [path for path in old if path not in new], [path for path in new if path not in old]
    if missing and "" not in (missing[0], *added[:1]):
        return f"state{missing[0]} is missing"
    if added and "" not in (added[0], *missing[:1]):
        return f"state{added[0]} is new"
    return f"{_described(after)}, not {_described(before)}"


class _Wrong(str):
    """The problem with a function's return value."""

    __slots__ = ()


def _traced(name: str, function: Callable[..., Any], leading: tuple[int, ...], *given: Any) -> Any:
    """The shape and dtype of a function's output, which must have the axes ``leading`` and one more."""
    wrong: list[_Wrong] = []

    def traced(params: Any, *arrays: jax.Array) -> Any:
        output = _output_of(name, function, params, *arrays)
        if not isinstance(output, jax.Array | np.ndarray | _Wrong):
            what = "step's second output is" if name == "step" else f"{name} returned"
            alone = "one array" if name in ("hidden", "step") else "the logits alone"
            output = _Wrong(
                f"{what} {_described(output)}; return {alone}{_within(output)}, [{_axes(leading)}]"
            )
        if isinstance(output, _Wrong):
            wrong.append(output)
            return None
        return output

    def program(params: Any, *arrays: jax.Array) -> Any:
        """Traces the function within one that has the parameters already, as a run does."""
        return jax.jit(partial(traced, params))(*arrays)

    made, output = jax.make_jaxpr(program, return_shape=True)(*given)
    if wrong:  # raised here: JAX adds its own lines to errors raised during tracing
        raise TypeError(wrong[0])
    shape = tuple(output.shape)
    if len(shape) != len(leading) + 1 or shape[:-1] != leading:
        hint = _shape_hint(shape, leading)
        raise ValueError(f"{name} returned shape {shape}; expected [{_axes(leading)}] here{hint}")
    if not jnp.issubdtype(output.dtype, jnp.floating):
        raise ValueError(f"{name} returned {output.dtype}; expected a floating-point dtype")
    if draws_random_numbers(made.jaxpr):
        warn(f"{name} {DRAWS}")
    return output


def _output_of(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or what to do if it raises an error with a known cause."""
    try:
        return function(*arguments)
    except Exception as error:  # anything that the model's functions raise
        remedy = remedy_for(error, arguments[0])
        if remedy is None:
            error.add_note(f"{raised_by(name)}{tracing_hint(error)}")
            raise
        return _Wrong(f"{name} is called as {call_of(name)}, which failed: {first_line(error)}{remedy}")


def _shape_hint(shape: tuple[int, ...], leading: tuple[int, ...]) -> str:
    """What to do about a wrong shape, if its cause is recognizable.

    >>> _shape_hint((8, 50), (2, 8))
    '; if it is written for one row, map it over the rows with jax.vmap'
    """
    if len(leading) != 2 or leading[0] == leading[1]:
        return ""
    if shape == leading:
        return "; return the logits, not one number for each token"
    if shape[:2] == leading[::-1]:
        return "; swap its first two axes"
    if len(shape) == 2 and shape[0] == leading[0]:
        return "; return an output at every position, not only at the last one"
    if shape[:1] == leading[1:] or shape[:2] == (1, leading[1]):
        return "; if it is written for one row, map it over the rows with jax.vmap"
    return ""


def _axes(leading: tuple[int, ...]) -> str:
    return ", ".join([*map(str, leading), "size"])


def _output(model: LanguageModel) -> str:
    return "logits" if model.head is None else "what head takes"


def _within(output: Any) -> str:
    """The attribute that holds the logits in other libraries' outputs, for the error message."""
    known = next((name for name in ("logits", "array") if hasattr(output, name)), None)
    return "" if known is None else f" (its .{known})"


def _described(output: Any) -> str:
    """A short description of an output."""
    if isinstance(output, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return f"an array {list(output.shape)}"
    if isinstance(output, dict):
        return f"a dict with {', '.join(map(repr, list(output)[:8])) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"{kind_of(output)} of {len(output)}"
    return kind_of(output)
