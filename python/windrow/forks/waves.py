"""Assigns stems and branches to groups and waves, and the states of stems to slots."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windrow.forks.pieces import Branches, Stems

SPLIT = 4
"""The branches of a stem are spread over all groups if there are at least this many per group."""


@dataclass(frozen=True)
class Waves:
    """Stems and branches in groups and waves. A stem in a group is called a *node*.

    Attributes:
        stems: The stems.
        count: The number of waves.
        slots: The number of slots in each group's store.
        node_stem: ``int64[m]``, the stem of each node.
        node_group: ``int64[m]``, its group.
        node_parent: ``int64[m]``, the node that each node starts from; -1 for the empty state.
        node_slot: ``int32[m]``, the slot for each node's state.
        node_wave: ``int64[m]``, the wave in which each node runs.
        branch_group: ``int64[b]``, each branch's group.
        branch_node: ``int64[b]``, the node that each branch starts from; -1 for the empty state.
        branch_wave: ``int64[b]``, the wave in which each branch runs.
    """

    stems: Stems
    count: int
    slots: int
    node_stem: NDArray[np.int64]
    node_group: NDArray[np.int64]
    node_parent: NDArray[np.int64]
    node_slot: NDArray[np.int32]
    node_wave: NDArray[np.int64]
    branch_group: NDArray[np.int64]
    branch_node: NDArray[np.int64]
    branch_wave: NDArray[np.int64]

    def levels(self, wave: int) -> Iterator[NDArray[np.int64]]:
        """The nodes of a wave, parents before their children, one level at a time."""
        here = np.flatnonzero(self.node_wave == wave)
        levels = self.stems.level[self.node_stem[here]]
        for level in np.unique(levels):
            yield here[levels == level]

    def from_slot(self, nodes: NDArray[np.int64]) -> NDArray[np.int32]:
        """The slots of some nodes; for -1, the slot of the empty state."""
        return self._slots_from[nodes]

    @cached_property
    def _slots_from(self) -> NDArray[np.int32]:
        return np.append(self.node_slot, np.int32(self.slots))


def waves_of(stems: Stems, branches: Branches, groups: int, most_slots: int, least_slots: int = 1) -> Waves:
    """The waves of these stems and branches.

    Args:
        stems: The stems, depth first.
        branches: The branches.
        groups: The number of groups that rows are split into.
        most_slots: The maximum number of slots in each group's store, but at least one for each level.
        least_slots: The minimum number of slots.
    """
    of_branch = _groups_of(branches, groups)
    nodes = _nodes(stems, branches.stem, of_branch, groups)  # sorted by group, then stem
    node_stem, node_group = nodes % max(1, len(stems)), nodes // max(1, len(stems))
    node_parent = _find(nodes, stems.parent[node_stem], node_group, len(stems))
    branch_node = _find(nodes, branches.stem, of_branch, len(stems))
    deepest = int(stems.level.max(initial=-1)) + 1
    largest = int(np.bincount(node_group, minlength=1).max())
    slots = max(least_slots, deepest, min(most_slots, largest))
    node_slot, node_wave = _slots(node_group, node_parent, slots)
    branch_wave = np.append(node_wave, 0)[branch_node]
    return Waves(
        stems, int(node_wave.max(initial=0)) + 1, slots, node_stem, node_group, node_parent, node_slot,
        node_wave, of_branch, branch_node, branch_wave,
    )  # fmt: skip


def _groups_of(branches: Branches, groups: int) -> NDArray[np.int64]:
    """The group of each branch; the branches of a stem stay together unless there are many."""
    count = len(branches.length)
    if groups == 1:
        return np.zeros(count, np.int64)
    starting = np.bincount(branches.stem + 1, minlength=2)
    alone = (branches.stem < 0) | (starting[branches.stem + 1] >= SPLIT * groups)
    holder = np.where(alone, branches.stem.max(initial=0) + 1 + np.arange(count), branches.stem)
    holders, of = np.unique(holder, return_inverse=True)
    of = of.reshape(-1)
    tokens = np.bincount(of, branches.length, len(holders))
    dealt = np.empty(len(holders), np.int64)
    dealt[np.argsort(-tokens, kind="stable")] = np.arange(len(holders)) % groups
    return dealt[of]


def _nodes(
    stems: Stems, of_branches: NDArray[np.int64], of_groups: NDArray[np.int64], groups: int
) -> NDArray[np.int64]:
    """The stems that each group needs, as ``group * stems + stem``, ascending."""
    needed = np.zeros((groups, len(stems)), np.bool_)
    has = of_branches >= 0
    stem, group = of_branches[has], of_groups[has]
    while len(stem):
        needed[group, stem] = True
        stem = stems.parent[stem]
        stem, group = stem[stem >= 0], group[stem >= 0]
    return np.flatnonzero(needed)


def _find(
    nodes: NDArray[np.int64], stem: NDArray[np.int64], group: NDArray[np.int64], stems: int
) -> NDArray[np.int64]:
    """The nodes of some stems in some groups; -1 for stem -1."""
    return np.where(stem < 0, -1, np.searchsorted(nodes, group * stems + stem))


def _slots(
    groups: NDArray[np.int64], parents: NDArray[np.int64], slots: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The slot and the wave of each node, taken depth first.

    A new wave begins when no slot is free. All slots then become free, except those of the next node's
    ancestors.
    """
    slot, wave = np.zeros(len(parents), np.int32), np.zeros(len(parents), np.int64)
    now, group = 0, -1
    path: list[int] = []
    free: list[int] = []
    for node, (its_group, parent) in enumerate(zip(groups.tolist(), parents.tolist(), strict=True)):
        if its_group != group:
            now, group, path, free = 0, its_group, [], list(range(slots - 1, -1, -1))
        while path and path[-1] != parent:
            path.pop()
        if not free:
            held = {int(slot[each]) for each in path}
            free = [each for each in range(slots - 1, -1, -1) if each not in held]
            now += 1
        slot[node], wave[node] = free.pop(), now
        path.append(node)
    return slot, wave
