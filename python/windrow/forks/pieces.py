"""Cuts inputs into stems and branches.

A branch is the rest of an input after its longest stem. Scores are read from branches only, so a stem ends
before the first position whose logits are read, in every input that begins with it. Equal inputs share a
branch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windrow.planning import prefix_stems
from windrow.tokens import Segments

LEAST_SAVED = 32
"""The minimum number of tokens that a stem must save, since it costs a row and a stored state."""

LEAST_SAVED_BY_LEVEL = 2048
"""The minimum number of tokens that the stems of one level must save together, since each level costs at
least one more batch."""


@dataclass(frozen=True)
class Stems:
    """Stems in depth-first order: a stem's parent comes before it.

    Attributes:
        depth: ``int32[s]``, the number of tokens in each stem, counted from the beginning of the input.
        parent: ``int64[s]``, the longest stem that each one begins with; -1 if there is none.
        segment: ``int64[s]``, a segment that begins with each one.
    """

    depth: NDArray[np.int32]
    parent: NDArray[np.int64]
    segment: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of stems."""
        return len(self.depth)

    @cached_property
    def level(self) -> NDArray[np.int64]:
        """``int64[s]``: how many other stems each one begins with."""
        levels = np.zeros(len(self), np.int64)
        above = self.parent.copy()
        while (deeper := above >= 0).any():
            levels += deeper
            above[deeper] = self.parent[above[deeper]]
        return levels

    @cached_property
    def begins(self) -> NDArray[np.int32]:
        """``int32[s]``: where each one's own tokens begin, which is the depth of its parent."""
        return self.depth_of(self.parent)

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """``int32[s]``: how many tokens each one adds to its parent."""
        return self.depth - self.begins

    def depth_of(self, which: NDArray[np.int64]) -> NDArray[np.int32]:
        """The depth of some stems; 0 for -1."""
        return np.append(self.depth, np.int32(0))[which]

    def without(
        self, dropped: NDArray[np.bool_], stem: NDArray[np.int64]
    ) -> "tuple[Stems, NDArray[np.int64]]":
        """The stems that are not dropped, and the longest of them that each segment begins with."""
        kept = np.flatnonzero(~dropped)
        number = np.full(len(self) + 1, -1, np.int64)  # the last element is for -1
        number[kept] = np.arange(len(kept))
        for each in np.flatnonzero(dropped):  # a parent comes before its stems
            number[each] = number[self.parent[each]]
        parent = number[self.parent[kept]]
        return Stems(self.depth[kept], parent, self.segment[kept]), number[stem]


@dataclass(frozen=True)
class Branches:
    """The branches of all distinct inputs.

    Attributes:
        segment: ``int64[b]``, a segment with each input.
        stem: ``int64[b]``, the stem that the branch starts from; -1 for the empty state.
        depth: ``int32[b]``, the number of tokens in that stem.
        length: ``int32[b]``, the number of tokens in the branch.
        first_read: ``int32[b]``, the index in the branch of the first token whose logits are read.
        of: ``int64[n]``, the branch of each segment.
    """

    segment: NDArray[np.int64]
    stem: NDArray[np.int64]
    depth: NDArray[np.int32]
    length: NDArray[np.int32]
    first_read: NDArray[np.int32]
    of: NDArray[np.int64]


def cut(
    segments: Segments, least: int = LEAST_SAVED, least_by_level: int = LEAST_SAVED_BY_LEVEL
) -> tuple[Stems, NDArray[np.int64]]:
    """The stems worth running once, and the stem of each segment, ``int64[n]``; -1 for none."""
    reads = np.clip(segments.score_starts - 1, 0, segments.input_lengths).astype(np.int32)
    depth, parent, segment, stem = prefix_stems(segments.input_lengths, *segments.input_order, reads, least)
    stems = Stems(depth, parent, segment)
    for level in range(int(stems.level.max(initial=-1)), -1, -1):
        here = stems.level == level
        if saved(stems, stem, segments.equal_inputs)[here].sum() < least_by_level:
            stems, stem = stems.without(here, stem)
    return stems, stem


def saved(stems: Stems, stem: NDArray[np.int64], equal: NDArray[np.int64]) -> NDArray[np.int64]:
    """``int64[s]``: how many tokens each stem saves, in all but one of the rows that start from it."""
    distinct = np.unique(equal)
    starting = np.bincount(np.append(stem[distinct], stems.parent) + 1, minlength=len(stems) + 1)[1:]
    return stems.lengths.astype(np.int64) * (starting - 1)


def stem_tokens(
    segments: Segments, stems: Stems, which: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For some stems, where their own tokens begin in the segments' tokens, and their number."""
    return segments.offsets[stems.segment[which]] + stems.begins[which], stems.lengths[which]


def branch(segments: Segments, stems: Stems, stem: NDArray[np.int64]) -> Branches:
    """The branches that remain, given the stem of each segment."""
    distinct, of = np.unique(segments.equal_inputs, return_inverse=True)
    depth = stems.depth_of(stem[distinct])
    first = np.full(len(distinct), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first, of, segments.score_starts - 1)
    first = np.maximum(first, depth) - depth
    return Branches(
        distinct, stem[distinct], depth, segments.input_lengths[distinct] - depth, first, of.reshape(-1)
    )
