"""Where rows live: each host's rows become global arrays under the caller's sharding.

Every host builds the same plan, so a host knows by itself which rows its devices
hold. It fills exactly those and hands them to
:func:`jax.make_array_from_callback`, which moves nothing between hosts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray


@dataclass(frozen=True)
class RowSharding:
    """How the rows of a batch are split over devices.

    The rows are split into ``groups`` equal, consecutive groups; each group lies
    on one device, or on several that hold copies of it (tensor parallelism).

    Attributes:
        sharding: The sharding of an array ``[rows, length]``.
    """

    sharding: NamedSharding

    @classmethod
    def over(cls, where: NamedSharding | Mesh | None = None) -> "RowSharding":
        """Rows under a given sharding, over all axes of a mesh, or over all devices.

        >>> RowSharding.over(Mesh(np.array(jax.devices()[:1]), ("data",))).groups
        1
        """
        if where is None:
            where = Mesh(np.array(jax.devices()), ("data",))
        if isinstance(where, Mesh):
            where = NamedSharding(where, PartitionSpec(where.axis_names))
        if not isinstance(where, NamedSharding):
            raise TypeError(
                f"sharding must be a jax.sharding.NamedSharding or Mesh, not {type(where).__name__}"
            )
        if len(where.spec) > 2:
            raise ValueError(f"sharding must be for [rows, length], but its spec {where.spec} has more axes")
        return cls(where)

    @cached_property
    def row_axes(self) -> tuple[str, ...]:
        """The mesh axes that rows are split over."""
        axes = self.sharding.spec[0] if len(self.sharding.spec) else None
        return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)

    @cached_property
    def groups(self) -> int:
        """Into how many groups the rows of a batch are split; rows must be a multiple of it."""
        return prod(self.sharding.mesh.shape[axis] for axis in self.row_axes)

    @cached_property
    def by_rows(self) -> NamedSharding:
        """The sharding of an array whose leading axis counts rows or groups and is the only one split."""
        return NamedSharding(self.sharding.mesh, PartitionSpec(self.row_axes or None))

    @cached_property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(self.sharding.mesh, PartitionSpec())

    def put_params(self, params: object) -> object:
        """The parameters on this mesh: leaves that lie elsewhere are copied to every device of it."""
        devices = self.sharding.device_set

        def put(leaf: object) -> object:
            if isinstance(leaf, jax.Array) and leaf.sharding.device_set == devices:
                return leaf
            return jax.device_put(leaf, self.replicated)

        return jax.tree.map(put, params)


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

    return jax.make_array_from_callback(shape, sharding, part)
