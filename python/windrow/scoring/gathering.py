"""Gathers the outputs of batches from the devices on every host.

If this process holds all devices of a mesh, it copies each batch's outputs. Otherwise each process collects
the outputs on its own devices, and many batches are gathered at once, every few seconds. Gathered results
reach the cache, so they survive if the run is killed. Each gathering takes three collectives.

Clocks differ between processes, but all processes must gather after the same batch. So they also gather the
seconds since the last gathering, and the longest time determines after how many batches the next one is due.

```text
a batch a second      gathered after batch 0, 2, 6, 11, 16, ...
```
"""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from windrow.sharding import RowSharding, gather_from_hosts

GATHER_SECONDS = 5
"""Roughly how many seconds of work are gathered at once."""

GATHER_TOKENS = 1 << 20
"""Roughly the maximum number of scored tokens per process that are gathered at once; bounds memory."""

_LEAST_ROOM = 1 << 12

Fetched = tuple[int, NDArray[Any], NDArray[Any]]
"""A batch, its log-probabilities ``float32[groups, reads]`` and greedy flags ``bool[groups, reads]``."""


class Gatherer:
    """Collects the outputs of batches, ``[groups, reads]`` each, until they are complete.

    Every process must make the same calls in the same order.
    """

    def __init__(self, sharding: RowSharding) -> None:
        self.sharding = sharding
        self.holders = _group_holders(sharding)
        incomplete = any(len(groups) < sharding.groups for groups in self.holders.values())
        self._spread = incomplete and not sharding.is_local
        self._most = max(map(len, self.holders.values()))
        self._waiting: list[Fetched] = []
        self._gathered, self._next, self._since = -1, 0, perf_counter()

    def due(self, batch: int) -> bool:
        """Whether to fetch all batches up to this one now, so that they can be gathered."""
        return self._spread and batch >= self._next

    def add(self, batch: int, outputs: tuple[jax.Array, jax.Array]) -> Iterator[Fetched]:
        """Waits for a batch's outputs; yields the batches that are now complete."""
        with jax.transfer_guard_device_to_host("allow"):
            logprobs, greedy = map(self._own_groups, outputs)
        self._waiting.append((batch, logprobs, greedy))
        reads = sum(part.shape[1] for _, part, _ in self._waiting)
        if not self._spread or self.due(batch) or reads * self._most >= GATHER_TOKENS:
            yield from self.flush()

    def flush(self) -> Iterator[Fetched]:
        """Yields the remaining batches."""
        waiting, self._waiting = self._waiting, []
        if not self._spread or not waiting:
            yield from waiting
            return
        logprobs = self._everywhere([part for _, part, _ in waiting])
        greedy = self._everywhere([part for _, _, part in waiting])
        self._schedule_next(waiting[-1][0])
        yield from ((batch, logprobs[at], greedy[at]) for at, (batch, _, _) in enumerate(waiting))

    def _schedule_next(self, batch: int) -> None:
        """Decides after which batch to gather next; the decision is the same on all processes."""
        here = np.array([1000 * (perf_counter() - self._since)], np.uint32)
        milliseconds = max(1, int(gather_from_hosts(here).max()))
        batches = batch - self._gathered
        # At most twice as many as last time: later batches may take longer than the first ones.
        more = min(2 * batches, int(batches * 1000 * GATHER_SECONDS / milliseconds))
        self._gathered, self._next, self._since = batch, batch + max(1, more), perf_counter()

    def _own_groups(self, output: jax.Array) -> NDArray[Any]:
        if output.is_fully_addressable:
            return np.asarray(output)  # as jax.device_get, at a third of the cost
        parts = {shard.index[0].start or 0: shard.data for shard in output.addressable_shards}
        return np.concatenate(jax.device_get([parts[first] for first in sorted(parts)]))

    def _everywhere(self, parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Each part with all groups, assembled from the groups that each process holds."""
        sizes = [part.shape[1] for part in parts]
        total = sum(sizes)
        room = np.zeros((self._most, _room(total)), parts[0].dtype)
        room[: len(parts[0]), :total] = np.concatenate(parts, axis=1)
        gathered = gather_from_hosts(room)
        whole = np.zeros((self.sharding.groups, total), parts[0].dtype)
        for process, groups in self.holders.items():
            whole[groups] = gathered[process, : len(groups), :total]
        return np.split(whole, np.cumsum(sizes)[:-1], axis=1)


def _room(total: int) -> int:
    """A power of four, so that gathering compiles few programs."""
    room = _LEAST_ROOM
    while room < total:
        room *= 4
    return room


def _group_holders(sharding: RowSharding) -> dict[int, list[int]]:
    """Which groups the devices of each process hold, ascending."""
    holders: dict[int, set[int]] = {process: set() for process in range(jax.process_count())}
    shape = (sharding.groups,)
    device: Any
    for device, index in sharding.by_rows.devices_indices_map(shape).items():
        holders[device.process_index].update(range(*index[0].indices(sharding.groups)))
    return {process: sorted(groups) for process, groups in holders.items()}
