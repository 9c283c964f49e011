"""The host side of scoring: turns a plan into device arrays.

Each host fills only the rows that its devices hold, without communication between hosts. Arrays that the
device can derive are not sent: if every row holds one segment, row lengths replace positions and segment ids.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.model import LanguageModel
from windrow.planning import Plan
from windrow.scoring.compiler import Compiler, jitted
from windrow.scoring.lanes import Lanes, is_single_cpu
from windrow.scoring.program import rows_together, score_batch
from windrow.sharding import RowSharding, place
from windrow.tokens import Segments

CAPACITY_MULTIPLE = 64
"""The capacity for scored positions of each shape is a multiple of this."""

Layout = Literal["rows", "packed", "trees", "forks"]
"""One input per row, several inputs per row, prefix trees, or rows that start from forked states."""


@dataclass(frozen=True)
class BatchShape:
    """Everything that determines the array shapes of a compiled program."""

    rows: int
    length: int
    picks: int
    reads: int
    layout: Layout

    def __str__(self) -> str:
        return f"a batch of {self.rows} x {self.length} tokens, {self.reads} of them scored in each group"


@dataclass(frozen=True)
class Part:
    """Some of the segments of a run, and their plan, whose batches have one shape.

    Attributes:
        plan: The plan of ``segments``.
        segments: The segments.
        which: ``int64[n]``, their indices among the run's segments.
        shape: The shape of the plan's batches.
    """

    plan: Plan
    segments: Segments
    which: NDArray[np.int64]
    shape: BatchShape


def layout_of(plan: Any) -> Layout:
    """How a plan, with or without forked states, puts inputs into rows."""
    if not isinstance(plan, Plan):
        return "forks"
    if plan.trees:
        return "trees"
    return "packed" if plan.packed else "rows"


class Feed:
    """The batches of a plan as arguments for the compiled programs.

    Args:
        plan: Made from the segments' input lengths (all of a segment's tokens but the last).
        segments: The segments that the plan was made from.
        sharding: How rows are split over devices.
        like: The shape of all batches; by default, shapes come from the plan.

    Attributes:
        shapes: ``batch -> BatchShape``, a list.
        at_once: The maximum number of batches that the devices run at the same time.
    """

    def __init__(
        self, plan: Plan, segments: Segments, sharding: RowSharding, like: BatchShape | None = None
    ) -> None:
        self.plan = plan
        self.segments = segments
        self.sharding = sharding
        self.shapes = [like] * len(plan.batch_shapes) if like is not None else self._shapes()
        self._lanes = Lanes(sharding, min((shape.rows for shape in self.shapes), default=1))
        self.at_once = self._lanes.count

    def _shapes(self) -> list[BatchShape]:
        plan, segments = self.plan, self.segments
        capacities = plan.read_capacities(
            segments.offsets, segments.score_starts, self.sharding.groups, CAPACITY_MULTIPLE
        )
        layout = layout_of(plan)
        distinct = {
            (rows, length): BatchShape(rows, length, picks, reads, layout)
            for (rows, length), (picks, reads) in zip(plan.shapes.tolist(), capacities.tolist(), strict=True)
        }
        return [distinct[rows, length] for rows, length in plan.batch_shapes.tolist()]

    def structs(self, shape: BatchShape) -> list[Any]:
        """The shapes and shardings of a batch's arrays: tokens, layout, and the three read arrays."""
        matrix, by_rows, groups = self.sharding.sharding, self.sharding.by_rows, self.sharding.groups

        def struct(*size: int, over: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(size, jnp.int32, sharding=over)

        tokens = struct(shape.rows, shape.length, over=matrix)
        layouts = {"rows": struct(shape.rows, over=by_rows), "packed": tokens, "trees": (tokens,) * 3}
        reads = struct(groups, shape.reads, over=by_rows)
        return [tokens, layouts[shape.layout], struct(groups, shape.picks, over=by_rows), reads, reads]

    def program(self, shape: BatchShape, model: LanguageModel, chunk_length: int | None) -> Any:
        """The jitted function for a shape; it takes the parameters and :meth:`structs`."""
        # Splitting rows over several devices would move them, and explicit axes must be kept.
        cut = is_single_cpu(self.sharding)
        together = rows_together(shape.rows, shape.length) if cut else shape.rows
        static = chunk_length, together, self.sharding.platform
        return jitted(score_batch, model, *static, out_shardings=self.sharding.by_rows)

    def ask(self, compiler: Compiler, params: Any) -> None:
        """Requests nothing: batches are independent of each other."""

    def begin(self, compiler: Compiler, params: Any) -> None:
        """Does nothing, for the same reason."""

    def dispatch(self, program: Any, params: Any, batch: int, arrays: list[Any]) -> Future[Any]:  # noqa: ARG002
        """Runs a batch; the result is its log-probabilities and greedy flags."""
        return self._lanes.call(program, params, *arrays)

    def arrays(self, batch: int) -> list[Any]:
        """A batch's arrays; this host fills the parts that its devices hold.

        For a single device, they stay NumPy arrays: the program moves them there at a third of the cost.
        """
        if self.sharding.mesh.size == 1:
            return self._whole(batch)
        shape, plan, segments = self.shapes[batch], self.plan, self.segments
        fills = [
            partial(plan.inputs, batch, segments.tokens, segments.offsets),
            jax.tree.map(lambda lay: partial(lay, batch), self._layout(shape)),
            *self._reads(batch),
        ]
        arrays: list[Any] = jax.tree.map(
            lambda struct, fill: place(struct.shape, struct.sharding, fill), self.structs(shape), fills
        )
        return arrays

    def _whole(self, batch: int) -> list[Any]:
        """A batch's arrays in NumPy."""
        shape, plan, segments = self.shapes[batch], self.plan, self.segments
        given = segments.tokens, segments.offsets
        reads = plan.reads(
            batch, *given, segments.score_starts, self.sharding.groups, shape.picks, shape.reads
        )
        layout = jax.tree.map(lambda lay: lay(batch), self._layout(shape))
        return [plan.inputs(batch, *given), layout, *reads]

    def _layout(self, shape: BatchShape) -> Any:
        """The plan's methods for a batch's layout; see :func:`windrow.scoring.program.score_batch`."""
        plan = self.plan
        if shape.layout == "trees":
            return plan.segment_ids, plan.positions, plan.reach
        return plan.segment_ids if shape.layout == "packed" else plan.row_lengths

    def _reads(self, batch: int) -> list[Callable[[int, int], NDArray[np.int32]]]:
        """Fill functions for the three read arrays."""
        shape, segments = self.shapes[batch], self.segments
        rows = shape.rows // self.sharding.groups

        def compute(first: int, last: int) -> tuple[NDArray[np.int32], ...]:
            return self.plan.reads(
                batch, segments.tokens, segments.offsets, segments.score_starts,
                self.sharding.groups, shape.picks, shape.reads, first * rows, last * rows,
            )  # fmt: skip

        return fills_of(3, compute)


Fill = Callable[[int, int], NDArray[np.int32]]
"""Fills a range of an array's leading axis."""


def fills_of(count: int, compute: Callable[[int, int], tuple[NDArray[np.int32], ...]]) -> list[Fill]:
    """Fill functions for ``count`` arrays that are computed together; each range is computed once."""
    computed = cache(compute)
    return [lambda first, last, which=which: computed(first, last)[which] for which in range(count)]  # type: ignore[misc]
