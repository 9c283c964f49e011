"""The traced parts of forked states: running stems and branches from stored states.

The store's leaves have ``slots + 1`` rows for each group: the slots, and the empty state.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.scoring.chunks import state_alone, through_chunks
from windrow.scoring.program import read_scores

LAYOUT = ("length", "depth", "from_slot", "to_slot")
"""The columns of a batch's layout: the number of tokens of each row, and of those before them, the slot that
it starts from and the slot that its state is stored in."""


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
    """The store with the states of a batch of stems.

    Args:
        model: The model's functions.
        groups: The number of groups that rows and slots are split into.
        chunk: If given, how many columns run at a time, and only as many as the longest row needs.
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
    params: Any,
    store: Any,
    tokens: jax.Array,
    layout: jax.Array,
    pick_index: jax.Array,
    read_pick: jax.Array,
    read_target: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability and greedy flag of each read in a batch of branches.

    The arguments are those of :func:`run_stems` and :func:`windrow.scoring.program.score_batch`.
    """
    assert model.step is not None
    run = partial(model.step, params)
    source = _through(run, model, groups, chunk, store, tokens, layout)[1]
    return read_scores(model, params, source, pick_index, read_pick, read_target)


def _through(
    run: Any,
    model: LanguageModel,
    groups: int,
    chunk: int | None,
    store: Any,
    tokens: jax.Array,
    layout: jax.Array,
) -> tuple[Any, Any]:
    """The states and outputs of a batch's rows, from the states that they start from."""
    rows, length = tokens.shape
    columns = jax.lax.broadcasted_iota(jnp.int32, (rows, length), 1)
    positions = columns + layout[:, 1:2]
    segment_ids = (columns < layout[:, :1]).astype(jnp.int32)
    state = stored_states(store, layout[:, 2], groups)
    batch = tokens, positions, segment_ids
    used = None if chunk is None else jnp.max(layout[:, 0])
    return through_chunks(run, state, batch, model.room(length), chunk, used)


def stored_states(store: Any, slots: jax.Array, groups: int) -> Any:
    """The stored states of some rows, whose ``slots``, ``int32[rows]``, are numbered within their groups."""
    where = slots.reshape(groups, -1)

    def take(held: jax.Array) -> jax.Array:
        return jax.vmap(_take)(_grouped(held, groups), where).reshape(len(slots), *held.shape[1:])

    return jax.tree.map(take, store)


def store_states(store: Any, states: Any, slots: jax.Array, groups: int) -> Any:
    """The store with the states of some rows in their ``slots``; a slot beyond the last is nowhere."""
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
