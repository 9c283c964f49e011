"""Attention within segments, and the key-value cache.

Who sees whom follows from segment ids and positions alone: a token sees the
tokens of its own segment that do not come later. So packed rows, padding,
chunks and rows that stand at different positions need nothing of their own.
Both are told by one array: how many positions back a key lies, -1 if unseen.

    segment ids   1 1 1 2 2 0        gaps    0 -1 -1 -1 -1 -1
    positions     0 1 2 0 1 0                1  0 -1 -1 -1 -1
                                             2  1  0 -1 -1 -1
                                            -1 -1 -1  0 -1 -1
                                            -1 -1 -1  1  0 -1
                                            -1 -1 -1 -1 -1  0    (padding sees padding; nobody looks at it)

The cache has one slot per position. A step reads what the row's segment left
there before this chunk, sees the chunk itself directly, and then writes the
chunk's last segment into the slots of its positions. A row begins anew when a
segment begins at position 0: slots of later positions are never looked at.

Arrays have their heads before their tokens, as matrix products want them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windrow.models.layers import contract

_BLOCK = 512
_UNSEEN = float(np.finfo(np.float32).min)


class Cache(NamedTuple):
    """Keys and values, each ``[rows, layers, heads, slots, head_dim]``."""

    keys: jax.Array
    values: jax.Array

    def layer(self, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One layer's keys and values, ``[rows, heads, slots, head_dim]``."""
        keys, values = (jax.lax.dynamic_index_in_dim(part, at, axis=1, keepdims=False) for part in self)
        return keys, values


def empty_cache(rows: int, layers: int, heads: int, slots: int, head_dim: int, dtype: jnp.dtype) -> Cache:
    """A cache that nobody has written to."""
    shape = (rows, layers, heads, slots, head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def chunk_gaps(positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """How far back the tokens of a chunk lie from each other: ``int32[rows, length, length]``."""
    gap = positions[:, :, None] - positions[:, None, :]
    return jnp.where(segment_ids[:, :, None] == segment_ids[:, None, :], jnp.maximum(gap, -1), -1)


def cache_gaps(cache: Cache, positions: jax.Array, chunk: jax.Array) -> jax.Array:
    """How far back the slots lie, ``int32[rows, length, slots]``: those before the token's segment here."""
    slots = jnp.arange(cache.keys.shape[3], dtype=jnp.int32)
    before = (positions - jnp.max(chunk, axis=-1))[:, :, None]
    return jnp.where(slots < before, positions[:, :, None] - slots, -1)


def remember(
    cache: Cache, keys: jax.Array, values: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> Cache:
    """Writes a chunk's keys and values, ``[layers, rows, heads, length, head_dim]``, to their slots.

    Only each row's last segment is kept; padding is not written.
    """
    last = jnp.max(segment_ids, axis=1, keepdims=True)
    nowhere = cache.keys.shape[3]
    slots = jnp.where((segment_ids == last) & (segment_ids > 0), positions, nowhere)

    def write(row: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
        return row.at[:, :, slots].set(new, mode="drop")

    by_row = jax.vmap(write, in_axes=(0, 1, 0))
    return Cache(by_row(cache.keys, keys, slots), by_row(cache.values, values, slots))


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    gaps: jax.Array,
    *,
    scale: float | jax.Array,
    window: jax.Array | None = None,
    cached: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Softmax attention, the softmax in float32.

    Long rows are taken in blocks of queries, each against the keys up to its
    end: a row's scores never exist at once, and about half of them never do.

    Args:
        queries: ``[rows, heads, length, head_dim]``.
        keys: ``[rows, key_heads, length, head_dim]``; each serves ``heads / key_heads`` neighbouring heads.
        values: Likewise.
        gaps: As from :func:`chunk_gaps`.
        scale: What scores are multiplied with.
        window: How many positions back a token sees, itself included; ``None`` is all.
        cached: One layer's keys and values of the cache, and :func:`cache_gaps`.

    Returns:
        ``[rows, heads, length, head_dim]``.
    """
    rows, heads, length, head_dim = queries.shape
    grouped = queries.reshape(rows, keys.shape[1], heads // keys.shape[1], length, head_dim)
    block = max(_BLOCK, -(-length // 8))
    blocks = []
    for start in range(0, length, block):
        here, until = slice(start, start + block), slice(0, start + block)
        parts = [(keys[:, :, until], values[:, :, until], gaps[:, here, until])]
        if cached is not None:
            parts.append((cached[0], cached[1], cached[2][:, here]))
        blocks.append(_attend_block(grouped[:, :, :, here], parts, scale, window))
    return jnp.concatenate(blocks, axis=3).reshape(queries.shape)


def _attend_block(
    queries: jax.Array,
    parts: list[tuple[jax.Array, jax.Array, jax.Array]],
    scale: float | jax.Array,
    window: jax.Array | None,
) -> jax.Array:
    scores = []
    for keys, _, gaps in parts:
        seen = gaps >= 0 if window is None else (gaps >= 0) & (gaps < window)
        score = contract("rkgqh,rksh->rkgqs", queries, keys) * scale
        scores.append(jnp.where(seen[:, None, None], score, _UNSEEN))
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(queries.dtype)
    pieces = jnp.split(weights, [parts[0][0].shape[2]], axis=-1) if len(parts) > 1 else [weights]
    mixed = [
        contract("rkgqs,rksh->rkgqh", weight, values)
        for weight, (_, values, _) in zip(pieces, parts, strict=True)
    ]
    return sum(mixed[1:], mixed[0]).astype(queries.dtype)
