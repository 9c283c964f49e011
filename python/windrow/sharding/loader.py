"""Turns each host's rows into global arrays on a mesh.

A batch's rows are split evenly over all axes of the mesh. Each host fills the rows that its devices hold, and
no data moves between hosts:

```text
8 rows, 4 devices on 2 hosts      rows 0-1   2-3   4-5   6-7
device                                   0     1     2     3
host 0 collates rows 0-3, host 1 rows 4-7
```
"""

import logging
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from numpy.typing import NDArray

from windrow.admission import admit_count
from windrow.sharding.feed import BatchFeed, BatchSequence, Read
from windrow.sharding.placing import from_host, place
from windrow.sharding.rows import RowSharding

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostShare:
    """The rows of each batch that a host holds, in blocks of equal size.

    Attributes:
        blocks: The host's blocks, ascending.
        block_count: The number of blocks that a batch's rows are split into.

    >>> HostShare((0, 1, 3), 4).row_ranges(8)
    [(0, 4), (6, 8)]
    """

    blocks: tuple[int, ...]
    block_count: int

    @classmethod
    def contiguous(cls, host_index: int, host_count: int) -> Self:
        """The share of a host if each host holds one block, in host order."""
        for name, value in (("host count", host_count), ("host index", host_index)):
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
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

        On a mesh of a single process, hosts hold equal, consecutive blocks of rows. On a mesh of several
        processes, the host is this process and holds the rows of its devices, wherever they are in the mesh.

        Raises:
            TypeError: ``mesh`` is not a mesh.
            IndexError: There is no such host.
            ValueError: The number of processes in the mesh is not the number of hosts,
                or the mesh has no device of this process.
        """
        if not isinstance(mesh, Mesh):
            raise TypeError(f"mesh must be a jax.sharding.Mesh, not {type(mesh).__name__}")
        share = cls.contiguous(host_index, host_count)
        processes = {device.process_index for device in mesh.devices.flat}
        if processes == {jax.process_index()}:
            return share
        if len(processes) != host_count:
            raise ValueError(
                f"the mesh has devices of {len(processes)} processes, but the host count is {host_count}; "
                "use one host per process"
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
            raise ValueError("this process has no device in the mesh; use a mesh with devices of every host")
        return cls(tuple(sorted(begin // block_size for begin in begins)), size // block_size)

    def row_ranges(self, rows: int) -> list[tuple[int, int]]:
        """The host's rows out of ``rows``, as ranges ``(start, stop)``; adjacent blocks are merged."""
        size = rows // self.block_count
        ranges: list[tuple[int, int]] = []
        for block in self.blocks:
            start = block * size
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, (block + 1) * size))
        return ranges


class MultiHostDataLoadIterator:
    """The batches of a dataloader as global arrays, epoch by epoch.

    Each ``iter()`` begins an epoch, normally at the dataloader's first batch. After ``set_state``, it begins
    where the state was taken. After an epoch that stopped at ``iterator_length`` with batches left over, it
    continues with those, unless ``reset_after_epoch`` is set. ``next()``, ``get_state()`` and ``set_state()``
    act on the latest epoch.

    A state does not depend on the number of hosts or workers: a state from four hosts
    with two workers each can be resumed on two hosts without workers.

    Args:
        dataloader: The host's rows of each batch, as a sequence, a Grain dataset, or any iterable of pytrees
            of arrays, whose first axis (usually rows) is split over the devices.
        global_mesh: The mesh over all hosts' devices.
        iterator_length: The number of steps per epoch; by default, the dataloader's length. If the dataloader
            ends earlier, so does the epoch, and a warning is logged.
        dataset_size: The number of elements in the dataset; not used by windrow.
        reset_after_epoch: Whether every epoch starts at the first batch.
        read: How to iterate over a slice of a sequence, for example with worker
            processes; one batch after another by default.

    Attributes:
        sharding: The sharding of the batches: dimension 0 split over all axes of the mesh.

    Raises:
        TypeError: ``global_mesh`` is not a mesh, or ``iterator_length`` not an integer.
        ValueError: ``iterator_length`` is negative; or the dataloader is itself an iterator
            and would have to start over.

    >>> mesh = jax.make_mesh((4, 2), ("data", "tensor"))
    >>> loader = MultiHostDataLoadIterator([np.zeros((8, 2)), np.ones((8, 2))], mesh)
    >>> [batch.shape for batch in loader], loader.get_state()
    ([(8, 2), (8, 2)], {'step': 2, 'iterator_length': 2})
    """

    def __init__(
        self,
        dataloader: BatchSequence | Iterable[Any],
        global_mesh: Mesh,
        iterator_length: int | None = None,
        dataset_size: int | None = None,
        reset_after_epoch: bool = False,
        *,
        read: Read | None = None,
    ) -> None:
        if not isinstance(global_mesh, Mesh):
            raise TypeError(f"global_mesh must be a jax.sharding.Mesh, not {type(global_mesh).__name__}")
        self.dataloader = dataloader
        self.global_mesh = global_mesh
        given = None if iterator_length is None else admit_count("iterator_length", iterator_length, least=0)
        self.iterator_length = _steps(dataloader) if given is None else given
        self.dataset_size = dataset_size
        self.reset_after_epoch = reset_after_epoch
        self.sharding = RowSharding.over(global_mesh).by_rows
        self._place = _Placement(self.sharding)
        self._epoch = self._begin(BatchFeed(dataloader, read))
        self._resuming = False

    def __len__(self) -> int:
        """The number of steps per epoch; infinite (``sys.maxsize``, as in Grain) if unknown."""
        return sys.maxsize if self.iterator_length is None else self.iterator_length

    def __iter__(self) -> "_Epoch":
        if not self._resuming:
            feed = self._epoch.feed
            goes_on = self._epoch.is_complete and not self.reset_after_epoch and not feed.is_at_end
            self._epoch = self._begin(feed if goes_on else feed.from_start())
        self._resuming = False
        return self._epoch

    def __next__(self) -> Any:
        self._resuming = False
        return next(self._epoch)

    def reset(self) -> None:
        """Starts over at the first batch."""
        self._epoch.go_to(self._epoch.feed.from_start(), 0)
        self._resuming = False

    def get_state(self) -> dict[str, Any]:
        """The position of the latest epoch: ``step`` and ``iterator_length``.

        There is a third key, ``data``, if the dataloader's iterator has its own state, or if earlier epochs
        have used batches of the same pass. The result can be written as JSON if that state can.
        """
        return self._epoch.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Starts the next epoch where the state was taken.

        Raises:
            KeyError: ``state`` lacks ``step`` or ``iterator_length``.
            ValueError: ``state`` belongs to an iterator with a different length.
            IndexError: ``step`` is out of range.
        """
        self._epoch.set_state(state)
        self._resuming = True

    def close(self) -> None:
        """Stops the workers of the latest epoch."""
        self._epoch.close()

    def _begin(self, feed: BatchFeed) -> "_Epoch":
        return _Epoch(feed, self._place, self.iterator_length)


def _steps(dataloader: Any) -> int | None:
    """The number of batches in a dataloader; ``None`` if it is infinite or unknown."""
    size = len(dataloader) if hasattr(dataloader, "__len__") else sys.maxsize
    return None if size == sys.maxsize else size


class _Epoch(Iterator[Any]):
    """One epoch of a feed: ``length`` steps, or all of its batches."""

    def __init__(self, feed: BatchFeed, place: "_Placement", length: int | None) -> None:
        self.feed = feed
        self._place = place
        self._length = length
        self._step = 0

    @property
    def is_complete(self) -> bool:
        """Whether all its steps are done."""
        return self._length is not None and 0 < self._length == self._step

    def __next__(self) -> Any:
        if self._step == self._length:
            self.feed.pause()
            raise StopIteration
        try:
            rows = self._next_rows()
        except StopIteration:
            if self._length is not None:
                _LOGGER.warning("dataloader ended after %d of %d steps", self._step, self._length)
            raise
        batch = jax.tree.map(self._place, rows)
        self._step += 1
        return batch

    def _next_rows(self) -> Any:
        may_be_over = self._step == 0 and not self.feed.is_at_start
        try:
            return next(self.feed)
        except StopIteration:
            if not may_be_over:
                raise
        # The previous epoch used up the dataloader, so this one starts over.
        self.feed = self.feed.from_start()
        return next(self.feed)

    def get_state(self) -> dict[str, Any]:
        data = self.feed.get_state()
        state = {"step": self._step, "iterator_length": self._length}
        return state if data == self._step else {**state, "data": data}

    def set_state(self, state: Mapping[str, Any]) -> None:
        for key in ("step", "iterator_length"):
            if key not in state:
                raise KeyError(f"state has no {key!r}, only {sorted(state)}; pass the result of get_state()")
        if state["iterator_length"] != self._length:
            raise ValueError(
                f"the state's iterator_length is {state['iterator_length']}, but this iterator's is "
                f"{self._length}; the state belongs to other data or another batch size"
            )
        step = operator.index(state["step"])
        if step < 0 or (self._length is not None and step > self._length):
            raise IndexError(f"the state's step is {step}, out of range for {self._length} steps")
        self.go_to(self.feed.at(state.get("data", step)), step)

    def go_to(self, feed: BatchFeed, step: int) -> None:
        if feed is not self.feed:
            self.feed.close()
        self.feed, self._step = feed, step

    def close(self) -> None:
        self.feed.close()


class _Placement:
    """Turns one host's rows of an array into a global array."""

    def __init__(self, sharding: NamedSharding) -> None:
        self._sharding = sharding
        self._share = HostShare.of_sharding(sharding)
        self._block_at = {block: at for at, block in enumerate(self._share.blocks)}

    def __call__(self, rows: Any) -> jax.Array:
        # Arrays in shared memory are copied: JAX keeps memory that it can alias, and a container may have
        # only 64 MB of shared memory.
        mine = rows if type(rows) is np.ndarray else np.array(rows, subok=False)
        held = len(self._share.blocks)
        if mine.ndim == 0 or len(mine) % held:
            raise ValueError(
                f"an array of the batch has shape {mine.shape}; its first axis is split over the {held} "
                "devices of this process, so it must be a multiple of that"
            )
        if held == self._share.block_count:
            return from_host(mine.shape, self._sharding, mine.__getitem__)
        size = len(mine) // held

        def fill(start: int, stop: int) -> NDArray[Any]:
            begin = self._block_at[start // max(size, 1)] * size
            return mine[begin : begin + stop - start]

        return place((size * self._share.block_count, *mine.shape[1:]), self._sharding, fill)
