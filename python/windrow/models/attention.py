"""Attention within segments or prefix trees, and the key-value cache.

A few numbers per token determine which tokens see each other. In plain and packed rows a
token sees itself and the earlier tokens of its segment. In tree rows it sees itself and
the earlier tokens whose reach goes beyond it, which form its path. Either way one array
is enough: how many positions back a key is, or -1 if it is not visible.

    segment ids   1 1 1 2 2 0        gaps    0 -1 -1 -1 -1 -1
    positions     0 1 2 0 1 0                1  0 -1 -1 -1 -1
                                             2  1  0 -1 -1 -1
                                            -1 -1 -1  0 -1 -1
                                            -1 -1 -1  1  0 -1
                                            -1 -1 -1 -1 -1  0    (padding only sees padding)

    reach         5 3 3 5 5 6        gaps    0 -1 -1 -1 -1 -1    a b c and a d e share the prefix a
    positions     0 1 2 1 2 0                1  0 -1 -1 -1 -1
                                             2  1  0 -1 -1 -1
                                             1 -1 -1  0 -1 -1
                                             2 -1 -1  1  0 -1
                                            -1 -1 -1 -1 -1  0

The array is computed for one block of queries at a time, not as a whole.

The cache has one slot per position. A step reads what the row's segment wrote before
this chunk, attends to the chunk itself directly, and then writes the chunk's last segment
to the slots of its positions. A segment that begins at position 0 starts the row over:
slots of later positions are ignored.

Arrays have the heads axis before the tokens axis, as matrix products need it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windrow.models.layers import contract, soft_cap

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
    """An empty cache."""
    shape = (rows, layers, heads, slots, head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


class Sight(NamedTuple):
    """Which tokens of a batch see each other; ``int32[rows, length]`` each.

    Attributes:
        positions: Each token's position in its segment.
        segment_ids: Each token's segment; 0 is padding.
        reach: If given, a token is seen by the tokens from itself up to, but not
            including, this index; segment ids are then not needed.
    """

    positions: jax.Array
    segment_ids: jax.Array
    reach: jax.Array | None = None

    def gaps(self, queries: slice, keys: slice) -> jax.Array:
        """How many positions back the keys are, ``int32[rows, queries, keys]``; -1 if hidden."""
        gap = self.positions[:, queries, None] - self.positions[:, None, keys]
        if self.reach is None:
            seen = self.segment_ids[:, queries, None] == self.segment_ids[:, None, keys]
            return jnp.where(seen, jnp.maximum(gap, -1), -1)
        at = jnp.arange(self.positions.shape[1], dtype=jnp.int32)
        query = at[None, queries, None]
        seen = (at[None, None, keys] <= query) & (query < self.reach[:, None, keys])
        return jnp.where(seen, gap, -1)

    def slot_gaps(self, queries: slice, slots: int) -> jax.Array:
        """How many positions back the cache's slots are, ``int32[rows, queries, slots]``; -1 if hidden.

        Slots filled before this chunk are visible to tokens of the segment that the chunk begins with; all
        other segments begin within the chunk.
        """
        begun, filled = self._begun()
        before = jnp.where(self.segment_ids[:, queries] == begun, filled, 0)[:, :, None]
        slot = jnp.arange(slots, dtype=jnp.int32)[None, None, :]
        return jnp.where(slot < before, self.positions[:, queries, None] - slot, -1)

    def continues(self) -> jax.Array:
        """Whether any row continues a segment that earlier chunks began, a scalar."""
        return jnp.any(self._begun()[1] > 0)

    def _begun(self) -> tuple[jax.Array, jax.Array]:
        """The segment that each row begins with, and how many of its slots are filled; ``int32[rows, 1]``."""
        first = jnp.argmax(self.segment_ids > 0, axis=1, keepdims=True)
        segment, filled = (
            jnp.take_along_axis(part, first, axis=1) for part in (self.segment_ids, self.positions)
        )
        return segment, jnp.where(segment > 0, filled, 0)

    def blocks_seen(self, block: int) -> jax.Array:
        """``bool[blocks, blocks]``: which blocks of queries see which earlier blocks of keys, in any row."""
        assert self.reach is not None
        length = self.reach.shape[1]
        furthest = jnp.max(jnp.pad(self.reach, ((0, 0), (0, -length % block))), axis=0)
        furthest = jnp.max(furthest.reshape(-1, block), axis=1)
        begins = jnp.arange(furthest.shape[0], dtype=jnp.int32) * block
        return begins[:, None] < furthest[None, :]


def remember(
    cache: Cache, keys: jax.Array, values: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> Cache:
    """Writes a chunk's keys and values, ``[layers, rows, heads, length, head_dim]``, to the cache.

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
    sight: Sight,
    *,
    scale: float | jax.Array,
    window: jax.Array | None = None,
    cap: float | None = None,
    cached: Callable[[], tuple[jax.Array, jax.Array]] | None = None,
) -> jax.Array:
    """Softmax attention, with the softmax in float32.

    Long rows are processed in blocks of queries, each with the keys up to its end, so
    the full score matrix is not in memory at once, and about half of it is not computed.
    In tree rows, blocks of keys that no query of the block sees are skipped, as is the cache
    if all rows begin anew.

    Args:
        queries: ``[rows, heads, length, head_dim]``.
        keys: ``[rows, key_heads, length, head_dim]``; each serves ``heads / key_heads`` adjacent heads.
        values: ``[rows, key_heads, length, head_dim]``.
        sight: Which tokens see each other.
        scale: The factor for scores.
        window: How many positions a token sees, including itself; ``None`` for all.
        cap: If given, scores are ``cap * tanh(score / cap)``.
        cached: Gives one layer's keys and values of the cache, ``[rows, key_heads, slots, head_dim]``.

    Returns:
        ``[rows, heads, length, head_dim]``.
    """
    rows, heads, length, head_dim = queries.shape
    grouped = queries.reshape(rows, keys.shape[1], heads // keys.shape[1], length, head_dim)
    block = max(_BLOCK, -(-length // 8))
    seen = sight.blocks_seen(block) if sight.reach is not None and length > block else None
    # A single token nearly always continues something.
    continues = sight.continues() if cached is not None and length > 1 else None
    blocks = []
    for start in range(0, length, block):
        here = slice(start, start + block)
        look = partial(_look, grouped[:, :, :, here], scale, window, cap)
        from_here = partial(_look_back, look, keys, values, sight, here)
        mix = from_here(slice(0 if seen is None else start, start + block))
        if cached is not None:
            at_cache = partial(_look_at_cache, look, cached, sight, here)
            mix = mix.and_also(at_cache()) if continues is None else _mixed_if(continues, mix, at_cache)
        if seen is not None:
            for earlier in range(0, start, block):
                more = partial(from_here, slice(earlier, earlier + block))
                mix = _mixed_if(seen[start // block, earlier // block], mix, more)
        blocks.append(mix.whole(queries.dtype))
    return jnp.concatenate(blocks, axis=3).reshape(queries.shape)


class Mix(NamedTuple):
    """A partial softmax over some of the keys, with weights relative to the highest score.

    Attributes:
        best: ``float32[rows, key_heads, groups, queries, 1]``, the highest score.
        weight: The same shape, the sum of ``exp(score - best)``.
        values: ``float32[rows, key_heads, groups, queries, head_dim]``, the weighted sum of values.
    """

    best: jax.Array
    weight: jax.Array
    values: jax.Array

    def and_also(self, other: "Mix") -> "Mix":
        """Merges two partial softmaxes."""
        best = jnp.maximum(self.best, other.best)
        mine, others = jnp.exp(self.best - best), jnp.exp(other.best - best)
        return Mix(
            best, self.weight * mine + other.weight * others, self.values * mine + other.values * others
        )

    def whole(self, dtype: jnp.dtype) -> jax.Array:
        """The weighted mean of the values."""
        return (self.values / self.weight).astype(dtype)


def _look(
    queries: jax.Array,
    scale: float | jax.Array,
    window: jax.Array | None,
    cap: float | None,
    keys: jax.Array,
    values: jax.Array,
    gaps: jax.Array,
) -> Mix:
    seen = gaps >= 0 if window is None else (gaps >= 0) & (gaps < window)
    scores = contract("rkgqh,rksh->rkgqs", queries, keys) * scale
    scores = scores if cap is None else soft_cap(scores, cap)
    scores = jnp.where(seen[:, None, None], scores, _UNSEEN)
    best = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - best)
    mixed = contract("rkgqs,rksh->rkgqh", weights.astype(values.dtype), values)
    return Mix(best, jnp.sum(weights, axis=-1, keepdims=True), mixed)


def _look_back(
    look: Callable[..., Mix], keys: jax.Array, values: jax.Array, sight: Sight, here: slice, there: slice
) -> Mix:
    """The partial softmax over one block of keys."""
    return look(keys[:, :, there], values[:, :, there], sight.gaps(here, there))


def _look_at_cache(
    look: Callable[..., Mix], cached: Callable[[], tuple[jax.Array, jax.Array]], sight: Sight, here: slice
) -> Mix:
    """The partial softmax over the cache."""
    keys, values = cached()
    return look(keys, values, sight.slot_gaps(here, keys.shape[2]))


def _mixed_if(seen: jax.Array, mix: Mix, more: Callable[[], Mix]) -> Mix:
    """The softmax extended by more keys, which are only computed if any is visible."""
    mixed: Mix = jax.lax.cond(seen, lambda mix: mix.and_also(more()), lambda mix: mix, mix)
    return mixed
