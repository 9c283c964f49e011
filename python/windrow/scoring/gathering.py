"""Outputs of batches, back from the devices to every host.

Where one process holds all devices, each batch's outputs are copied as they are.
Where several do, each collects what its own devices hold, and many batches are
gathered at once: two collectives for about a million scored tokens.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from windrow.sharding import RowSharding, gather_from_hosts

GATHER_TOKENS = 1 << 20
"""About how many scored tokens each process collects before they are gathered."""

Fetched = tuple[int, NDArray[Any], NDArray[Any]]
"""A batch, its log-probabilities ``float32[groups, reads]`` and greedy flags ``bool[groups, reads]``."""


class Gatherer:
    """Collects batches' outputs, ``[groups, reads]`` each, and hands them over whole.

    Every process must make the same calls in the same order.
    """

    def __init__(self, sharding: RowSharding) -> None:
        self.sharding = sharding
        self.holders = _group_holders(sharding)
        own = self.holders[jax.process_index()]
        self._spread = any(len(groups) < sharding.groups for groups in self.holders.values())
        self._own = own
        self._waiting: list[Fetched] = []

    def add(self, batch: int, outputs: tuple[jax.Array, jax.Array]) -> Iterator[Fetched]:
        """Waits for a batch's outputs; yields those batches that are now whole."""
        logprobs, greedy = (self._own_groups(output) for output in outputs)
        self._waiting.append((batch, logprobs, greedy))
        if not self._spread or sum(part.size for _, part, _ in self._waiting) >= GATHER_TOKENS:
            yield from self.flush()

    def flush(self) -> Iterator[Fetched]:
        """Yields the batches that still wait."""
        waiting, self._waiting = self._waiting, []
        if not self._spread or not waiting:
            yield from waiting
            return
        most = max(map(len, self.holders.values()))
        logprobs = self._everywhere([part for _, part, _ in waiting], most)
        greedy = self._everywhere([part for _, _, part in waiting], most)
        yield from ((batch, logprobs[at], greedy[at]) for at, (batch, _, _) in enumerate(waiting))

    def _own_groups(self, output: jax.Array) -> NDArray[Any]:
        if output.is_fully_addressable:
            whole: NDArray[Any] = jax.device_get(output)
            return whole
        parts = {shard.index[0].start or 0: shard.data for shard in output.addressable_shards}
        return np.concatenate(jax.device_get([parts[first] for first in sorted(parts)]))

    def _everywhere(self, parts: list[NDArray[Any]], most: int) -> list[NDArray[Any]]:
        """Every part with all groups, from the groups that each process holds of it."""
        sizes = [part.shape[1] for part in parts]
        total = sum(sizes)
        # A power of two, so that few programs are compiled for the gathering.
        room = np.zeros((most, 1 << max(0, total - 1).bit_length()), parts[0].dtype)
        room[: len(parts[0]), :total] = np.concatenate(parts, axis=1)
        gathered = gather_from_hosts(room)
        whole = np.zeros((self.sharding.groups, total), parts[0].dtype)
        for process, groups in self.holders.items():
            whole[groups] = gathered[process, : len(groups), :total]
        return np.split(whole, np.cumsum(sizes)[:-1], axis=1)


def _group_holders(sharding: RowSharding) -> dict[int, list[int]]:
    """The groups that each process's devices hold, ascending."""
    holders: dict[int, set[int]] = {process: set() for process in range(jax.process_count())}
    shape = (sharding.groups,)
    device: Any
    for device, index in sharding.by_rows.devices_indices_map(shape).items():
        holders[device.process_index].update(range(*index[0].indices(sharding.groups)))
    return {process: sorted(groups) for process, groups in holders.items()}
