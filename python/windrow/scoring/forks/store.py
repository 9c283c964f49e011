"""Determines how many states fit in a store, and whether a model's states can be used."""

from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from windrow.model import LanguageModel
from windrow.scoring.mistakes import summary
from windrow.sharding import RowSharding
from windrow.sizing.memory import DeviceMemory

STORE_BYTES = 1 << 28
"""The maximum size of a group's store in bytes, if batches are not sized to fit in memory."""

STORE_SHARE = 4
"""If they are, a store takes at most 1 / ``STORE_SHARE`` of the planned memory."""


def most_slots(
    model: LanguageModel, params: Any, sharding: RowSharding, length: int, memory: DeviceMemory | None = None
) -> int:
    """The maximum number of states of rows of ``length`` tokens in a group's store, at least 1.

    Args:
        model: The model's functions.
        params: Its parameters, or their shapes.
        sharding: How rows are split.
        length: The length of the longest row.
        memory: The device memory that batches are sized to fit in; ``None`` if they are not.
    """
    groups = sharding.groups
    state = jax.eval_shape(lambda params: model.state_for(params, groups, length), params)
    leaves = jax.tree.leaves(state)
    each = sum(int(prod(leaf.shape)) * int(leaf.dtype.itemsize) for leaf in leaves) // groups
    if memory is None:
        return max(1, STORE_BYTES // max(1, each))
    held = groups if memory.platform == "cpu" else 1
    return max(1, memory.room // STORE_SHARE // max(1, each * held))


def refused_state(model: LanguageModel, params: Any, shape: tuple[int, int], room: int) -> str | None:
    """Why ``step`` rejects rows of this shape and a state with this much room; ``None`` if it accepts them.

    ``step`` is only traced, not run.

    Args:
        model: The model's functions.
        params: Its parameters, or their shapes.
        shape: Rows and length.
        room: The number of tokens that the state must have room for.
    """
    step = model.step
    assert step is not None

    def run(params: Any, *batch: jax.Array) -> Any:
        return step(params, model.state_for(params, shape[0], room), *batch)

    try:
        jax.eval_shape(run, params, *[jax.ShapeDtypeStruct(shape, jnp.int32)] * 3)
    except Exception as error:  # anything that the model's functions raise
        return summary(error)
    return None
