"""Checks that parameters have values."""

from typing import Any

import jax


def check_alive(params: Any) -> None:
    """Rejects parameters without values: deleted arrays, and those of a function that JAX is tracing.

    Raises:
        TypeError: A leaf is being traced; the message names it.
        ValueError: A leaf has been deleted; the message names it.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                f"{name_of(path)} has no values yet, because JAX is tracing the function that it comes from; "
                "create the model and call windrow outside jax.jit and similar functions"
            )
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise ValueError(
                f"{name_of(path)} has been deleted: it was donated to a compiled function (donate_argnums), "
                "such as a training step, or delete() was called on it; create a new model from the "
                "current parameters"
            )


def name_of(path: tuple[Any, ...]) -> str:
    """A leaf of the parameters as Python would write it: ``params['layers'][0]``."""
    return f"params{jax.tree_util.keystr(path)}"
