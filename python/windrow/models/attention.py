"""Attention within segments or prefix trees, and the key-value cache.

The cache has one slot per position. A step reads what the row's segment wrote before this chunk, attends to
the chunk directly, and then writes the chunk's last segment to the slots of its positions. A segment that
begins at position 0 starts the row over: slots of later positions are ignored.

The heads axis of arrays comes before the tokens axis, as matrix products need it.

On a single NVIDIA GPU, one kernel replaces the blocks; see :mod:`windrow.models.fused_attention`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windrow.models.fused_attention import fused_attention
from windrow.models.layers import contract, soft_cap
from windrow.models.reductions import highest, total
from windrow.models.sight import NO_SLOT, Sight
from windrow.sharding.platform import by_platform

_BLOCK, _BLOCK_ELSEWHERE = 64, 512
"""The minimum number of tokens in a block, on CPUs and elsewhere. Smaller blocks skip more, and their scores
stay in a CPU's cache: with 256, tree rows of 2,048 tokens took 1.5 times as long. But each block costs a few
dispatches. Measured on CPUs only."""

_MOST_BLOCKS, _MOST_BLOCKS_ELSEWHERE = 64, 16
"""The maximum number of blocks, on CPUs and elsewhere. More save little."""

_LONG = 512
"""Rows shorter than this are a single block: the loops would take longer to compile than they save."""

_FUSED = 32
"""The minimum number of tokens in a row that the kernel for GPUs takes."""

_CACHE_BLOCK = 256
"""The number of slots of the cache that are read at a time."""

_UNSEEN = float(np.finfo(np.float32).min)


class Cache(NamedTuple):
    """Keys and values, each ``[rows, layers, heads, slots, head_dim]``."""

    keys: jax.Array
    values: jax.Array


class CachedLayer(NamedTuple):
    """The keys and values of one layer.

    Attributes:
        cache: Those of all layers.
        layer: The layer's index, an ``int32`` scalar.
    """

    cache: Cache
    layer: jax.Array

    @property
    def slots(self) -> int:
        """The number of slots of each row."""
        return self.cache.keys.shape[3]

    def cut(self, start: int | jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        """Keys and values of ``size`` slots, ``[rows, heads, size, head_dim]``."""
        rows, _, heads, _, head_dim = self.cache.keys.shape
        starts, sizes = (0, self.layer, 0, start, 0), (rows, 1, heads, size, head_dim)
        keys, values = (jax.lax.dynamic_slice(part, starts, sizes)[:, 0] for part in self.cache)
        return keys, values


def empty_cache(rows: int, layers: int, heads: int, slots: int, head_dim: int, dtype: jnp.dtype) -> Cache:
    """An empty cache."""
    shape = (rows, layers, heads, slots, head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


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
    cached: CachedLayer | None = None,
) -> jax.Array:
    """Softmax attention, with the softmax in float32.

    Long rows are processed in blocks of queries, each with one block of keys at a time, so the scores
    of a whole row are never in memory. Blocks of keys that no query of the block sees are skipped, as are
    blocks of the cache that no row has filled.

    Args:
        queries: ``[rows, heads, length, head_dim]``.
        keys: ``[rows, key_heads, length, head_dim]``; each serves ``heads / key_heads`` adjacent heads.
        values: ``[rows, key_heads, length, head_dim]``.
        sight: Which tokens see each other.
        scale: The factor for scores.
        window: The number of positions that a token sees, including itself; ``None`` for all.
        cap: If given, scores are ``cap * tanh(score / cap)``.
        cached: The layer's cache, if there is one.

    Returns:
        ``[rows, heads, length, head_dim]``.
    """
    rows, heads, length, head_dim = queries.shape
    grouped = queries.reshape(rows, keys.shape[1], heads // keys.shape[1], length, head_dim)
    look = partial(_look, scale, window, cap)

    def and_the_cache(mix: Mix, queries: jax.Array, sight: Sight, start: int | jax.Array) -> Mix:
        return mix if cached is None else _and_cached(mix, look, cached, sight, queries, start)

    def whole(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        mix = look(queries, keys, values, sight.gaps(0, 0, length))
        return and_the_cache(mix, queries, sight, 0).whole()

    def in_blocks(least: int, most: int) -> Callable[..., jax.Array]:
        size = _block_size(length, least, most)
        return whole if size >= length else partial(_in_blocks, size, look, sight, and_the_cache)

    def fused(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        mix = _fused(queries, keys, values, sight, scale=scale, window=window, cap=cap)
        return and_the_cache(mix, queries, sight, 0).whole()

    cpu = in_blocks(_BLOCK, _MOST_BLOCKS)
    elsewhere = in_blocks(_BLOCK_ELSEWHERE, _MOST_BLOCKS_ELSEWHERE)
    implementations = {"cpu": cpu, "default": elsewhere}
    if length >= _FUSED and _on_one_gpu():
        implementations["cuda"] = _with_derivative_of(elsewhere, fused)
    parts = grouped, keys, values
    same = len(set(implementations.values())) == 1
    mixed: jax.Array = whole(*parts) if same else by_platform(*parts, **implementations)
    return mixed.reshape(queries.shape).astype(queries.dtype)


def _on_one_gpu() -> bool:
    """Whether a single GPU computes everything; a kernel cannot be split over several."""
    mesh = jax.sharding.get_abstract_mesh()
    count = jax.device_count() if mesh.empty else mesh.size
    return jax.default_backend() == "gpu" and count == 1


def _with_derivative_of(
    plain: Callable[..., jax.Array], kernel: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """The kernel, whose derivatives are those of a plain function that computes the same."""
    made = jax.custom_jvp(kernel)
    made.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return made


def _block_size(length: int, least: int, most: int) -> int:
    """The number of tokens in each block of a row, a multiple of 8; at least ``length`` for a single block.

    Args:
        length: The number of tokens in the row.
        least: The minimum number of tokens in a block.
        most: The maximum number of blocks.

    >>> [_block_size(length, 256, 16) for length in (100, 512, 1000, 8192)]
    [104, 256, 336, 512]
    """
    count = min(most, max(1, length // least)) if length >= _LONG else 1
    return -(-length // (8 * count)) * 8


def _in_blocks(
    size: int,
    look: Callable[..., "Mix"],
    sight: Sight,
    finish: Callable[["Mix", jax.Array, Sight, jax.Array], "Mix"],
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
) -> jax.Array:
    """Attention with one block of queries and of keys at a time."""
    length = queries.shape[3]
    padding = -length % size
    padded = sight.padded(padding)
    queries, keys, values = (
        jnp.pad(part, [*[(0, 0)] * (part.ndim - 2), (0, padding), (0, 0)]) for part in (queries, keys, values)
    )
    seen = padded.blocks_seen(size)

    def cut(array: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, start, size, axis=array.ndim - 2)

    def one(block: jax.Array) -> jax.Array:
        here = cut(queries, block * size)

        def look_back(mix: Mix, other: jax.Array) -> tuple[Mix, None]:
            def more() -> Mix:
                there, gaps = other * size, padded.gaps(block * size, other * size, size)
                return look(here, cut(keys, there), cut(values, there), gaps)

            return _mixed_if(seen[block, other], mix, more), None

        mix, _ = jax.lax.scan(look_back, Mix.of_nothing(here), jnp.arange(len(seen)))
        return finish(mix, here, padded, block * size).whole()

    mixed = jnp.moveaxis(jax.lax.map(one, jnp.arange(len(seen))), 0, 3)
    return mixed.reshape(queries.shape)[:, :, :, :length]


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

    @classmethod
    def of_nothing(cls, queries: jax.Array) -> "Mix":
        """The softmax over no keys, for queries ``[rows, key_heads, groups, queries, head_dim]``."""
        values = jnp.zeros_like(queries, jnp.float32)
        weight = values[..., :1]
        return cls(weight + _UNSEEN, weight, values)

    def and_also(self, other: "Mix") -> "Mix":
        """Merges two partial softmaxes."""
        best = jnp.maximum(self.best, other.best)
        mine, others = jnp.exp(self.best - best), jnp.exp(other.best - best)
        return Mix(
            best, self.weight * mine + other.weight * others, self.values * mine + other.values * others
        )

    def whole(self) -> jax.Array:
        """The weighted mean of the values."""
        return self.values / self.weight


def _fused(queries: jax.Array, keys: jax.Array, values: jax.Array, sight: Sight, **options: Any) -> Mix:
    """The partial softmax of all queries over all keys, in one kernel.

    Args:
        queries: ``[rows, key_heads, groups, length, head_dim]``.
        keys: ``[rows, key_heads, length, head_dim]``.
        values: The same shape.
        sight: Which tokens see each other.
        options: Those of :func:`windrow.models.fused_attention.fused_attention`.
    """
    rows, key_heads, groups, length, head_dim = queries.shape
    heads = queries.reshape(rows, key_heads * groups, length, head_dim)
    best, weight, mixed = fused_attention(
        heads, keys, values, sight.reach_or_ends(), sight.positions, **options
    )
    shape = *queries.shape[:-1], 1
    return Mix(best.reshape(shape), weight.reshape(shape), mixed.reshape(queries.shape))


def _look(
    scale: float | jax.Array,
    window: jax.Array | None,
    cap: float | None,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    gaps: jax.Array,
) -> Mix:
    """The partial softmax of queries over some keys."""
    seen = gaps >= 0 if window is None else (gaps >= 0) & (gaps < window)
    scores = _products(queries, keys) * scale
    scores = scores if cap is None else soft_cap(scores, cap)
    scores = jnp.where(seen[:, None, None], scores, _UNSEEN)
    best = highest(scores)
    weights = jnp.exp(scores - best)
    mixed = contract("rkgqs,rksh->rkgqh", weights.astype(values.dtype), values)
    return Mix(best, total(weights), mixed)


def _products(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """Each query's products with the keys, ``float32[rows, key_heads, groups, queries, keys]``.

    For a few queries per key head, as when one token is generated, CPUs compute ``keys @ queries.T`` up to
    three times as fast (64 key heads with 4 queries each and 640 keys of 64: 2.6 instead of 7.7 ms).
    """
    product = partial(contract, "rkgqh,rksh->rkgqs")
    if queries.shape[3] > 1 or queries.shape[2] == 1:
        return product(queries, keys)

    def swapped(queries: jax.Array, keys: jax.Array) -> jax.Array:
        products = contract("rksh,rkgqh->rksgq", keys, queries)
        # Without the barrier, XLA swaps the operands back.
        return jnp.einsum("rksgq->rkgqs", jax.lax.optimization_barrier(products))

    products: jax.Array = by_platform(queries, keys, cpu=swapped, default=product)
    return products


def _and_cached(
    mix: Mix,
    look: Callable[..., Mix],
    cached: CachedLayer,
    sight: Sight,
    queries: jax.Array,
    start: int | jax.Array,
) -> Mix:
    """The softmax extended by the cache, one block of filled slots at a time.

    A single token reads all slots at once: it nearly always continues something.
    """
    count = queries.shape[3]
    size = cached.slots if count == 1 else min(cached.slots, _CACHE_BLOCK)

    def more(block: int | jax.Array, mix: Mix) -> Mix:
        begin = jnp.minimum(block * size, cached.slots - size)
        slots = begin + jnp.arange(size, dtype=jnp.int32)
        slots = jnp.where(slots < block * size, NO_SLOT, slots)  # those that the last block repeats
        keys, values = cached.cut(begin, size)
        return mix.and_also(look(queries, keys, values, sight.slot_gaps(start, count, slots)))

    if count == 1:
        return more(0, mix)
    extended: Mix = jax.lax.fori_loop(0, -(-sight.filled() // size), more, mix)
    return extended


def _mixed_if(seen: jax.Array, mix: Mix, more: Callable[[], Mix]) -> Mix:
    """Extends the softmax by more keys, which are only computed if any is visible."""
    mixed: Mix = jax.lax.cond(seen, lambda mix: mix.and_also(more()), lambda mix: mix, mix)
    return mixed
