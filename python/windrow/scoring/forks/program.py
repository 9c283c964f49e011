"""The traced functions of forked states: they run stems and branches from stored states.

The store's leaves have ``slots + 1`` rows per group: the slots, and the empty state.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.scoring.chunks import state_alone, through_chunks
from windrow.scoring.program import read_scores

LAYOUT = ("length", "depth", "from_slot", "to_slot")
"""The columns of a batch's layout: each row's number of tokens, the number of tokens that precede them in its
input, the slot that the row starts from, and the slot that its state goes to."""


def empty_store(model: LanguageModel, groups: int, slots: int, room: int, params: Any) -> Any:
    """A store in which every slot holds the empty state."""
    return model.state_for(params, groups * (slots + 1), room)


def run_stems(
    model: LanguageModel,
    groups: int,
    chunk: int | None,
    params: Any,
    store: Any,
    tokens: jax.Array,
    layout: jax.Array,
) -> Any:
    """Runs a batch of stems, and returns the store with their states.

    Args:
        model: The model's functions.
        groups: The number of groups that rows and slots are split into.
        chunk: How many columns run at a time, up to the end of the longest row; ``None`` to run all columns
            at once.
        params: The model's parameters.
        store: The stored states.
        tokens: ``int32[rows, length]``.
        layout: ``int32[rows, 4]``, see :data:`LAYOUT`; slots are numbered within the row's group.
    """
    assert model.step is not None
    run = state_alone(partial(model.step, params))
    after, _ = _through(run, model, groups, chunk, store, tokens, layout)
    return store_states(store, after, layout[:, 3], groups)


def run_branches(
    model: LanguageModel,
    groups: int,
    chunk: int | None,
    platform: str,
    params: Any,
    store: Any,
    tokens: jax.Array,
    layout: jax.Array,
    pick_index: jax.Array,
    read_pick: jax.Array,
    read_target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs a batch of branches, and returns the log-probability and the greedy flag of each read.

    The arguments are those of :func:`run_stems` and :func:`windrow.scoring.program.score_batch`.
    """
    assert model.step is not None
    run = partial(model.step, params)
    source = _through(run, model, groups, chunk, store, tokens, layout)[1]
    return read_scores(model, platform, params, source, pick_index, read_pick, read_target)


def _through(
    run: Any,
    model: LanguageModel,
    groups: int,
    chunk: int | None,
    store: Any,
    tokens: jax.Array,
    layout: jax.Array,
) -> tuple[Any, Any]:
    """The states after a batch's rows, and the outputs of ``step`` for their columns."""
    rows, length = tokens.shape
    columns = jax.lax.broadcasted_iota(jnp.int32, (rows, length), 1)
    positions = columns + layout[:, 1:2]
    segment_ids = (columns < layout[:, :1]).astype(jnp.int32)
    state = stored_states(store, layout[:, 2], groups)
    batch = tokens, positions, segment_ids
    used = None if chunk is None else jnp.max(layout[:, 0])
    return through_chunks(run, state, batch, model.room(length), chunk, used)


def stored_states(store: Any, slots: jax.Array, groups: int) -> Any:
    """The states in ``slots``, ``int32[rows]``, which are numbered within each row's group."""
    where = slots.reshape(groups, -1)

    def take(held: jax.Array) -> jax.Array:
        return jax.vmap(_take)(_grouped(held, groups), where).reshape(len(slots), *held.shape[1:])

    return jax.tree.map(take, store)


def store_states(store: Any, states: Any, slots: jax.Array, groups: int) -> Any:
    """The store with the rows' states in ``slots``; an index past the end is ignored."""
    where = slots.reshape(groups, -1)

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        held, rows = (_grouped(part, groups) for part in (old, new.astype(old.dtype)))
        return jax.vmap(_put)(held, rows, where).reshape(old.shape)

    return jax.tree.map(put, store, states)


def _grouped(array: jax.Array, groups: int) -> jax.Array:
    """An array of rows, reshaped to ``[groups, rows / groups, …]``."""
    return array.reshape(groups, len(array) // groups, *array.shape[1:])


def _take(held: jax.Array, which: jax.Array) -> jax.Array:
    return held.at[which].get(mode="clip")


def _put(held: jax.Array, rows: jax.Array, where: jax.Array) -> jax.Array:
    return held.at[where].set(rows, mode="drop")
