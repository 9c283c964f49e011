"""Batch shapes that are chosen once and used by every window, so that only the first window compiles.

A sample of the first documents is planned like any other requests: the model, the policy and device memory
determine the layout of rows, their lengths, and the number of tokens per batch. All windows are then planned
in these shapes. The read arrays of a batch have room for a score at every position.

```text
sample            12 texts and one of the longest length  ->  one input per row, lengths 64, 256 and 1024
tokens per batch  8192                                    ->  128 x 64, 32 x 256, 8 x 1024
a window          256 texts of up to 64 tokens, 31 of up to 256, 1 of 900    ->  2, 1 and 1 batches
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan, bucket_ids
from windrow.scoring import BatchShape, ForkPlan, Part, Scorer, layout_of
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH, BatchPolicy
from windrow.tokens import Segments

LEAST_LIMIT = 2048
"""For models without a maximum length, rows have at least this length, unless batches are smaller."""


@dataclass(frozen=True)
class FixedShapes:
    """The shapes of all batches of a run.

    Attributes:
        shapes: The shapes, in order of length, shortest first.
        groups: The number of groups that a batch's rows are split into.
        shares: Whether equal inputs share a row.
    """

    shapes: tuple[BatchShape, ...]
    groups: int
    shares: bool

    @classmethod
    def chosen(cls, scorer: Scorer, policy: BatchPolicy, sample: Segments, longest: int) -> "FixedShapes":
        """Chooses the shapes for documents like those of a sample.

        Args:
            scorer: Plans the sample for the model.
            policy: How segments are batched.
            sample: Segments of some documents.
            longest: The length of the longest input that a row must hold, in tokens.

        Raises:
            ValueError: The policy requires forked states.
        """
        if policy.share == "forks":
            raise ValueError("share='forks' cannot be used in fixed shapes; use share='auto' or 'equal'")
        plan = scorer.plan(policy, _with_longest(sample, longest))
        if isinstance(plan, ForkPlan):
            plan = scorer.plan(replace(policy, share="equal"), _with_longest(sample, longest))
        groups = scorer.sharding.groups
        lengths, tokens = plan.batch_shapes[:, 1].astype(np.int64), plan.batch_shapes.prod(axis=1)
        layout = layout_of(plan)
        if layout != "rows":  # any of these lengths holds all inputs; the largest batch has the best one
            lengths = lengths[[int(tokens.argmax())]]
        most = scorer.choice.get("tokens_per_batch") or policy.tokens_per_batch
        most = most if isinstance(most, int) else max(DEFAULT_TOKENS_PER_BATCH, longest * groups)
        shapes = []
        for length in sorted(set(lengths.tolist())):
            rows = policy.batch_size or max(groups, most // length // groups * groups)
            reads = rows // groups * length
            shapes.append(BatchShape(rows, length, reads, reads, layout))
        return cls(tuple(shapes), groups, bool(policy.share))

    @property
    def longest(self) -> int:
        """The length of the longest input that a row holds, in tokens."""
        return self.shapes[-1].length

    def parts(self, segments: Segments) -> Iterator[Part]:
        """Plans of a window's segments in these shapes, longest first."""
        lengths = np.array([shape.length for shape in self.shapes], np.int32)
        buckets = bucket_ids(segments.input_lengths, lengths)
        for bucket in range(len(lengths) - 1, -1, -1):
            which = np.flatnonzero(buckets == bucket)
            if len(which):
                yield from self._planned(segments, which, self.shapes[bucket])

    def _planned(self, segments: Segments, which: NDArray[np.int64], shape: BatchShape) -> Iterator[Part]:
        own = segments if len(which) == len(segments) else segments.only(which)
        plan = self._plan(own, shape)
        _, reads = plan.read_capacities(own.offsets, own.score_starts, self.groups, 1)[0].tolist()
        if reads <= shape.reads:
            yield Part(plan, own, which, shape)
            return
        # Many segments share rows, so a batch has more reads than it has room for. Plan each half by itself.
        for half in np.array_split(which, 2):
            yield from self._planned(segments, half, shape)

    def _plan(self, segments: Segments, shape: BatchShape) -> Plan:
        lengths = segments.input_lengths
        fixed: dict[str, Any] = {
            "batch_size": shape.rows,
            "row_multiple": self.groups,
            "padded_lengths": [shape.length],
        }
        if shape.layout == "trees":
            return Plan(lengths, prefixes=segments.input_order, **fixed)
        same = segments.equal_inputs if self.shares else None
        return Plan(lengths, same, pack=shape.layout == "packed", **fixed)


def limit_of(sample: Segments, max_length: int | None, most: int | None) -> int:
    """The length of the longest input that rows must hold.

    This is the model's limit. Without one, it is twice the longest input of a sample, rounded up to a power
    of two, and at least :data:`LEAST_LIMIT`; but at most ``most``, unless the sample itself needs more.

    Args:
        sample: The segments of the first documents.
        max_length: The model's limit; ``None`` for no limit.
        most: The maximum number of tokens per row in a batch; ``None`` if unknown.
    """
    if max_length is not None:
        return max_length
    longest = int(sample.input_lengths.max(initial=1))
    limit = max(LEAST_LIMIT, 1 << (2 * longest - 1).bit_length())
    return limit if most is None else max(longest, min(limit, most))


def too_long(segments: Segments, longest: int) -> Sequence[int]:
    """The requests with an input of more than ``longest`` tokens."""
    found: list[int] = np.unique(segments.requests[segments.input_lengths > longest]).tolist()
    return found


def _with_longest(sample: Segments, longest: int) -> Segments:
    """The sample and one more segment of maximum length, which is planned but never run."""
    return replace(
        sample,
        tokens=np.concatenate([sample.tokens, np.zeros(longest + 1, np.int32)]),
        offsets=np.append(sample.offsets, len(sample.tokens) + longest + 1),
        score_starts=np.append(sample.score_starts, np.int32(1)),
        requests=np.append(sample.requests, sample.request_count),
        request_count=sample.request_count + 1,
    )
