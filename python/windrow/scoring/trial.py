"""Checks that a model scores rows with several inputs as it scores each input alone.

Random inputs run both ways, in batches of a shape that the run uses anyway, so nothing extra is compiled. For
packed rows, the second copy of ``b`` begins a row, so no other input comes before it:

    packed         a a a a a a a a b b b b b b b
    alone          b b b b b b b . . . . . . . .

For prefix trees:

    as a tree      s s s s a a a b b b c c d d d d
    separately     s s s s a a a | s s s s a a a b b b | s s s s a a a c c | s s s s d d d d

A model that ignores segment ids or ``reach``, derives positions from the column, or masks tokens that should
be visible gives different log-probabilities for the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan
from windrow.scoring.feed import Layout
from windrow.tokens import Segments

_STEM = 4
_SHARED = (0, 7, 7, 4)
LONGEST_PACKED = 24
"""The maximum number of tokens in the input that is compared in packed rows."""

_WAYS = {
    "packed": ("after another input", "'segment_ids' and 'positions'"),
    "trees": ("that holds a prefix tree", "'reach' and 'positions'"),
    "forks": ("that starts from a stored state", "the state, 'positions' and 'segment_ids'"),
}


@dataclass(frozen=True)
class Difference:
    """The log-probabilities, in nats, of the token on which the two layouts differ most."""

    together: float
    alone: float
    allowed: float
    layout: Layout

    def __str__(self) -> str:
        where, inputs = _WAYS[self.layout]
        return (
            f"a token's log-probability is {self.together:.4f} in a row {where}, and {self.alone:.4f} "
            f"if its input has its own row; it must depend only on {inputs}"
        )

    @property
    def is_sound(self) -> bool:
        """Whether they agree up to rounding."""
        gap = abs(self.together - self.alone)
        return self.together == self.alone or bool(gap <= self.allowed * (1 + abs(self.alone)))


SOUND = Difference(0.0, 0.0, 0.0, "rows")
"""The difference for a layout that has not been checked."""


def trial(
    layout: Layout, vocabulary: int, shape: tuple[int, int], row_multiple: int
) -> tuple[Plan, Segments]:
    """A plan with batches of one shape, and its segments: first in the layout, then the same ones alone.

    Args:
        layout: ``"packed"`` or ``"trees"``.
        vocabulary: The model's vocabulary size.
        shape: Rows and length; for trees, a length of at least 16.
        row_multiple: The number of rows is a multiple of this.
    """
    rows, length = shape
    inputs = _packed_inputs(vocabulary, length) if layout == "packed" else _tree_inputs(vocabulary) * 2
    starts = [1, 1, length - len(inputs[0]) + 1] if layout == "packed" else [_STEM] * len(inputs)
    segments = Segments.of(inputs, starts)
    shared = np.array([*_SHARED, *[0] * len(_SHARED)], np.int32)
    how = {"pack": True} if layout == "packed" else {"prefixes": (np.arange(len(inputs)), shared)}
    lengths = segments.input_lengths
    return Plan(lengths, padded_lengths=[length], batch_size=rows, row_multiple=row_multiple, **how), segments


def difference(layout: Layout, logprobs: NDArray[np.float32], allowed: float) -> Difference:
    """The largest difference between a trial's log-probabilities in the layout and alone.

    Args:
        layout: The trial's layout.
        logprobs: ``float32[m]``, the log-probabilities of all scored tokens of the trial, in nats.
        allowed: The allowed relative difference.
    """
    if layout == "packed":
        logprobs = logprobs[:-1]  # the last one is the other input's
    together, alone = np.split(logprobs.astype(np.float64), 2)
    same = (together == alone) | (np.isnan(together) & np.isnan(alone))
    with np.errstate(invalid="ignore"):  # logits of padding may be -inf
        gaps = np.where(same, 0.0, np.nan_to_num(np.abs(together - alone), nan=np.inf))
    worst = int(np.argmax(gaps / (1 + np.nan_to_num(np.abs(alone)))))
    return Difference(float(together[worst]), float(alone[worst]), allowed, layout)


def _packed_inputs(vocabulary: int, length: int) -> list[NDArray[np.int32]]:
    """``b`` twice, and ``a``, each with its next token; ``a`` and ``b`` together fill a row."""
    rng = np.random.default_rng(0)
    size = max(1, min(LONGEST_PACKED, (length - 1) // 2))
    b, a = (rng.integers(0, vocabulary, count + 1).astype(np.int32) for count in (size, length - size))
    return [b, b, a]


def _tree_inputs(vocabulary: int) -> list[NDArray[np.int32]]:
    """The inputs, each with its next token."""
    rng = np.random.default_rng(0)
    stem, a, b, c, d, *targets = (
        rng.integers(0, vocabulary, count).astype(np.int32) for count in (_STEM, 3, 3, 2, 4, 1, 1, 1, 1)
    )
    paths = [(stem, a), (stem, a, b), (stem, a, c), (stem, d)]
    return [np.concatenate([*path, target]) for path, target in zip(paths, targets, strict=True)]
