"""From a host's rows to global arrays on a mesh.

A batch's rows are split evenly over all axes of the mesh. Each host hands over
the rows that its devices hold, and no data moves between hosts:

```text
8 rows, 4 devices on 2 hosts      rows 0-1   2-3   4-5   6-7
device                                   0     1     2     3
host 0 collates rows 0-3, host 1 rows 4-7
```
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.sharding.rows import RowSharding, place


@dataclass(frozen=True)
class HostShare:
    """Which rows of every batch a host holds: some of equally large blocks, in ascending order.

    Attributes:
        blocks: The blocks that the host holds, ascending.
        block_count: How many blocks a batch's rows are split into.

    >>> HostShare((0, 1, 3), 4).row_ranges(8)
    [(0, 4), (6, 8)]
    """

    blocks: tuple[int, ...]
    block_count: int

    @classmethod
    def contiguous(cls, host_index: int, host_count: int) -> Self:
        """The share of a host if each holds one block, in the order of the hosts."""
        if host_count < 1:
            raise ValueError(f"host count is {host_count}; it must be at least 1")
        if not 0 <= host_index < host_count:
            raise IndexError(
                f"host index is {host_index}; with {host_count} hosts it must be from 0 to {host_count - 1}"
            )
        return cls((host_index,), host_count)

    @classmethod
    def on_mesh(cls, mesh: Mesh, host_index: int, host_count: int) -> Self:
        """The share of a host if rows are split over all axes of a mesh.

        On a mesh of one process hosts hold equal runs of rows, in their order.
        On a mesh of several, the host is this process and holds the rows of its
        devices, wherever in the mesh they are.

        Raises:
            TypeError: ``mesh`` is none.
            IndexError: There is no such host.
            ValueError: The mesh has devices of another number of processes, or
                none of this one.
        """
        if not isinstance(mesh, Mesh):
            raise TypeError(f"mesh must be a jax.sharding.Mesh, not {type(mesh).__name__}")
        share = cls.contiguous(host_index, host_count)
        processes = {device.process_index for device in mesh.devices.flat}
        if processes == {jax.process_index()}:
            return share
        if len(processes) != host_count:
            raise ValueError(
                f"the mesh has devices of {len(processes)} processes, and the host count is {host_count}; "
                "give one host for each process"
            )
        return cls.of_sharding(RowSharding.over(mesh).by_rows)

    @classmethod
    def of_sharding(cls, sharding: NamedSharding) -> Self:
        """The share of this process under a sharding of an array's leading axis."""
        size = sharding.mesh.size
        block_size = sharding.shard_shape((size,))[0]
        slices = sharding.addressable_devices_indices_map((size,)).values()
        begins = {index[0].indices(size)[0] for index in slices if index is not None}
        if not begins:
            raise ValueError("this process has no device in the mesh; give a mesh with devices of every host")
        return cls(tuple(sorted(begin // block_size for begin in begins)), size // block_size)

    def row_ranges(self, rows: int) -> list[tuple[int, int]]:
        """Where each run of neighbouring rows that the host holds of ``rows`` rows begins and ends."""
        size = rows // self.block_count
        ranges: list[tuple[int, int]] = []
        for block in self.blocks:
            start = block * size
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, (block + 1) * size))
        return ranges


class BatchSequence(Protocol):
    """What batches are read from: a Grain ``MapDataset``, or any sequence that can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class MultiHostDataLoadIterator:
    """The batches of an epoch as global arrays; can be gone through again and again.

    Each ``iter()`` begins with the first batch, or, after ``set_state``, with the
    batch that the state names. ``next()``, ``get_state()`` and ``set_state()`` work on
    the iteration that was begun last. A state is the number of the next batch
    and nothing else, so one written by four hosts with two workers each resumes
    on two hosts with none.

    Args:
        dataset: The host's rows of every batch: pytrees of arrays whose first
            axis counts rows (or whatever else is split over the devices).
        global_mesh: The mesh over all hosts' devices.
        read: How to go through a slice of ``dataset``, for example with worker
            processes; one element after the other by default.

    Attributes:
        dataset: The host's batches.
        global_mesh: The mesh.
        sharding: Dimension 0 split over all axes of the mesh.

    >>> mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    >>> loader = MultiHostDataLoadIterator([np.zeros((8, 2)), np.ones((8, 2))], mesh)
    >>> [batch.shape for batch in loader], loader.get_state()
    ([(8, 2), (8, 2)], {'next_batch': 2})
    """

    def __init__(
        self, dataset: BatchSequence, global_mesh: Mesh, read: Callable[[Any], Iterable[Any]] | None = None
    ) -> None:
        if not isinstance(global_mesh, Mesh):
            raise TypeError(f"global_mesh must be a jax.sharding.Mesh, not {type(global_mesh).__name__}")
        self.dataset = dataset
        self.global_mesh = global_mesh
        self.sharding = RowSharding.over(global_mesh).by_rows
        self._read = read or _one_by_one
        self._place = _Placement(self.sharding)
        self._iteration = self._begin(0)
        self._resuming = False

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> "_Iteration":
        if not self._resuming:
            self._iteration = self._begin(0)
        self._resuming = False
        return self._iteration

    def __next__(self) -> Any:
        self._resuming = False
        return next(self._iteration)

    def get_state(self) -> dict[str, int]:
        """Where the iteration that was begun last stands; ready for JSON."""
        return self._iteration.get_state()

    def set_state(self, state: Mapping[str, int]) -> None:
        """Lets the next iteration begin where the state was taken.

        Raises:
            KeyError: ``state`` is none of this class.
            IndexError: There are fewer batches.
        """
        self._iteration.set_state(state)
        self._resuming = True

    def close(self) -> None:
        """Ends the iteration that was begun last, and its workers."""
        self._iteration.close()

    def _begin(self, batch: int) -> "_Iteration":
        return _Iteration(self.dataset, self._read, self._place, batch)


def _one_by_one(batches: BatchSequence) -> Iterator[Any]:
    return (batches[index] for index in range(len(batches)))


class _Iteration(Iterator[Any]):
    """One way through the batches; opens the source, and so starts workers, when the first is asked for."""

    def __init__(
        self, dataset: BatchSequence, read: Callable[[Any], Iterable[Any]], place: "_Placement", batch: int
    ) -> None:
        self._dataset = dataset
        self._read = read
        self._place = place
        self._next_batch = batch
        self._source: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._next_batch >= len(self._dataset):
            self.close()
            raise StopIteration
        if self._source is None:
            self._source = iter(self._read(self._dataset[self._next_batch :]))
        batch = jax.tree.map(self._place, next(self._source))
        self._next_batch += 1
        return batch

    def get_state(self) -> dict[str, int]:
        return {"next_batch": self._next_batch}

    def set_state(self, state: Mapping[str, int]) -> None:
        if "next_batch" not in state:
            raise KeyError(f"state has no 'next_batch' but {sorted(state)}; give what get_state() returned")
        batch = operator.index(state["next_batch"])
        if not 0 <= batch <= len(self._dataset):
            raise IndexError(
                f"state's next_batch is {batch}, out of range for {len(self._dataset)} batches; "
                "it is of other data"
            )
        self.close()
        self._next_batch = batch

    def close(self) -> None:
        source, self._source = self._source, None
        if (close := getattr(source, "close", None)) is not None:
            close()


class _Placement:
    """Turns one host's rows of an array into a global array."""

    def __init__(self, sharding: NamedSharding) -> None:
        self._sharding = sharding
        self._share = HostShare.of_sharding(sharding)
        self._block_at = {block: at for at, block in enumerate(self._share.blocks)}

    def __call__(self, rows: Any) -> jax.Array:
        # What came out of shared memory is copied: JAX keeps memory that it can use as it is, and of
        # shared memory a container may have as little as 64 MB.
        mine = rows if type(rows) is np.ndarray else np.array(rows, subok=False)
        held = len(self._share.blocks)
        if mine.ndim == 0 or len(mine) % held:
            raise ValueError(
                f"a part of the batch has shape {mine.shape}; its first axis is to be split over the {held} "
                "devices of this process, so it must be a multiple of that"
            )
        if held == self._share.block_count:
            return jax.make_array_from_callback(mine.shape, self._sharding, mine.__getitem__)
        size = len(mine) // held

        def fill(start: int, stop: int) -> NDArray[Any]:
            begin = self._block_at[start // max(size, 1)] * size
            return mine[begin : begin + stop - start]

        return place((size * self._share.block_count, *mine.shape[1:]), self._sharding, fill)
