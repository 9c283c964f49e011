"""Runs ``step`` over rows, one chunk of columns at a time.

``step`` never gets more columns than the state has room for. The last chunk has the remaining
columns; columns beyond the room hold only padding and are dropped. A cache may therefore write
whole chunks at its write index. (``dynamic_update_slice`` shifts an update that does not fit
towards the front, where it silently overwrites real entries.)

    12 columns, room for 10, chunks of 4      t t t t | t t t t | t .

The cost: ``step`` is traced twice if the chunk length does not divide the number of columns.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[..., tuple[Any, Any]]
"""``step(state, tokens, positions, segment_ids)``: a new state, and ``[rows, columns, ...]`` or ``None``."""


def through_chunks(
    step: Step, state: Any, batch: tuple[jax.Array, ...], room: int, chunk_length: int | None
) -> tuple[Any, Any]:
    """The state after a batch, and the outputs of ``step`` for its columns.

    Args:
        step: The model's ``step`` with its parameters bound.
        state: The initial state of the rows.
        batch: Tokens, positions and segment ids, ``int32[rows, length]`` each.
        room: The number of tokens per row that the state has room for; no row has more real tokens.
        chunk_length: The most columns in a chunk; ``None`` for no limit.

    Returns:
        The state and the outputs, ``[rows, length, width]``, with zeros for dropped columns.

    >>> def step(total, tokens, positions, segment_ids):
    ...     return total + tokens.sum(axis=1), jnp.full((*tokens.shape, 1), tokens.shape[1])
    >>> ones = jnp.ones((1, 12), jnp.int32)
    >>> total, chunks = through_chunks(step, jnp.zeros(1, jnp.int32), (ones, ones, ones), 10, 4)
    >>> total.tolist(), chunks[0, :, 0].tolist()
    ([10], [4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 0, 0])
    """
    rows, length = batch[0].shape
    columns = min(length, room)
    size = min(chunk_length or columns, columns)
    outputs: list[Any] = []
    done = 0
    if columns // size > 1:
        done = columns // size * size
        chunks = tuple(array[:, :done].reshape(rows, -1, size).swapaxes(0, 1) for array in batch)
        state, several = jax.lax.scan(lambda state, chunk: step(state, *chunk), state, chunks)
        outputs.append(jax.tree.map(_end_to_end, several))
    for start in range(done, columns, size):
        state, output = step(state, *(array[:, start : min(start + size, columns)] for array in batch))
        outputs.append(output)

    def whole(*parts: jax.Array) -> jax.Array:
        joined = jnp.concatenate(parts, axis=1)
        return jnp.pad(joined, [(0, 0), (0, length - columns), *[(0, 0)] * (joined.ndim - 2)])

    return state, jax.tree.map(whole, *outputs)


def state_alone(step: Step) -> Step:
    """``step`` without its outputs, which are then not computed."""

    def run(state: Any, *batch: jax.Array) -> tuple[Any, None]:
        return step(state, *batch)[0], None

    return run


def _end_to_end(chunks: jax.Array) -> jax.Array:
    """``[chunks, rows, size, ...]`` as ``[rows, chunks * size, ...]``."""
    count, rows, size, *others = chunks.shape
    return chunks.swapaxes(0, 1).reshape(rows, count * size, *others)
