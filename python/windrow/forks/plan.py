"""Puts stems and branches into batches, ordered so that few states are alive at a time.

Each group of rows has its own stems, so a state never moves between devices; a stem whose branches are in
several groups runs in each of them. The number of slots limits the memory that states take, so the work is
divided into *waves*: in each wave, stems run level by level, then all branches of these stems, longest first.
A stem with which later stems begin keeps its slot; the slots of the others become free.

    wave 0      stems 0 1 2 3, their branches        stem 0 stays, since later stems begin with it
    wave 1      stems 4 5 6, their branches          take the slots of 1 2 3
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.forks.batches import Batch, branch_batches, stem_batches
from windrow.forks.pieces import LEAST_SAVED_BY_LEVEL, Branches, Stems, branch, cut, stem_tokens
from windrow.forks.shapes import CHUNK_PRICE, CHUNKS, NO_LIMIT, Shapes, rounded_up, shapes_of
from windrow.forks.waves import Waves, waves_of
from windrow.sizing.policy import SHAPE_PRICE, BatchPolicy
from windrow.tokens import Segments

TRIAL_SLOTS = 3
"""A store has at least this many slots if memory allows, so that a trial can use the plan's programs."""

STEM_SHAPES, MOST_SHAPES = 3, 8
"""The maximum number of shapes of stems, and of branches if the policy does not set it."""


@dataclass(frozen=True)
class Forking:
    """What planning needs to know about a model and its devices.

    Attributes:
        max_length: The maximum number of tokens in a row, padding included; ``None`` for no limit.
        most_slots: The maximum number of states in a group's store.
        least_by_level: The minimum number of tokens that the stems of one level must save together.
        chunk_length: The number of columns of a batch that run at a time; ``None`` to choose it by cost.
        chunk_price: The fixed cost of a chunk, in tokens.
    """

    max_length: int | None
    most_slots: int
    least_by_level: int = LEAST_SAVED_BY_LEVEL
    chunk_length: int | None = None
    chunk_price: int = CHUNK_PRICE["cpu"]

    def plan(
        self, policy: BatchPolicy, segments: Segments, groups: int, shape_price: int = SHAPE_PRICE
    ) -> "ForkPlan":
        """The plan for these segments.

        Args:
            policy: Determines the size and padded lengths of batches.
            segments: The segments to score.
            groups: The number of groups that rows are split into.
            shape_price: The cost of compiling a shape, in tokens.
        """
        stems, stem = cut(segments, least_by_level=self.least_by_level)
        return self.plan_of(policy, segments, groups, stems, stem, shape_price)

    def plan_of(
        self,
        policy: BatchPolicy,
        segments: Segments,
        groups: int,
        stems: Stems,
        stem: NDArray[np.int64],
        shape_price: int = SHAPE_PRICE,
    ) -> "ForkPlan":
        """The plan for given stems and the stem of each segment, ``int64[n]``; -1 for none.

        A stem that does not fit into a row, padding included, is dropped. A branch that does not fit after
        its stem is replaced by the whole input.
        """
        while True:
            branches = branch(segments, stems, stem)
            of_stems = self._shapes_of(policy, stems.lengths, groups, STEM_SHAPES, shape_price)
            of_branches = self._shapes_of(policy, branches.length, groups, policy.max_shapes, shape_price)
            too_long = of_stems.ends(stems.begins, stems.lengths) > self._longest
            beyond = of_branches.ends(branches.depth, branches.length) > self._longest
            beyond &= branches.stem >= 0
            if not too_long.any() and not beyond.any():
                break
            stem = np.where(beyond[branches.of], -1, stem)
            stems, stem = stems.without(too_long | _unused(stems, stem), stem)
        waves = waves_of(stems, branches, groups, self.most_slots, min(TRIAL_SLOTS, self.most_slots))
        of_stems = of_stems.spread(stems.lengths[waves.node_stem], waves.count * groups)
        of_branches = of_branches.spread(branches.length, waves.count * groups)
        return ForkPlan(segments, groups, branches, waves, of_stems, of_branches, self._longest)

    def _shapes_of(
        self, policy: BatchPolicy, lengths: NDArray[np.int32], groups: int, most: int | None, shape_price: int
    ) -> Shapes:
        """The best shapes for rows of these lengths, at most ``most`` of them.

        A batch stops after its longest row, so another shape pays off only if its batches hold more rows.
        """
        found = shapes_of(policy, lengths, groups, 1)
        if not len(lengths):
            return found
        found, least = self._chunked(policy, lengths, groups, found)
        for allowed in range(2, min(most or MOST_SHAPES, policy.max_shapes or MOST_SHAPES) + 1):
            more = shapes_of(policy, lengths, groups, allowed)
            if len(more.lengths) < allowed:
                break
            more, price = self._chunked(policy, lengths, groups, more)
            if price + shape_price * (allowed - 1) < least:
                found, least = more, price + shape_price * (allowed - 1)
        return found

    def _chunked(
        self, policy: BatchPolicy, lengths: NDArray[np.int32], groups: int, shapes: Shapes
    ) -> tuple[Shapes, int]:
        """The shapes with their cheapest chunk lengths, and the cost of rows of these lengths, in tokens."""
        given = CHUNKS if self.chunk_length is None else (self.chunk_length,)
        chunks = np.unique(rounded_up(np.array(given), policy.padding_multiple if len(given) > 1 else 1))
        which, best, total = shapes.which(lengths), [], 0
        for shape, rows in enumerate(shapes.rows.tolist()):
            longest = np.sort(lengths[which == shape])[::-1][:: rows * groups]  # of each batch
            runs = -(-longest[:, None] // chunks).sum(axis=0, dtype=np.int64)
            prices = runs * (rows * groups * chunks + self.chunk_price)
            best.append(int(chunks[np.argmin(prices)]))
            total += int(prices.min())
        ends = shapes.lengths
        if self.chunk_length is None:
            ends = np.maximum(ends, np.minimum(rounded_up(ends, np.array(best)), self._longest))
        return Shapes(ends.astype(np.int32), shapes.rows, np.minimum(best, ends)), total

    @property
    def _longest(self) -> int:
        return NO_LIMIT if self.max_length is None else self.max_length


def _unused(stems: Stems, stem: NDArray[np.int64]) -> NDArray[np.bool_]:
    used = np.zeros(len(stems) + 1, np.bool_)
    used[stem] = used[stems.parent] = True
    return ~used[:-1]


class ForkPlan:
    """Batches of stems and branches, in execution order.

    It has the members of :class:`windrow.Plan` that a run needs.

    Attributes:
        slots: The number of states in each group's store.
        longest: The maximum depth at which a row that starts from a stored state ends, padding included.
        room: The number of tokens that a state must have room for, padding included.
        is_stem: ``bool[batches]``, which batches run stems.
        batch_shapes: ``int32[batches, 2]``, rows and columns of the arrays.
        columns: ``int32[batches]``, how many of those columns run: enough for the longest row.
        chunks: ``int64[batches]``, the chunk length: how many columns run at a time.
        batches: ``int32[n]``, the batch in which each segment is scored.
        rows: ``int32[n]``, its row there.
        starts: ``int32[n]``, all 0: branches begin at the start of a row.
    """

    trees = packed = False

    def __init__(
        self,
        segments: Segments,
        groups: int,
        branches: Branches,
        waves: Waves,
        of_stems: Shapes,
        of_branches: Shapes,
        longest: int,
    ) -> None:
        self.groups, self.stems, self.branches = groups, waves.stems, branches
        self.slots, self.longest = waves.slots, longest
        self.of_stems, self.of_branches = of_stems, of_branches
        self._segments, self._waves = segments, waves
        batches: list[Batch] = []
        for wave in range(waves.count):
            batches += stem_batches(waves, wave, of_stems, longest, groups)
            batches += branch_batches(waves, wave, branches, of_branches, longest, groups)
        self._batches = batches
        self.is_stem = np.array([batch.is_stem for batch in batches], np.bool_)
        self.batch_shapes = np.array([batch.shape for batch in batches], np.int32).reshape(-1, 2)
        self.columns = np.array([batch.columns for batch in batches], np.int32)
        self.chunks = np.array([batch.chunk for batch in batches], np.int64)
        self._place(len(segments))

    def _place(self, count: int) -> None:
        """Finds the batch and row of each segment, and the room that states need."""
        batches = np.zeros(len(self.branches.length), np.int32)
        rows, self.room = batches.copy(), 1
        for number, batch in enumerate(self._batches):
            pieces, places = batch.filled()
            if not batch.is_stem:
                batches[pieces], rows[pieces] = number, places
            depths = self.depths(number, pieces)
            self.room = max(self.room, int(depths.max(initial=0)) + batch.columns)
        of = self.branches.of
        self.batches, self.rows, self.starts = batches[of], rows[of], np.zeros(count, np.int32)
        self._order = np.lexsort([self.rows, self.batches])
        self._firsts = np.searchsorted(self.batches[self._order], np.arange(len(self._batches) + 1))

    @property
    def segment_count(self) -> int:
        """The number of segments."""
        return len(self.batches)

    def batch_segments(self, batch: int) -> NDArray[np.int64]:
        """``int64[m]``: the segments that are scored in a batch, by row; none in a batch of stems."""
        return self._order[self._firsts[batch] : self._firsts[batch + 1]]

    def pieces(self, batch: int) -> NDArray[np.int64]:
        """``int64[rows]``: the stem node or branch in each row; -1 for filler."""
        return self._batches[batch].pieces

    def depths(self, batch: int, pieces: NDArray[np.int64]) -> NDArray[np.int32]:
        """How many tokens precede each of some pieces of a batch."""
        if self.is_stem[batch]:
            return self.stems.begins[self._waves.node_stem[pieces]]
        return self.branches.depth[pieces]

    def tokens(self, batch: int, pieces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """For some pieces of a batch, where their tokens begin in the segments' tokens, and their number."""
        if self.is_stem[batch]:
            return stem_tokens(self._segments, self.stems, self._waves.node_stem[pieces])
        depth = self.branches.depth[pieces]
        begins = self._segments.offsets[self.branches.segment[pieces]] + depth
        return begins, self.branches.length[pieces]

    def state_slots(
        self, batch: int, pieces: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """For some pieces of a batch, the slots that they start from, and those that their states go to.

        Slot ``slots`` holds the empty state, and ``slots + 1`` means that a state is not stored.
        """
        nowhere = np.int32(self.slots + 1)
        if self.is_stem[batch]:
            return self._waves.from_slot(self._waves.node_parent[pieces]), self._waves.node_slot[pieces]
        return self._waves.from_slot(self._waves.branch_node[pieces]), np.full(len(pieces), nowhere)

    @property
    def shapes(self) -> NDArray[np.int32]:
        """``int32[k, 2]``: the distinct shapes, in the order of their first use."""
        first = np.unique(self.batch_shapes, axis=0, return_index=True)[1]
        return self.batch_shapes[np.sort(first)]

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """The figures of :attr:`windrow.Plan.statistics`, and the number of ``stems`` and ``waves``."""
        row_tokens = int(self.stems.lengths[self._waves.node_stem].sum()) + int(self.branches.length.sum())
        rows = len(self._waves.node_stem) + len(self.branches.length)
        device = int((self.batch_shapes[:, 0].astype(np.int64) * self.columns).sum())
        real = int(self._segments.input_lengths.sum())
        return {
            "segments": self.segment_count,
            "shared_segments": self.segment_count - len(self.branches.length),
            "rows": rows,
            "filler_rows": int(self.batch_shapes[:, 0].sum()) - rows,
            "batches": len(self._batches),
            "real_tokens": real,
            "row_tokens": row_tokens,
            "shared_tokens": real - row_tokens,
            "padding_tokens": device - row_tokens,
            "device_tokens": device,
            "shapes": self.shapes.tolist(),
            "stems": len(self.stems),
            "waves": self._waves.count,
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the plan, for comparison between hosts."""
        digest = blake2b(digest_size=8)
        for batch in self._batches:
            digest.update(
                np.array([batch.is_stem, *batch.shape, batch.columns, batch.chunk], np.int64).tobytes()
                + batch.pieces.tobytes()
            )
        for array in (self.stems.depth, self.branches.depth, self.branches.length, self._waves.node_slot):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def __str__(self) -> str:
        """One line with the plan's main figures."""
        figures = self.statistics
        return (
            f"{self.segment_count} segments in {figures['rows']} rows and {len(self.stems)} shared prefixes; "
            f"{figures['batches']} batches of {len(figures['shapes'])} shapes, "
            f"{figures['device_tokens']} tokens"
        )
