"""Turns host memory into global arrays, without communication between hosts."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray


def place(
    shape: tuple[int, ...], sharding: NamedSharding, fill: Callable[[int, int], NDArray[np.generic]]
) -> jax.Array:
    """Makes a global array; this host fills only the parts that its devices hold.

    Args:
        shape: The global shape.
        sharding: The array's sharding.
        fill: ``fill(start, stop)`` returns a new array with ``start:stop`` of the leading axis and all of the
            others. It is called once per distinct range, no matter how many devices hold it. Its result must
            not be modified: JAX may alias it.
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
    """``jax.make_array_from_callback``, allowed by ``jax.transfer_guard`` like other explicit transfers."""
    with jax.transfer_guard_host_to_device("allow"):
        return jax.make_array_from_callback(shape, sharding, part)


def start_devices(mesh: Mesh) -> None:
    """Starts an accelerator's allocator and compiler on another thread, while this one reads files.

    Both take about a second on a GPU, when the first array and the first program arrive. CPUs have nothing
    to start.
    """
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        return

    def first_program() -> None:
        numbers = jax.device_put(np.ones((128, 128), np.float32), device)
        jax.block_until_ready(jax.jit(lambda numbers: numbers @ numbers)(numbers))

    Thread(target=first_program, name="windrow-start").start()
