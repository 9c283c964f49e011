"""Checks that a model that takes ``reach`` honours it: random inputs, as a tree and separately.

The batch has a shape that the run uses anyway, so nothing extra is compiled:

    as a tree      s s s s a a a b b b c c d d d d
    separately     s s s s a a a | s s s s a a a b b b | s s s s a a a c c | s s s s d d d d

Both are in the same batch. A model that ignores ``reach``, that derives positions from the
column, or that masks visible tokens gives different log-probabilities for the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan
from windrow.tokens import Segments, TokenReport

_STEM = 4
_SHARED = (0, 7, 7, 4)
LONGEST = 10
"""The length of the longest input, in tokens."""

READS = 2 * 22
"""How many tokens are scored."""


@dataclass(frozen=True)
class Difference:
    """The log-probabilities, in nats, of the token on which the two layouts differ most."""

    in_tree: float
    alone: float
    allowed: float

    def __str__(self) -> str:
        return (
            f"a token's log-probability is {self.in_tree:.4f} in a row that holds a prefix tree, and "
            f"{self.alone:.4f} if its input has its own row; it must depend only on 'reach' and 'positions'"
        )

    @property
    def is_sound(self) -> bool:
        """Whether they agree up to rounding."""
        gap = abs(self.in_tree - self.alone)
        return self.in_tree == self.alone or bool(gap <= self.allowed * (1 + abs(self.alone)))


def trial(vocabulary: int, shape: tuple[int, int], row_multiple: int) -> tuple[Plan, Segments]:
    """The plan of one batch, and its segments: those of the tree, then the same ones separately.

    Args:
        vocabulary: The model's vocabulary size.
        shape: Rows and length, the latter at least :data:`LONGEST`.
        row_multiple: Rows are a multiple of this.
    """
    inputs = _inputs(vocabulary)
    ends = np.cumsum([len(tokens) for tokens in inputs])
    segments = Segments(
        np.concatenate(inputs),
        np.concatenate([[0], ends]).astype(np.int64),
        np.full(len(inputs), _STEM, np.int32),
        np.arange(len(inputs)),
        len(inputs),
        np.zeros(0, np.int64),
        TokenReport(len(inputs), len(inputs), int(ends[-1]), 0, 0),
    )
    lengths = (np.diff(segments.offsets) - 1).astype(np.int32)
    shared = np.array([*_SHARED, *[0] * len(_SHARED)], np.int32)
    plan = Plan(
        lengths,
        prefixes=(np.arange(len(inputs)), shared),
        padded_lengths=[shape[1]],
        batch_size=shape[0],
        row_multiple=row_multiple,
    )
    return plan, segments


def difference(logprobs: NDArray[np.float32], allowed: float) -> Difference:
    """The largest difference between the two halves of a trial's log-probabilities."""
    in_tree, alone = np.split(logprobs.astype(np.float64), 2)
    same = (in_tree == alone) | (np.isnan(in_tree) & np.isnan(alone))
    gaps = np.where(same, 0.0, np.nan_to_num(np.abs(in_tree - alone), nan=np.inf))
    worst = int(np.argmax(gaps / (1 + np.nan_to_num(np.abs(alone)))))
    return Difference(float(in_tree[worst]), float(alone[worst]), allowed)


def _inputs(vocabulary: int) -> list[NDArray[np.int32]]:
    """The inputs, each with its next token, twice."""
    rng = np.random.default_rng(0)
    stem, a, b, c, d, *targets = (
        rng.integers(0, vocabulary, count).astype(np.int32) for count in (_STEM, 3, 3, 2, 4, 1, 1, 1, 1)
    )
    paths = [(stem, a), (stem, a, b), (stem, a, c), (stem, d)]
    return [np.concatenate([*path, target]) for path, target in zip(paths, targets, strict=True)] * 2
