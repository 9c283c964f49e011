"""Grain datasets of a plan's batches: each element is one host's rows of one batch.

Hosts do not communicate: each has the same segments, makes the same plan, and fills the rows it holds. An
element is filled when it is requested, in one pass over each of its arrays.

```text
tokens          [0 7 8 9    0 5 6]
offsets         [0, 4, 7]           two segments; the model sees all but the last token of each
score_starts    [3, 1]              scored: 9 in the first, 5 and 6 in the second
requests        [0, 1]

inputs                  [[0, 7, 8], [0, 5, 0]]
targets                 [[7, 8, 9], [5, 6, 0]]
inputs_segmentation     [[1, 1, 1], [1, 1, 0]]
targets_segmentation    [[0, 0, 1], [1, 1, 0]]
document_idx            [1, 2]
```
"""

import pickle
import threading
from typing import Any, NamedTuple, SupportsIndex

import grain
import numpy as np
from numpy.typing import NDArray

from windrow.batch import HostBatch, LLMIndexedBatch, join_rows
from windrow.datasets.indexing import split_index
from windrow.datasets.shared import SharedArray
from windrow.planning import Plan
from windrow.sharding import HostShare


class Sequences(NamedTuple):
    """The token sequences of a plan's segments.

    Attributes:
        tokens: All tokens, concatenated, ``int32[t]``. The model sees all tokens of a segment but the last.
        offsets: Where each segment begins, and where the last one ends, ``int64[n + 1]``.
        score_starts: Index within each segment of its first scored token,
            ``int32[n]``; every token from there to the end is scored.
        requests: The request each segment belongs to, from 0, ``int64[n]``.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    score_starts: NDArray[np.int32]
    requests: NDArray[np.int64]

    def lengths(self) -> NDArray[np.int32]:
        """The number of input tokens of each segment, ``int32[n]``."""
        return (np.diff(self.offsets) - 1).astype(np.int32)

    def only(self, kept: NDArray[np.bool_]) -> "Sequences":
        """The sequences of some segments, ``bool[n]``."""
        counts = np.diff(self.offsets)
        return Sequences(
            self.tokens[np.repeat(kept, counts)],
            np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64),
            self.score_starts[kept],
            self.requests[kept],
        )


class PlannedDataset(grain.MapDataset):
    """A plan's batches in execution order; each element is one host's rows of a batch.

    When pickled, the sequences and the plan's inputs become files that worker processes map into memory. Each
    worker rebuilds the plan, which takes 28 bytes per segment.

    Args:
        plan: The plan, the same on every host.
        sequences: The sequences of the plan's segments.
        share: The rows this host holds; all by default.

    Raises:
        TypeError: An array has the wrong dtype or rank.
        ValueError: Sequences and plan disagree, a request's number is negative or
            does not fit ``int32``, or batches cannot be split into the share's blocks.
    """

    def __init__(self, plan: Plan, sequences: Sequences, share: HostShare | None = None) -> None:
        super().__init__()
        _check(plan, sequences)
        self._plan = _SharedPlan(plan)
        self._arrays = [SharedArray(array) for array in sequences]
        self.share = share or HostShare((0,), 1)
        blocks = self.share.block_count
        for rows in set(plan.shapes[:, 0].tolist()):
            if rows % blocks:
                raise ValueError(
                    f"batches of {rows} rows cannot be split into {blocks} blocks, one for each host or "
                    f"device; make the plan with row_multiple={blocks}"
                )

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self._plan.plan

    @property
    def sequences(self) -> Sequences:
        """The sequences, read-only."""
        return Sequences(*(shared.array for shared in self._arrays))

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: slice | SupportsIndex) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        _, batch = split_index(index, len(self), str(self))
        rows = int(self.plan.batch_shapes[batch, 0])
        parts = [self._collate(batch, start, stop) for start, stop in self.share.row_ranges(rows)]
        return parts[0] if len(parts) == 1 else join_rows(parts)

    def __str__(self) -> str:
        return f"{type(self).__name__}({len(self)} batches)"

    __repr__ = __str__

    def _collate(self, batch: int, start: int, stop: int) -> Any:
        raise NotImplementedError


class IndexedBatchDataset(PlannedDataset):
    """A plan's batches as `LLMIndexedBatch`, one segment per row.

    The document of a row is its request, counted from 1.

    Args:
        plan: A plan without shared or packed rows.
        sequences: The sequences of the plan's segments.
        share: The rows this host holds; all by default.

    Raises:
        TypeError: See `PlannedDataset`.
        ValueError: The plan has shared or packed rows; also see `PlannedDataset`.

    >>> sequences = Sequences(np.array([0, 7, 8, 9, 0, 5, 6], np.int32), np.array([0, 4, 7]),
    ...                       np.array([3, 1], np.int32), np.array([0, 1]))
    >>> dataset = IndexedBatchDataset(Plan(sequences.lengths(), batch_size=2), sequences)
    >>> dataset[0].targets_segmentation
    array([[0, 0, 1],
           [1, 1, 0]], dtype=int32)
    """

    def __init__(self, plan: Plan, sequences: Sequences, share: HostShare | None = None) -> None:
        super().__init__(plan, sequences, share)
        if plan.statistics["rows"] != plan.segment_count:
            raise ValueError(
                "plan shares or packs rows, but an LLMIndexedBatch has one segment per row; "
                "make the plan without them"
            )

    def _collate(self, batch: int, start: int, stop: int) -> LLMIndexedBatch:
        plan = self.plan
        tokens, offsets, score_starts, requests = self.sequences
        rows = plan.batch_rows(batch)[start:stop]
        positions = plan.positions(batch, start, stop)
        ids = plan.segment_ids(batch, start, stop)
        first_scored = score_starts[rows] - 1  # the position that predicts the first scored token
        return LLMIndexedBatch(
            inputs=plan.inputs(batch, tokens, offsets, start, stop),
            targets=plan.targets(batch, tokens, offsets, start, stop),
            inputs_position=positions,
            targets_position=positions.copy(),
            inputs_segmentation=ids,
            targets_segmentation=ids * (positions >= first_scored[:, None]),
            document_idx=np.where(rows < 0, 0, requests[rows] + 1).astype(np.int32),
            sequence_idx=np.zeros(len(rows), np.int32),
            _document_borders=np.zeros(ids.shape, np.bool_),
        )


class HostBatchDataset(PlannedDataset):
    """A plan's batches as `HostBatch`: rows may be shared and packed, and hold trees.

    Args:
        plan: The plan.
        sequences: The sequences of the plan's segments; each must have at least one scored token.
        share: The rows this host holds; all by default.
        groups: The number of groups, one per device, that a batch's rows are split into; a multiple of the
            share's blocks.

    Raises:
        TypeError: See `PlannedDataset`.
        ValueError: Batches cannot be split into these groups, or a segment's scores begin before its second
            token or after its last; also see `PlannedDataset`.
    """

    def __init__(
        self, plan: Plan, sequences: Sequences, share: HostShare | None = None, groups: int = 1
    ) -> None:
        super().__init__(plan, sequences, share)
        if groups % self.share.block_count:
            raise ValueError(
                f"groups is {groups}; it must be a multiple of {self.share.block_count}, "
                "the blocks that hosts hold"
            )
        self.groups = groups
        most = plan.read_capacities(sequences.offsets, sequences.score_starts, groups).tolist()
        self._capacities = dict(zip(map(tuple, plan.shapes.tolist()), most, strict=True))

    def _collate(self, batch: int, start: int, stop: int) -> HostBatch:
        plan = self.plan
        tokens, offsets, score_starts, requests = self.sequences
        picks, reads = self._capacities[tuple(plan.batch_shapes[batch].tolist())]
        pick_index, read_pick, read_target = plan.reads(
            batch, tokens, offsets, score_starts, self.groups, picks, reads, start, stop
        )
        spans = plan.read_spans(batch, score_starts, self.groups, reads, start, stop)
        owners = requests[plan.batch_segments(batch, start, stop)]
        return HostBatch(
            inputs=plan.inputs(batch, tokens, offsets, start, stop),
            positions=plan.positions(batch, start, stop),
            segment_ids=plan.segment_ids(batch, start, stop),
            pick_index=pick_index,
            read_pick=read_pick,
            read_target=read_target,
            read_request=_spread(owners, spans, read_target.shape),
            reach=plan.reach(batch, start, stop) if plan.trees else None,
        )


def _check(plan: Plan, sequences: Sequences) -> None:
    """Rejects sequences from which the plan was not made."""
    kinds = zip(Sequences._fields, sequences, (np.int32, np.int64, np.int32, np.int64), strict=True)
    for name, array, dtype in kinds:
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
            raise TypeError(f"{name} must be a one-dimensional NumPy array of {np.dtype(dtype)}")
    count = plan.segment_count
    for name, expected in (("offsets", count + 1), ("score_starts", count), ("requests", count)):
        if (size := len(getattr(sequences, name))) != expected:
            raise ValueError(
                f"{name} has {size} elements; the plan has {count} segments, so it must have {expected}"
            )
    requests = sequences.requests
    if len(requests) and not 0 <= requests.min() <= requests.max() < np.iinfo(np.int32).max:
        raise ValueError(
            f"requests range from {requests.min()} to {requests.max()}; they must be from 0 to 2**31 - 2, "
            "because batches store them as int32"
        )
    different = np.flatnonzero(sequences.lengths() != plan.lengths)
    if len(different):
        segment = different[0]
        raise ValueError(
            f"segment {segment} has {sequences.lengths()[segment] + 1} tokens in offsets, but "
            f"{plan.lengths[segment]} + 1 in the plan; make the plan from sequences.lengths()"
        )


def _spread(owners: NDArray[np.int64], spans: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The owner of the span that each read is in; -1 if there is none."""
    of_read = np.full(shape, -1, np.int32)
    counts = spans[:, 1] - spans[:, 0]
    before = spans[:, 0] - (np.cumsum(counts) - counts)
    of_read.ravel()[np.repeat(before, counts) + np.arange(counts.sum())] = np.repeat(owners, counts)
    return of_read


class _SharedPlan:
    """A plan that pickles as the name of a file and is rebuilt from it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        self._stored: SharedArray | None = None

    def __reduce__(self) -> tuple[Any, tuple[SharedArray]]:
        with self._lock:
            if self._stored is None:
                self._stored = SharedArray(np.frombuffer(pickle.dumps(self.plan), np.uint8))
            return _restore, (self._stored,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_SharedPlan":
        return self


def _restore(stored: SharedArray) -> _SharedPlan:
    return _SharedPlan(pickle.loads(stored.array.tobytes()))
