"""Puts *pieces*, which are the stem nodes of a wave or its branches, into batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.forks.pieces import Branches
from windrow.forks.shapes import Shapes
from windrow.forks.waves import Waves


@dataclass(frozen=True)
class Batch:
    """A batch of stem nodes or of branches.

    Attributes:
        is_stem: Whether its pieces are stem nodes.
        shape: Rows and columns of the arrays.
        columns: How many of the columns run.
        chunk: How many columns run at a time.
        pieces: ``int64[rows]``, the stem node or branch in each row; -1 for filler.
    """

    is_stem: bool
    shape: tuple[int, int]
    columns: int
    chunk: int
    pieces: NDArray[np.int64]

    def filled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pieces, and their rows."""
        places = np.flatnonzero(self.pieces >= 0)
        return self.pieces[places], places


def stem_batches(waves: Waves, wave: int, shapes: Shapes, longest: int, groups: int) -> Iterator[Batch]:
    """The batches of a wave's stems, level by level."""
    stems = waves.stems
    for nodes in waves.levels(wave):
        which = waves.node_stem[nodes]
        sizes = _Sizes(nodes, stems.lengths[which], stems.begins[which])
        yield from _batches(sizes, waves.node_group[nodes], shapes, longest, groups, is_stem=True)


def branch_batches(
    waves: Waves, wave: int, branches: Branches, shapes: Shapes, longest: int, groups: int
) -> Iterator[Batch]:
    """The batches of a wave's branches."""
    here = np.flatnonzero(waves.branch_wave == wave)
    sizes = _Sizes(here, branches.length[here], branches.depth[here])
    yield from _batches(sizes, waves.branch_group[here], shapes, longest, groups, is_stem=False)


@dataclass(frozen=True)
class _Sizes:
    """Pieces, ``[p]`` each: their indices, their lengths, and how many tokens of the input precede them."""

    pieces: NDArray[np.int64]
    lengths: NDArray[np.int32]
    depths: NDArray[np.int32]


def _batches(
    sizes: _Sizes, of_groups: NDArray[Any], shapes: Shapes, longest: int, groups: int, *, is_stem: bool
) -> Iterator[Batch]:
    """Batches of pieces, longest first; spare rows of a batch take the next shorter pieces that fit."""
    order = np.lexsort((sizes.pieces, -sizes.lengths))
    waiting = [order[of_groups[order] == group] for group in range(groups)]
    while any(map(len, waiting)):
        most = max(int(sizes.lengths[queue[0]]) for queue in waiting if len(queue))
        shape = int(shapes.which(most))
        each, length = int(shapes.rows[shape]), int(shapes.lengths[shape])
        columns = int(shapes.padded(np.array([most]))[0])
        rows = np.full((groups, each), -1, np.int64)
        taken_any = False
        for group, queue in enumerate(waiting):
            depths = sizes.depths[queue]
            fits = (depths == 0) | (depths + columns <= longest)
            taken = queue[fits][:each]
            rows[group, : len(taken)] = sizes.pieces[taken]
            waiting[group] = queue[~np.isin(queue, taken)] if len(taken) else queue
            taken_any = taken_any or bool(len(taken))
        assert taken_any, "each piece fits its own shape"
        yield Batch(is_stem, (groups * each, length), columns, int(shapes.chunks[shape]), rows.reshape(-1))
