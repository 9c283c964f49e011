"""Fills the device arrays of a plan with forked states, and keeps the store between its batches."""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.forks.plan import ForkPlan
from windrow.model import LanguageModel
from windrow.scoring.compiler import Compiler, jitted
from windrow.scoring.feed import CAPACITY_MULTIPLE, BatchShape, Fill, fills_of
from windrow.scoring.forks.program import LAYOUT, empty_store, run_branches, run_stems
from windrow.scoring.lanes import Lanes
from windrow.sharding import RowSharding, place
from windrow.tokens import Segments


@dataclass(frozen=True)
class ForkShape(BatchShape):
    """The shape of a batch of branches or, without reads, of stems, and of the store.

    Attributes:
        slots: The number of slots per group.
        room: The number of tokens that a state has room for.
        chunk: The chunk length: how many columns ``step`` runs at a time.
    """

    slots: int
    room: int
    chunk: int


class ForkFeed:
    """The batches of a plan as arguments for the compiled programs.

    Args:
        plan: The plan.
        segments: The segments that the plan was made from.
        sharding: How rows are split over devices.
        model: The model's functions.
        params: Its parameters, or their shapes.
        like: Another feed; shapes that both have get at least its read capacities, to share programs.

    Attributes:
        shapes: The shape of each batch.
        at_once: The maximum number of batches that the devices run at the same time.
    """

    def __init__(
        self,
        plan: ForkPlan,
        segments: Segments,
        sharding: RowSharding,
        model: LanguageModel,
        params: Any,
        like: "ForkFeed | None" = None,
    ) -> None:
        self.plan, self.segments, self.sharding, self._model = plan, segments, sharding, model
        self._first_scored, self._picks = self._reads_of_branches()
        self.shapes: list[ForkShape] = self._shapes([] if like is None else like.shapes)
        self._lanes = Lanes(sharding, min((shape.rows for shape in self.shapes), default=1))
        self.at_once = self._lanes.count
        self._structs = self._state_structs(params)
        self._store: Any = None

    def _reads_of_branches(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Each segment's first read, counted from its branch's first one, and each branch's picks."""
        branches, segments = self.plan.branches, self.segments
        first = segments.score_starts - 1 - branches.depth[branches.of] - branches.first_read[branches.of]
        return first.astype(np.int32), (branches.length - branches.first_read).astype(np.int64)

    def _shapes(self, like: list[ForkShape]) -> list[ForkShape]:
        plan, groups = self.plan, self.sharding.groups
        scored = np.diff(self.segments.offsets) - self.segments.score_starts
        most: dict[tuple[int, int], tuple[int, int]] = {}
        for batch, (rows, length) in enumerate(plan.batch_shapes.tolist()):
            if plan.is_stem[batch]:
                continue
            pieces, each = plan.pieces(batch), rows // groups
            picks = np.where(pieces >= 0, self._picks[pieces], 0).reshape(groups, each).sum(axis=1)
            which = plan.batch_segments(batch)
            reads = np.bincount(plan.rows[which] // each, scored[which], groups)
            before = most.get((rows, length), (1, 1))
            most[rows, length] = max(before[0], int(picks.max())), max(before[1], int(reads.max()))
        for shape in like:
            size = shape.rows, shape.length
            if size in most and shape.reads:
                most[size] = max(most[size][0], shape.picks), max(most[size][1], shape.reads)
        stores, chunks = (plan.slots, plan.room), plan.chunks.tolist()
        return [
            ForkShape(rows, length, _rounded(picks), _rounded(reads), "forks", *stores, chunk)
            for (rows, length), chunk, is_stem in zip(
                plan.batch_shapes.tolist(), chunks, plan.is_stem, strict=True
            )
            for picks, reads in [(0, 0) if is_stem else most[rows, length]]
        ]

    def _state_structs(self, params: Any) -> Any:
        empty = partial(empty_store, self._model, *self._store_sizes)
        with jax.set_mesh(self.sharding.mesh):
            store = jax.eval_shape(empty, params)
        by_rows = self.sharding.by_rows
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=by_rows), store
        )

    def structs(self, shape: BatchShape) -> list[Any]:
        """Shapes and shardings of a program's arguments: store, tokens, layout and, for branches, reads."""
        by_rows, groups = self.sharding.by_rows, self.sharding.groups

        def struct(*size: int, over: Any = by_rows) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(size, jnp.int32, sharding=over)

        tokens = struct(shape.rows, shape.length, over=self.sharding.sharding)
        arrays = [self._structs, tokens, struct(shape.rows, len(LAYOUT))]
        if not shape.reads:
            return arrays
        reads = struct(groups, shape.reads)
        return [*arrays, struct(groups, shape.picks), reads, reads]

    def program(self, shape: BatchShape, model: LanguageModel, chunk_length: int | None) -> Any:  # noqa: ARG002
        """The jitted function for a shape; it takes the parameters and arguments like :meth:`structs`."""
        assert isinstance(shape, ForkShape)
        groups, by_rows = self.sharding.groups, self.sharding.by_rows
        if shape.reads:
            static = groups, shape.chunk, self.sharding.platform
            return jitted(run_branches, model, *static, out_shardings=by_rows)
        return jitted(run_stems, model, groups, shape.chunk, out_shardings=by_rows, donate_argnums=1)

    @property
    def _store_sizes(self) -> tuple[int, int, int]:
        return self.sharding.groups, self.plan.slots, self.plan.room

    def ask(self, compiler: Compiler, params: Any) -> None:
        """Requests the program that creates the store."""
        program = jitted(empty_store, self._model, *self._store_sizes, out_shardings=self.sharding.by_rows)
        compiler.ask(("store", *self._store_sizes), program, params)

    def begin(self, compiler: Compiler, params: Any) -> None:
        """Creates the store."""
        self._store = compiler.get(("store", *self._store_sizes))(params)

    def dispatch(self, program: Any, params: Any, batch: int, arrays: list[Any]) -> Future[Any] | None:
        """Runs a batch. The result is log-probabilities and greedy flags for branches, ``None`` for stems."""
        if not self.plan.is_stem[batch]:
            return self._lanes.call(program, params, self._store, *arrays)
        self._lanes.wait()  # earlier branches read the store, which stems overwrite
        self._store = program(params, self._store, *arrays)
        return None

    def arrays(self, batch: int) -> list[Any]:
        """A batch's arrays without the store; this host fills the parts on its own devices."""
        shape = self.shapes[batch]
        fills: list[Fill] = [partial(self._tokens, batch), partial(self._layout, batch)]
        if shape.reads:
            fills += fills_of(3, partial(self._reads, batch, shape.rows // self.sharding.groups))
        return [
            place(struct.shape, struct.sharding, fill)
            for struct, fill in zip(self.structs(shape)[1:], fills, strict=True)
        ]

    def _tokens(self, batch: int, first: int, last: int) -> NDArray[np.int32]:
        pieces = self.plan.pieces(batch)[first:last]
        filled = np.flatnonzero(pieces >= 0)
        spans = self.plan.tokens(batch, pieces[filled])
        return token_rows((last - first, self.shapes[batch].length), filled, self.segments.tokens, *spans)

    def _layout(self, batch: int, first: int, last: int) -> NDArray[np.int32]:
        pieces = self.plan.pieces(batch)[first:last]
        filled = np.flatnonzero(pieces >= 0)
        which = pieces[filled]
        columns = (
            self.plan.tokens(batch, which)[1],
            self.plan.depths(batch, which),
            *self.plan.state_slots(batch, which),
        )
        return layout_rows(last - first, filled, self.plan.slots, *columns)

    def _reads(self, batch: int, each: int, first: int, last: int) -> tuple[NDArray[np.int32], ...]:
        """The three read arrays of groups ``first`` to ``last - 1``, which have ``each`` rows."""
        shape, plan, segments = self.shapes[batch], self.plan, self.segments
        picks = np.zeros((last - first, shape.picks), np.int32)
        read_pick, read_target = (np.zeros((last - first, shape.reads), np.int32) for _ in range(2))
        scored = plan.batch_segments(batch)
        group = plan.rows[scored] // each
        for index in range(last - first):
            pieces = plan.pieces(batch)[(first + index) * each : (first + index + 1) * each]
            counts = np.where(pieces >= 0, self._picks[pieces], 0)
            before = np.cumsum(counts) - counts
            starts = np.arange(each) * shape.length + np.where(
                pieces >= 0, plan.branches.first_read[pieces], 0
            )
            picks[index, : counts.sum()] = _ranges(starts, counts)
            which = scored[group == first + index]
            at = before[plan.rows[which] % each] + self._first_scored[which]
            ends, begins = segments.offsets[which + 1], segments.offsets[which] + segments.score_starts[which]
            read_pick[index, : (ends - begins).sum()] = _ranges(at, ends - begins)
            read_target[index, : (ends - begins).sum()] = segments.tokens[_ranges(begins, ends - begins)]
        return picks, read_pick, read_target


def token_rows(
    shape: tuple[int, int],
    places: NDArray[np.int64],
    tokens: NDArray[np.int32],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int32],
) -> NDArray[np.int32]:
    """``int32[rows, length]``: row ``places[i]`` holds ``lengths[i]`` tokens from ``begins[i]`` on, then 0.

    >>> token_rows((2, 3), np.array([1]), np.array([7, 8, 9], np.int32), np.array([1]), np.array([2]))
    array([[0, 0, 0],
           [8, 9, 0]], dtype=int32)
    """
    rows = np.zeros(shape, np.int32)
    columns = np.arange(shape[1])
    here = columns < lengths[:, None]
    rows[places] = np.where(here, tokens[np.where(here, begins[:, None] + columns, 0)], 0)
    return rows


def layout_rows(
    rows: int, places: NDArray[np.int64], slots: int, *columns: NDArray[np.int32]
) -> NDArray[np.int32]:
    """A batch's layout, ``int32[rows, 4]``: the columns of :data:`LAYOUT` in ``places``, filler elsewhere."""
    layout = np.zeros((rows, len(LAYOUT)), np.int32)
    layout[:, 2:] = slots, slots + 1
    layout[places] = np.stack(columns, axis=1)
    return layout


def _ranges(starts: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.int64]:
    """Concatenated ranges: ``counts[i]`` consecutive numbers from ``starts[i]`` on, for each ``i``.

    >>> _ranges(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def _rounded(count: int) -> int:
    return -(-count // CAPACITY_MULTIPLE) * CAPACITY_MULTIPLE
