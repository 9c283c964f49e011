"""The traced part of scoring: turns a batch's arrays into two numbers per scored token.

Scores are computed on the devices that hold the logits. The scored positions of a batch are picked, and their
logits are computed one chunk at a time, reduced to a log-sum-exp and an arg-max in float32, and read at each
scored token.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.scoring.chunks import through_chunks
from windrow.sharding.platform import by_platform

CHUNK_BYTES = 1 << 26
"""The number of bytes of float32 logits that are computed at a time for each group of rows."""

CACHED_TOKENS = 2048
"""The number of tokens that a CPU computes at a time. The activations of that many fit in its caches:
with 8,192, a model of width 96 took 1.2 times as long on two cores."""

MOST_PICKS = 512
"""The maximum number of positions that the head processes at a time, so batches with few scored positions
cost little."""

CACHED_BYTES, CACHED_PICKS = 1 << 20, 64
"""The number of bytes of logits that a CPU computes at a time, or else the number of positions, if that is
more: each time, all weights of the head are read. Logits are read several times, which takes much longer if
they do not fit in a core's cache: 8 MiB took a model of width 96 half as long again for a whole run."""

READS_TOGETHER = 512
"""The number of reads that a CPU looks at together for the picks of a chunk; see :func:`reads_together`."""


def row_layout(layout: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """Positions and segment ids, ``int32[rows, length]`` each, from the compact form that hosts send.

    Args:
        layout: Row lengths ``int32[rows]`` if each row holds one segment, segment ids
            ``int32[rows, length]`` if rows are packed.
        length: The batch's padded length.

    >>> positions, segment_ids = row_layout(jnp.array([[1, 1, 2, 2, 0]]), 5)
    >>> positions.tolist(), segment_ids.tolist()
    ([[0, 1, 0, 1, 0]], [[1, 1, 2, 2, 0]])
    >>> positions, segment_ids = row_layout(jnp.array([2, 0]), 3)
    >>> positions.tolist(), segment_ids.tolist()
    ([[0, 1, 2], [0, 1, 2]], [[1, 1, 0], [0, 0, 0]])
    """
    columns = jax.lax.broadcasted_iota(jnp.int32, (layout.shape[0], length), 1)
    if layout.ndim == 1:
        return columns, (columns < layout[:, None]).astype(jnp.int32)
    before = jnp.pad(layout[:, :-1], ((0, 0), (1, 0)))
    starts = jax.lax.cummax(jnp.where(layout != before, columns, 0), axis=1)
    return columns - starts, layout


def score_batch(
    model: LanguageModel,
    chunk_length: int | None,
    together: int,
    platform: str,
    params: Any,
    tokens: jax.Array,
    layout: jax.Array | tuple[jax.Array, ...],
    pick_index: jax.Array,
    read_pick: jax.Array,
    read_target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The log-probability and greedy flag of each read; traced once per shape.

    Args:
        model: The model's functions.
        chunk_length: If given, rows run through ``step`` in chunks of this many tokens.
        together: How many rows the forward pass computes at a time; see :func:`rows_together`.
        platform: The platform of the devices, such as ``"cpu"``.
        params: The model's parameters.
        tokens: ``int32[rows, length]``.
        layout: See :func:`row_layout`; for tree rows, segment ids, positions and reach,
            ``int32[rows, length]`` each.
        pick_index: ``int32[groups, picks]``, the scored positions, as indices into each
            group's flattened rows.
        read_pick: ``int32[groups, reads]``, the pick at which each scored token is read.
        read_target: ``int32[groups, reads]``, the scored token.

    Returns:
        ``float32[groups, reads]`` and ``bool[groups, reads]``; values beyond a group's own reads have no
        meaning.
    """
    if isinstance(layout, tuple):
        segment_ids, positions, reach = layout
    else:
        (positions, segment_ids), reach = row_layout(layout, tokens.shape[1]), None
    if chunk_length is None:
        source = _forward(model, params, together, (tokens, positions, segment_ids, reach))
    else:
        source = _by_chunks(model, params, tokens, positions, segment_ids, chunk_length)
    return read_scores(model, platform, params, source, pick_index, read_pick, read_target)


def reads_together(reads: int, platform: str) -> int:
    """How many of a group's reads a program reads at a time.

    After the logits of each chunk of picks, other devices go through all reads, which costs them less than
    another loop. On a CPU that would take longer than a small model, so blocks of reads without a pick in the
    chunk are passed over.

    >>> reads_together(16384, "cpu"), reads_together(16384, "gpu")
    (512, 16384)
    """
    return min(reads, READS_TOGETHER) if platform == "cpu" else reads


def picks_together(picks: int, vocab: int, platform: str) -> int:
    """How many positions of a group the head processes at a time.

    >>> [picks_together(16384, vocab, "cpu") for vocab in (512, 4096, 50257)]
    [512, 64, 64]
    >>> [picks_together(16384, vocab, "gpu") for vocab in (512, 4096, 50257)]
    [512, 512, 333]
    """
    fit = min(MOST_PICKS, max(1, CHUNK_BYTES // (4 * vocab)))
    if platform == "cpu":
        fit = min(fit, max(CACHED_PICKS, CACHED_BYTES // (4 * vocab)))
    return min(picks, fit)


def rows_together(rows: int, length: int) -> int:
    """How many of a batch's rows a CPU computes at a time: a divisor of ``rows``.

    >>> [rows_together(*shape) for shape in ((8, 1024), (1, 8192), (37, 220), (16, 64))]
    [2, 1, 37, 16]
    """
    fits = [
        count
        for count in range(1, rows)
        if rows % count == 0
        and count * length >= CACHED_TOKENS // 2
        and (count * length <= CACHED_TOKENS or count == 1)
    ]
    return max(fits, default=rows)


def _forward(
    model: LanguageModel, params: Any, together: int, batch: tuple[jax.Array | None, ...]
) -> jax.Array:
    """The forward pass, ``[rows, length, size]``, of ``together`` rows at a time.

    If that is not all of them, rows without a segment are skipped.
    """

    @jax.jit  # so that it is traced only once
    def run(part: Any) -> jax.Array:
        return model.run(params, *part)

    def run_unless_empty(part: Any) -> jax.Array:
        outputs = jax.eval_shape(run, part)
        segment_ids = part[2]
        # Not jnp.any: XLA's CPU compiler unrolls that into a seventh of the whole program.
        result: jax.Array = jax.lax.cond(
            jnp.max(segment_ids) > 0, run, lambda _: jnp.zeros(outputs.shape, outputs.dtype), part
        )
        return result

    assert batch[0] is not None
    rows = len(batch[0])
    if together == rows:
        whole: jax.Array = run(batch)
        return whole
    parts = jax.tree.map(lambda array: array.reshape(-1, together, *array.shape[1:]), batch)
    source: jax.Array = jax.lax.map(run_unless_empty, parts)
    return source.reshape(rows, *source.shape[2:])


def read_scores(
    model: LanguageModel,
    platform: str,
    params: Any,
    source: jax.Array,
    pick_index: jax.Array,
    read_pick: jax.Array,
    read_target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The log-probability and greedy flag of each read, from the head's inputs or the logits.

    Args:
        model: The model's functions.
        platform: The platform of the devices, such as ``"cpu"``.
        params: The model's parameters.
        source: The head's input, or the logits if the model has no ``head``: ``[rows, length, size]``.
        pick_index: See :func:`score_batch`.
        read_pick: The pick at which each scored token is read.
        read_target: The scored token.
    """
    head = partial(model.head, params) if model.head is not None else _logits_as_they_are
    (groups, picks), reads = pick_index.shape, read_pick.shape[1]
    source = source.reshape(groups, -1, source.shape[-1])
    vocab = jax.eval_shape(head, jax.ShapeDtypeStruct((groups, source.shape[-1]), source.dtype)).shape[-1]
    chunk, block = picks_together(picks, vocab, platform), reads_together(reads, platform)
    pick_index = _padded(pick_index, chunk)
    read_pick, read_target = _padded(read_pick, block), _padded(read_target, block)
    chunks, following = _blocks_of_chunks(read_pick, pick_index.shape[1], chunk, block)

    def reduce_chunk(number: jax.Array, scores: Scored) -> Scored:
        first = number * chunk
        index = jax.lax.dynamic_slice_in_dim(pick_index, first, chunk, axis=1)
        picked = jnp.take_along_axis(source, index[:, :, None], axis=1)
        logits = head(picked.reshape(groups * chunk, -1)).reshape(groups, chunk, vocab)
        read = _reader(logits)

        def read_block(at: jax.Array, scores: Scored) -> Scored:
            here, target, *known = (
                jax.lax.dynamic_slice_in_dim(array, at * block, block, axis=1)
                for array in (read_pick, read_target, *scores)
            )
            here -= first
            inside = (here >= 0) & (here < chunk)
            found = read(jnp.where(inside, here, 0), target)
            logprobs, greedy = (
                jax.lax.dynamic_update_slice_in_dim(whole, jnp.where(inside, new, old), at * block, axis=1)
                for whole, new, old in zip(scores, found, known, strict=True)
            )
            return logprobs, greedy

        return _through_blocks(following[number], read_block, scores)

    nothing = jnp.zeros(read_pick.shape, jnp.float32), jnp.zeros(read_pick.shape, jnp.bool_)
    logprobs, greedy = jax.lax.fori_loop(0, chunks, reduce_chunk, nothing)
    return logprobs[:, :reads], greedy[:, :reads]


Scored = tuple[jax.Array, jax.Array]
"""The log-probability and greedy flag of each read."""


def _padded(array: jax.Array, multiple: int) -> jax.Array:
    """An array whose second axis is padded with zeros to a multiple."""
    return jnp.pad(array, ((0, 0), (0, -array.shape[1] % multiple)))


def _blocks_of_chunks(
    read_pick: jax.Array, picks: int, chunk: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """The number of chunks with a read, and which blocks of reads have one in each chunk.

    A block is given to every chunk from the first to the last that it has a read in, in any group.

    Args:
        read_pick: ``int32[groups, reads]``.
        picks: The number of picks in each group.
        chunk: The number of picks in a chunk, a divisor of ``picks``.
        block: The number of reads in a block, a divisor of ``reads``.

    Returns:
        The number of chunks, and ``int32[picks / chunk, blocks + 1]``: from each block on, the first one of
        the chunk, or ``blocks``.
    """
    of_block = read_pick.reshape(len(read_pick), -1, block)
    blocks = of_block.shape[1]
    last, negated = jnp.stack([of_block.max(axis=2), -of_block.min(axis=2)]).max(axis=1)[:, None]
    first, last = -negated // chunk, last // chunk
    number, at = (jnp.arange(count, dtype=jnp.int32) for count in (picks // chunk, blocks))
    is_of_chunk = (first <= number[:, None]) & (number[:, None] <= last)
    own = jnp.where(is_of_chunk, at[None], blocks)
    following = jax.lax.cummin(own, axis=1, reverse=True)
    return jnp.max(last) + 1, jnp.pad(following, ((0, 0), (0, 1)), constant_values=blocks)


def _through_blocks(
    following: jax.Array, run: Callable[[jax.Array, Scored], Scored], scores: Scored
) -> Scored:
    """Runs the blocks of a chunk, one after another; see :func:`_blocks_of_chunks`."""
    blocks = len(following) - 1
    if blocks == 1:
        return run(jnp.int32(0), scores)

    def step(state: tuple[jax.Array, Scored]) -> tuple[jax.Array, Scored]:
        at, scores = state
        return following[at + 1], run(at, scores)

    done: tuple[jax.Array, Scored] = jax.lax.while_loop(
        lambda state: state[0] < blocks, step, (following[0], scores)
    )
    return done[1]


def _by_chunks(
    model: LanguageModel,
    params: Any,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    chunk_length: int,
) -> jax.Array:
    """The outputs of ``step``, ``[rows, length, width]``: the input of ``head``, or else logits."""
    rows, length = tokens.shape
    assert model.step is not None
    state, batch = model.state_for(params, rows, length), (tokens, positions, segment_ids)
    columns = jax.lax.broadcasted_iota(jnp.int32, (rows, length), 1)
    used = jnp.max(jnp.where(segment_ids > 0, columns + 1, 0))
    step = partial(model.step, params)
    outputs: jax.Array = through_chunks(step, state, batch, model.room(length), chunk_length, used)[1]
    return outputs


def _logits_as_they_are(picked: jax.Array) -> jax.Array:
    return picked


def _reader(logits: jax.Array) -> Callable[[jax.Array, jax.Array], Scored]:
    """Reads of the picks with these logits, ``[groups, picks, vocab]``."""
    logits = logits.astype(jnp.float32)
    # Columns of several devices' logits would first be copied side by side.
    on_cpu = _by_columns if len(logits) == 1 else _by_rows
    reduce = partial(by_platform, cpu=on_cpu, default=_by_rows)
    normalizer, best = jax.vmap(reduce)(logits)
    # A logit of plus infinity makes probabilities undefined. Minus infinity is a masked token.
    normalizer = jnp.where(normalizer == jnp.inf, jnp.nan, normalizer)

    def read(
        logits: jax.Array, normalizer: jax.Array, best: jax.Array, pick: jax.Array, target: jax.Array
    ) -> Scored:
        return logits[pick, target] - normalizer[pick], best[pick] == target

    return partial(jax.vmap(read), logits, normalizer, best)


def _by_rows(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each row's log-sum-exp and arg-max."""
    return jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _by_columns(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same as :func:`_by_rows` with rows side by side, which takes half the time on CPUs.

    On CPUs, XLA reduces a leading axis with vector instructions, but the last axis one number at a time.
    """
    columns = logits.T
    highest = jnp.max(columns, axis=0, keepdims=True)
    finite = jnp.where(jnp.isfinite(highest), highest, 0)
    sums = jnp.sum(jnp.exp(columns - finite), axis=0)
    tokens = jax.lax.broadcasted_iota(jnp.int32, columns.shape, 0)
    best = jnp.min(jnp.where(columns == highest, tokens, len(columns)), axis=0)
    return jnp.log(sums) + finite[0], best
