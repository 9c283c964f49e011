"""Splits rows over devices: each host's rows become global arrays under the caller's sharding.

Every host makes the same plan, so it knows which rows its devices hold. It fills only those rows and passes
them to :func:`jax.make_array_from_callback`, without communication between hosts.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from windrow.sharding.alive import check_alive


@dataclass(frozen=True)
class RowSharding:
    """How the rows of a batch are split over devices.

    The rows are split into ``groups`` equal, consecutive groups. Each group is on one device, or on several
    that hold copies of it (as in tensor parallelism).

    Attributes:
        sharding: The sharding of an array ``[rows, length]``. All axes of its mesh are automatic.
        explicit: The explicit axes of the caller's mesh; a model's functions are traced with them.
    """

    sharding: NamedSharding
    explicit: tuple[str, ...] = ()

    @property
    def platform(self) -> str:
        """JAX's name for the devices' platform: ``"cpu"``, ``"gpu"`` or ``"tpu"``."""
        return str(self.sharding.mesh.devices.flat[0].platform)

    @classmethod
    def over(cls, where: NamedSharding | Mesh | None = None, params: Any = None) -> "RowSharding":
        """Rows under a given sharding, over all axes of a mesh, or on the caller's mesh.

        Args:
            where: A sharding for ``[rows, length]``, or a mesh. The devices may be in any order. If ``None``,
                the mesh of ``jax.set_mesh`` is used, else the parameters' mesh, else one of all devices.
            params: A model's parameters. On a mesh not given by ``where``, rows are split over the axes that
                no parameter is split over, or over all axes if there are none.

        Raises:
            TypeError: ``where`` is neither a ``NamedSharding`` nor a ``Mesh`` of devices.
            ValueError: The spec has more than two axes, or does not determine the placement of rows.

        >>> RowSharding.over(Mesh(np.array(jax.devices()[:1]), ("data",))).groups
        1
        """
        if where is None:
            where = _where_the_caller_works(params)
        if isinstance(where, Mesh):
            where = NamedSharding(where, PartitionSpec(where.axis_names))
        if not isinstance(where, NamedSharding):
            raise TypeError(
                f"sharding must be a jax.sharding.NamedSharding or Mesh, not {type(where).__name__}"
            )
        if len(where.spec) > 2:
            raise ValueError(f"sharding must be for [rows, length], but its spec {where.spec} has more axes")
        if PartitionSpec.UNCONSTRAINED in where.spec:
            raise ValueError(
                f"sharding's spec {where.spec} is unconstrained; name the mesh axes that each dimension is "
                "split over, or None"
            )
        return cls(NamedSharding(automatic(where.mesh), where.spec), explicit_axes(where.mesh))

    @cached_property
    def mesh(self) -> Mesh:
        """The mesh, with automatic axes."""
        return automatic(self.sharding.mesh)

    @cached_property
    def row_axes(self) -> tuple[str, ...]:
        """The mesh axes that rows are split over."""
        return self._axes(0)

    @cached_property
    def length_multiple(self) -> int:
        """The number of parts each row is split into; padded lengths must be a multiple of it."""
        return prod(self.sharding.mesh.shape[axis] for axis in self._axes(1))

    def _axes(self, dimension: int) -> tuple[str, ...]:
        return _axes_at(self.sharding.spec, dimension)

    @cached_property
    def groups(self) -> int:
        """The number of groups that a batch's rows are split into; rows must be a multiple of it."""
        return prod(self.sharding.mesh.shape[axis] for axis in self.row_axes)

    @cached_property
    def is_local(self) -> bool:
        """Whether all devices belong to this process."""
        return all(device.process_index == jax.process_index() for device in self.mesh.devices.flat)

    @property
    def description(self) -> str:
        """The mesh, the spec and the devices in order, for comparison between hosts."""
        devices = ", ".join(str(device.id) for device in device_order(self.sharding.mesh))
        return f"{dict(self.sharding.mesh.shape)} {self.sharding.spec} on devices {devices}"

    @cached_property
    def by_rows(self) -> NamedSharding:
        """The sharding of an array that is split only along its leading axis of rows or groups."""
        return NamedSharding(self.sharding.mesh, PartitionSpec(self.row_axes or None))

    @cached_property
    def replicated(self) -> NamedSharding:
        """The sharding of a fully replicated array."""
        return NamedSharding(self.sharding.mesh, PartitionSpec())


def _where_the_caller_works(params: Any) -> NamedSharding:
    """Rows on the current mesh, on the parameters' mesh, or on all devices."""
    check_alive(params)
    own = [leaf.sharding for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)]
    placed = [sharding for sharding in own if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1]
    mesh: Any = jax.sharding.get_mesh()
    if mesh.empty:
        mesh = placed[0].mesh if placed else Mesh(np.array(jax.devices()), ("data",))
    taken = {
        axis
        for sharding in placed
        for at in range(len(sharding.spec))
        for axis in _axes_at(sharding.spec, at)
    }
    free = tuple(axis for axis in mesh.axis_names if axis not in taken)
    return NamedSharding(mesh, PartitionSpec(free or mesh.axis_names))


def _axes_at(spec: PartitionSpec, dimension: int) -> tuple[str, ...]:
    axes = spec[dimension] if dimension < len(spec) else None
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def explicit_axes(mesh: Any) -> tuple[str, ...]:
    """The names of a mesh's explicit axes."""
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind is AxisType.Explicit)


def automatic(mesh: Any) -> Mesh:
    """The mesh with automatic axes: the same one, or one with the same devices."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"the sharding's mesh must be a jax.sharding.Mesh of devices, not {mesh}")
    if all(axis is AxisType.Auto for axis in mesh.axis_types):
        return mesh
    return Mesh(mesh.devices, mesh.axis_names)


def own_mesh() -> Mesh:
    """A mesh of this process's own devices, with one axis."""
    return Mesh(np.array(jax.local_devices()), ("data",))


def device_order(mesh: Any) -> list[Any]:
    """A mesh's devices in order; empty if it is abstract."""
    return list(mesh.devices.flat) if isinstance(mesh, Mesh) else []
