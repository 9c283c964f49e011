"""Attention within segments, and the key-value cache.

Who sees whom follows from segment ids and positions alone: a token sees the
tokens of its own segment that do not come later. So packed rows, padding,
chunks and rows that stand at different positions need nothing of their own.

    segment ids   1 1 1 2 2 0        sees   1 . . . . .
    positions     0 1 2 0 1 0               1 1 . . . .
                                            1 1 1 . . .
                                            . . . 1 . .
                                            . . . 1 1 .
                                            . . . . . 1    (padding sees padding; nobody looks at it)

The cache has one slot per position. A step reads what the row's segment left
there before this chunk, sees the chunk itself directly, and then writes the
chunk's last segment into the slots of its positions. A row begins anew when a
segment begins at position 0: slots of later positions are never looked at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windrow.models.layers import contract

_BLOCK = 512
_UNSEEN = float(np.finfo(np.float32).min)


class Cache(NamedTuple):
    """Keys and values, each ``[rows, layers, slots, heads, head_dim]``."""

    keys: jax.Array
    values: jax.Array


class Past(NamedTuple):
    """What a step may see of the cache.

    ``gap``, ``int32[rows, length, slots]``, is how many positions a slot lies
    behind a token; ``seen``, ``bool`` of the same shape, whether the slot holds
    an earlier token of its segment.
    """

    gap: jax.Array
    seen: jax.Array


def gaps(positions: jax.Array, segment_ids: jax.Array) -> Past:
    """The same for the tokens of a chunk among themselves: ``[rows, length, length]``."""
    gap = positions[:, :, None] - positions[:, None, :]
    return Past(gap, (segment_ids[:, :, None] == segment_ids[:, None, :]) & (gap >= 0))


def empty_cache(rows: int, layers: int, slots: int, heads: int, head_dim: int, dtype: jnp.dtype) -> Cache:
    """A cache that nobody has written to."""
    shape = (rows, layers, slots, heads, head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def past(cache: Cache, positions: jax.Array, chunk: Past) -> Past:
    """Which slots the tokens of a chunk may see: those before the first of their segment here."""
    slots = jnp.arange(cache.keys.shape[2], dtype=jnp.int32)
    furthest = jnp.max(jnp.where(chunk.seen, chunk.gap, 0), axis=-1)
    before = (positions - furthest)[:, :, None]
    return Past(positions[:, :, None] - slots, slots < before)


def remember(
    cache: Cache, keys: jax.Array, values: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> Cache:
    """Writes a chunk's keys and values, ``[layers, rows, length, heads, head_dim]``, to their slots.

    Only each row's last segment is kept; padding is not written.
    """
    last = jnp.max(segment_ids, axis=1, keepdims=True)
    nowhere = cache.keys.shape[2]
    slots = jnp.where((segment_ids == last) & (segment_ids > 0), positions, nowhere)

    def write(row: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
        return row.at[:, slots].set(new, mode="drop")

    by_row = jax.vmap(write, in_axes=(0, 1, 0))
    return Cache(by_row(cache.keys, keys, slots), by_row(cache.values, values, slots))


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    chunk: Past,
    *,
    scale: float | jax.Array,
    window: jax.Array | None = None,
    cached: tuple[jax.Array, jax.Array, Past] | None = None,
) -> jax.Array:
    """Softmax attention, the softmax in float32.

    Long rows are taken in blocks of queries, each against the keys up to its
    end: a row's scores never exist at once, and about half of them never do.

    Args:
        queries: ``[rows, length, heads, head_dim]``.
        keys: ``[rows, length, key_heads, head_dim]``; each key head serves ``heads / key_heads`` neighbours.
        values: Likewise.
        chunk: Who sees whom, as from :func:`gaps`.
        scale: What scores are multiplied with.
        window: How many positions back a token sees, itself included; ``None`` is all.
        cached: Keys and values ``[rows, slots, key_heads, head_dim]`` of one layer's cache, and :func:`past`.

    Returns:
        ``[rows, length, heads, head_dim]``.
    """
    rows, length, heads, head_dim = queries.shape
    grouped = queries.reshape(rows, length, keys.shape[2], heads // keys.shape[2], head_dim)
    block = max(_BLOCK, -(-length // 8))
    blocks = []
    for start in range(0, length, block):
        here, until = slice(start, start + block), slice(0, start + block)
        parts = [(keys[:, until], values[:, until], Past(*(part[:, here, until] for part in chunk)))]
        if cached is not None:
            parts.append((cached[0], cached[1], Past(*(part[:, here] for part in cached[2]))))
        blocks.append(_attend_block(grouped[:, here], parts, scale, window))
    return jnp.concatenate(blocks, axis=1).reshape(queries.shape)


def _attend_block(
    queries: jax.Array,
    parts: list[tuple[jax.Array, jax.Array, Past]],
    scale: float | jax.Array,
    window: jax.Array | None,
) -> jax.Array:
    scores = []
    for keys, _, view in parts:
        seen = view.seen if window is None else view.seen & (view.gap < window)
        score = contract("rqkgh,rskh->rkgqs", queries, keys) * scale
        scores.append(jnp.where(seen[:, None, None], score, _UNSEEN))
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(queries.dtype)
    ends = [keys.shape[1] for keys, _, _ in parts]
    pieces = jnp.split(weights, [ends[0]], axis=-1) if len(parts) > 1 else [weights]
    mixed = [
        contract("rkgqs,rskh->rqkgh", w, values) for w, (_, values, _) in zip(pieces, parts, strict=True)
    ]
    return sum(mixed[1:], mixed[0]).astype(queries.dtype)
