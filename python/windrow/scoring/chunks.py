"""Runs ``step`` over rows, a chunk of columns at a time.

``step`` never gets more columns than the state has room for. The last chunk has the remaining columns;
columns beyond the room hold only padding and are dropped. So a cache can write whole chunks at its write
index. (``dynamic_update_slice`` moves an update that does not fit towards the front, where it silently
overwrites real entries.)

    12 columns, room for 10, chunks of 4      t t t t | t t t t | t .

``step`` is traced once, or twice if the chunk length does not divide the number of columns.

The number of columns that hold tokens may be known only on the device. Chunks beyond them are skipped, so one
program serves rows of all lengths, and short batches do not pay for padding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[..., tuple[Any, Any]]
"""``step(state, tokens, positions, segment_ids)``: a new state, and ``[rows, columns, ...]`` or ``None``."""


def through_chunks(
    step: Step,
    state: Any,
    batch: tuple[jax.Array, ...],
    room: int,
    chunk_length: int | None,
    used: jax.Array | None = None,
) -> tuple[Any, Any]:
    """The state after a batch, and the outputs of ``step`` for its columns.

    Args:
        step: The model's ``step`` with its parameters bound.
        state: The initial state of the rows.
        batch: Tokens, positions and segment ids, ``int32[rows, length]`` each.
        room: The number of tokens per row that the state has room for; no row has more real tokens.
        chunk_length: The most columns in a chunk; ``None`` for no limit.
        used: The number of columns that hold tokens, an ``int32`` scalar; chunks after them are skipped.

    Returns:
        The state and the outputs, ``[rows, length, width]``, with zeros for dropped and skipped columns.

    >>> def step(total, tokens, positions, segment_ids):
    ...     return total + tokens.sum(axis=1), jnp.full((*tokens.shape, 1), tokens.shape[1])
    >>> ones = jnp.ones((1, 12), jnp.int32)
    >>> total, chunks = through_chunks(step, jnp.zeros(1, jnp.int32), (ones, ones, ones), 10, 4)
    >>> total.tolist(), chunks[0, :, 0].tolist()
    ([10], [4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 0, 0])
    >>> total, chunks = through_chunks(step, jnp.zeros(1, jnp.int32), (ones, ones, ones), 12, 4, jnp.int32(5))
    >>> total.tolist(), chunks[0, :, 0].tolist()
    ([8], [4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0])
    """
    step = jax.jit(step)  # so that it is traced once for each number of columns
    length = batch[0].shape[1]
    columns = min(length, room)
    size = min(chunk_length or columns, columns)
    count = columns // size
    outputs: list[Any] = []
    if count > 1 or used is not None:
        needed = count if used is None else jnp.minimum(count, -(-used // size))
        state, several = _whole_chunks(step, state, batch, size, count, needed)
        outputs.append(several)
    for start in range(count * size if outputs else 0, columns, size):
        chunk = tuple(array[:, start : min(start + size, columns)] for array in batch)
        state, output = step(state, *chunk) if used is None else _step_if(used > start, step, state, chunk)
        outputs.append(output)

    def whole(*parts: jax.Array) -> jax.Array:
        joined = jnp.concatenate(parts, axis=1)
        return jnp.pad(joined, [(0, 0), (0, length - columns), *[(0, 0)] * (joined.ndim - 2)])

    return state, jax.tree.map(whole, *outputs)


def _whole_chunks(
    step: Step, state: Any, batch: tuple[jax.Array, ...], size: int, count: int, needed: int | jax.Array
) -> tuple[Any, Any]:
    """The state after the first ``needed`` of ``count`` chunks, and the outputs of all columns."""

    def cut(array: jax.Array, number: int | jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, number * size, size, axis=1)

    def run(number: jax.Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        state, outputs = carried
        state, output = step(state, *(cut(array, number) for array in batch))
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=number * size, axis=1)
        return state, jax.tree.map(put, outputs, output)

    outputs = _nothing(step, state, tuple(cut(array, 0) for array in batch), count * size)
    after: tuple[Any, Any] = jax.lax.fori_loop(0, needed, run, (state, outputs))
    return after


def _step_if(needed: jax.Array, step: Step, state: Any, chunk: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    """Runs a step only if it is needed; otherwise its outputs are zeros."""
    outputs = _nothing(step, state, chunk, chunk[0].shape[1])
    taken: tuple[Any, Any] = jax.lax.cond(
        needed, lambda state: step(state, *chunk), lambda state: (state, outputs), state
    )
    return taken


def _nothing(step: Step, state: Any, chunk: tuple[jax.Array, ...], columns: int) -> Any:
    """Zeros in place of the outputs of ``step`` for this many columns."""
    _, like = jax.eval_shape(step, state, *chunk)
    return jax.tree.map(lambda one: jnp.zeros((one.shape[0], columns, *one.shape[2:]), one.dtype), like)


def state_alone(step: Step) -> Step:
    """``step`` without its outputs, which are then not computed."""

    def run(state: Any, *batch: jax.Array) -> tuple[Any, None]:
        return step(state, *batch)[0], None

    return run
