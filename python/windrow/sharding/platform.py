"""Chooses among implementations of one computation, each faster on some platforms."""

from collections.abc import Callable
from typing import Any

import jax


def by_platform(*arguments: Any, default: Callable[..., Any], **others: Callable[..., Any]) -> Any:
    """``jax.lax.platform_dependent``, but without accelerators only the implementation for CPUs is traced.

    Tracing and lowering the others can take up to half of the time that a model takes.

    Args:
        arguments: Arrays.
        default: Computes the result on platforms that are not named.
        others: Compute it on particular platforms, such as ``cpu`` and ``cuda``.

    Returns:
        The result, as computed for the platform that runs the program.

    >>> int(by_platform(jax.numpy.int32(3), default=lambda x: x + x, tpu=lambda x: 2 * x))
    6
    """
    if jax.default_backend() == "cpu":
        return others.get("cpu", default)(*arguments)
    return jax.lax.platform_dependent(*arguments, default=default, **others)
