"""Runs a model's functions on the caller's mesh, with explicit or automatic axes, whichever the model needs.

windrow traces its own code with automatic axes: the compiler places intermediate arrays. A model written for
explicit axes (``out_sharding=``, ``jax.sharding.reshard``) needs a mesh with explicit axes, so each of its
functions is wrapped in :func:`jax.sharding.explicit_axes`. Parameters and rows keep their shardings, and a
state keeps the sharding that ``init_state`` gave it.

The axes of ``jax.make_mesh`` are explicit by default, but most models are not written for them. So the
functions are traced with explicit axes first; if that fails, automatic axes are used, provided they work. The
results are the same.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import jax
from jax.sharding import PartitionSpec, reshard

from windrow.model import LanguageModel
from windrow.scoring.contract import vocabulary
from windrow.sharding import RowSharding
from windrow.sizing.policy import BatchPolicy


def tried(
    model: LanguageModel, params: Any, sharding: RowSharding, policy: BatchPolicy
) -> tuple[LanguageModel, int]:
    """The model's functions, without parameters, for use under ``sharding.mesh``, and its vocabulary size.

    Args:
        model: The model.
        params: Its parameters on ``sharding.mesh``.
        sharding: How rows are split.
        policy: How batches will be planned; functions are traced in a shape that it allows.

    Raises:
        TypeError, ValueError: See :func:`windrow.scoring.contract.vocabulary`.
    """
    rows, length = policy.sample_shape(sharding.groups, model.max_length)
    # With a single row, a function that returns one row for any number of rows would go unnoticed.
    shape = (2 if rows == 1 and policy.batch_size is None else rows, length)

    def on(functions: LanguageModel) -> tuple[LanguageModel, int]:
        with jax.set_mesh(sharding.mesh):
            return functions, vocabulary(functions, params, shape, sharding.groups)

    automatic = replace(model, params=None)
    if not sharding.explicit:
        return on(automatic)
    try:
        return on(on_own_axes(model, params, sharding))
    except Exception as error:
        try:
            return on(automatic)
        except Exception:
            raise error from None


def on_own_axes(model: LanguageModel, params: Any, sharding: RowSharding) -> LanguageModel:
    """The model's functions wrapped for explicit axes, for use under ``sharding.mesh``."""
    axes, rows = sharding.explicit, _only(sharding.by_rows.spec, sharding.explicit)
    batch = (_only(sharding.sharding.spec, axes),) * 3
    placed = jax.tree.map(lambda leaf: _only(_spec(leaf), axes), params)

    def entered(function: Callable[..., Any], *specs: Any) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            arrays = {name: value for name, value in named.items() if isinstance(value, jax.Array)}

            def inside(arrays: dict[str, jax.Array], *first: Any) -> Any:
                return function(*first, *arguments[len(specs) :], **{**named, **arrays})

            enter = jax.sharding.explicit_axes(inside, axes=axes, in_sharding=(batch[0], *specs))
            return enter(arrays, *arguments[: len(specs)])

        return call

    def step(params: Any, state: Any, tokens: jax.Array, *others: jax.Array) -> Any:
        assert model.step is not None
        first = jax.eval_shape(lambda params: model.state_for(params, *tokens.shape), params)
        state = jax.tree.map(lambda leaf, as_made: reshard(leaf, _state_spec(as_made, rows)), state, first)
        return model.step(params, state, tokens, *others)

    return replace(
        model,
        params=None,
        apply=entered(model.apply, placed, *batch),
        hidden=model.hidden and entered(model.hidden, placed, *batch),
        head=model.head and entered(model.head, placed, rows),
        init_state=model.init_state and entered(model.init_state, placed),
        step=model.step and entered(step, placed, rows, *batch),
    )


def _spec(leaf: jax.Array) -> PartitionSpec:
    spec = getattr(leaf.sharding, "spec", None)
    return spec if isinstance(spec, PartitionSpec) else PartitionSpec()


def _only(spec: PartitionSpec, axes: tuple[str, ...]) -> PartitionSpec:
    """The spec reduced to explicit mesh axes; the compiler handles the others."""

    def kept(entry: Any) -> Any:
        names = (entry,) if isinstance(entry, str) else tuple(entry or ())
        return tuple(name for name in names if name in axes) or None

    return PartitionSpec(*map(kept, spec))


def _state_spec(leaf: Any, rows: PartitionSpec) -> PartitionSpec:
    """The spec of a state leaf: as ``init_state`` made it, with its rows split like all rows."""
    return PartitionSpec(*rows, *tuple(leaf.sharding.spec)[1:])
