"""Where rows live: each host's rows become global arrays under the caller's sharding.

Every host builds the same plan, so a host knows by itself which rows its devices
hold. It fills exactly those and hands them to
:func:`jax.make_array_from_callback`, which moves nothing between hosts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
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

        The devices may be in any order. Axes that are explicit, as those of
        ``jax.make_mesh`` are by default, are taken as automatic ones of the same devices.

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
        return cls(NamedSharding(_automatic(where.mesh), where.spec))

    @cached_property
    def mesh(self) -> Mesh:
        """The mesh of devices, whose axes are all automatic."""
        return _automatic(self.sharding.mesh)

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
        """The parameters on this mesh: leaves of one device, and NumPy's, are copied to every device of it.

        Leaves that lie on the mesh's devices stay as they are, without a copy. NumPy arrays are always
        copied, so they may be overwritten afterwards.

        Raises:
            ValueError: A leaf lies on several devices that are not the mesh's, or has been deleted.
        """
        check_alive(params)
        return jax.tree.map_with_path(self._put, params)

    def _put(self, path: tuple[Any, ...], leaf: object) -> object:
        if isinstance(leaf, np.ndarray):
            leaf = leaf.copy()  # JAX on the CPU may use NumPy's memory as it is
        if not isinstance(leaf, jax.Array):
            return jax.device_put(leaf, self.replicated)
        lies = leaf.sharding
        if isinstance(lies, NamedSharding) and _order(lies.mesh) == _order(self.sharding.mesh):
            if (mesh := _automatic(lies.mesh)) is lies.mesh:
                return leaf
            parts = [shard.data for shard in leaf.addressable_shards]
            sharding = NamedSharding(mesh, lies.spec, memory_kind=lies.memory_kind)
            return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)
        if len(lies.device_set) == 1 and leaf.is_fully_addressable:
            return jax.device_put(leaf, self.replicated)
        if lies.device_set == self.sharding.device_set and not isinstance(lies, NamedSharding):
            return leaf
        raise ValueError(
            f"the parameter {jax.tree_util.keystr(path) or 'params'} lies on the devices {_names(lies)}, "
            f"and rows on {_names(self.sharding)}; give as sharding or mesh one with the parameters' devices "
            "in their order, or put the parameters on that of the rows"
        )


def check_alive(params: object) -> None:
    """Refuses parameters whose memory is gone.

    Raises:
        ValueError: A leaf has been deleted; the message names it.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise ValueError(
                f"the parameter {jax.tree_util.keystr(path) or 'params'} has been deleted: it was donated "
                "to a compiled function (donate_argnums), such as a training step, or delete() was called "
                "on it; make a new model from the parameters as they are now"
            )


def _automatic(mesh: Any) -> Mesh:
    """The mesh with automatic axes: itself, or one of the same devices."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"the sharding's mesh must be a jax.sharding.Mesh of devices, not {mesh}")
    if all(axis is AxisType.Auto for axis in mesh.axis_types):
        return mesh
    return Mesh(mesh.devices, mesh.axis_names)


def _order(mesh: Any) -> list[Any]:
    return list(mesh.devices.flat) if isinstance(mesh, Mesh) else []


def _names(sharding: jax.sharding.Sharding) -> str:
    """The ids of a sharding's devices, in their order where it has one; only the first of many."""
    devices = _order(sharding.mesh) if isinstance(sharding, NamedSharding) else list(sharding.device_set)
    ids = [str(device.id) for device in devices]
    return f"[{', '.join(ids[:16])}{', ...' if len(ids) > 16 else ''}]"


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
