"""From a plan to device arrays: the host's side of scoring.

A host fills the rows that its devices hold, and nothing else; no host talks to
another. What the device can derive from little is not sent: where every row holds
one segment, the rows' lengths stand for positions and segment ids.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan
from windrow.sharding import RowSharding, place
from windrow.tokens import Segments

CAPACITY_MULTIPLE = 64
"""Room for scored positions is a multiple of this, in each shape."""


@dataclass(frozen=True)
class BatchShape:
    """All that a compiled program's shapes depend on."""

    rows: int
    length: int
    picks: int
    reads: int
    packed: bool

    def __str__(self) -> str:
        return f"a batch of {self.rows} x {self.length} tokens with {self.reads} scored in each group"


class Feed:
    """The batches of a plan as the arguments of the compiled programs.

    Args:
        plan: Made from the segments' input lengths (each one's tokens but the last).
        segments: What the plan was made from.
        sharding: How rows are split over devices.

    Attributes:
        shapes: ``batch -> BatchShape``, a list.
    """

    def __init__(self, plan: Plan, segments: Segments, sharding: RowSharding) -> None:
        self.plan = plan
        self.segments = segments
        self.sharding = sharding
        capacities = plan.read_capacities(
            segments.offsets, segments.score_starts, sharding.groups, CAPACITY_MULTIPLE
        )
        packed = plan.to_dict()["policy"]["pack"]
        distinct = {
            (rows, length): BatchShape(rows, length, picks, reads, packed)
            for (rows, length), (picks, reads) in zip(plan.shapes.tolist(), capacities.tolist(), strict=True)
        }
        self.shapes = [distinct[rows, length] for rows, length in plan.batch_shapes.tolist()]

    def structs(self, shape: BatchShape) -> list[jax.ShapeDtypeStruct]:
        """Shapes and shardings of a batch's arrays: tokens, layout, and where scores are read."""
        matrix, by_rows, groups = self.sharding.sharding, self.sharding.by_rows, self.sharding.groups
        layout = ((shape.rows, shape.length), matrix) if shape.packed else ((shape.rows,), by_rows)
        sizes = [
            ((shape.rows, shape.length), matrix),
            layout,
            ((groups, shape.picks), by_rows),
            ((groups, shape.reads), by_rows),
            ((groups, shape.reads), by_rows),
        ]
        return [jax.ShapeDtypeStruct(size, jnp.int32, sharding=sharding) for size, sharding in sizes]

    def arrays(self, batch: int) -> list[jax.Array]:
        """A batch's arrays, of which this host fills what its devices hold."""
        shape, plan, segments = self.shapes[batch], self.plan, self.segments
        lay = plan.segment_ids if shape.packed else plan.row_lengths
        fills: list[Callable[[int, int], NDArray[np.int32]]] = [
            lambda first, last: plan.inputs(batch, segments.tokens, segments.offsets, first, last),
            lambda first, last: lay(batch, first, last),
            *self._reads(batch),
        ]
        return [
            place(struct.shape, struct.sharding, fill)
            for struct, fill in zip(self.structs(shape), fills, strict=True)
        ]

    def _reads(self, batch: int) -> list[Callable[[int, int], NDArray[np.int32]]]:
        """Fills of the three arrays that say where scores are read; a range of groups is made once."""
        shape, segments = self.shapes[batch], self.segments
        rows = shape.rows // self.sharding.groups
        made: dict[tuple[int, int], tuple[NDArray[np.int32], ...]] = {}

        def fill(which: int, first: int, last: int) -> NDArray[np.int32]:
            if (first, last) not in made:
                made[first, last] = self.plan.reads(
                    batch, segments.tokens, segments.offsets, segments.score_starts,
                    self.sharding.groups, shape.picks, shape.reads, first * rows, last * rows,
                )  # fmt: skip
            return made[first, last][which]

        return [lambda first, last, which=which: fill(which, first, last) for which in range(3)]  # type: ignore[misc]
