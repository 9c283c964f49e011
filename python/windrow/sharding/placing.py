"""From a host's memory to global arrays, nothing moving between hosts."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from numpy.typing import NDArray


def place(
    shape: tuple[int, ...], sharding: NamedSharding, fill: Callable[[int, int], NDArray[np.generic]]
) -> jax.Array:
    """A global array of which this host fills only what its devices hold.

    Args:
        shape: The global shape.
        sharding: Its sharding.
        fill: ``fill(start, stop)`` gives a new array with ``start:stop`` of the
            leading axis and all of the others. It is called once for each
            distinct range, however many devices hold it, and what it returns
            must not be written again: JAX may use that memory as it is.
    """
    filled: dict[tuple[int, int], NDArray[np.generic]] = {}

    def part(index: tuple[slice, ...] | None) -> NDArray[np.generic]:
        assert index is not None
        start, stop, _ = index[0].indices(shape[0])
        if (start, stop) not in filled:
            filled[start, stop] = fill(start, stop)
        return filled[start, stop][(slice(None), *index[1:])]

    return from_host(shape, sharding, part)


def from_host(
    shape: tuple[int, ...],
    sharding: NamedSharding,
    part: Callable[[tuple[slice, ...] | None], Any],
) -> jax.Array:
    """``jax.make_array_from_callback``, as the explicit transfer that it is under ``jax.transfer_guard``."""
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_callback(shape, sharding, part)
