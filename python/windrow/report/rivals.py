"""The cost of other ways to batch the same segments, for comparison with a plan.

Each function takes segment lengths, ``n`` integers in arrival order, and a batch size. Only lm_eval's own
backend deduplicates equal inputs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

REFERENCE_MULTIPLE = 128
"""The padding multiple of the reference pipeline."""


@dataclass(frozen=True)
class Cost:
    """The cost of some batches.

    Attributes:
        device_tokens: Tokens on the device, padding and filler included.
        shapes: The distinct ``(rows, length)``; each takes one compilation.
    """

    device_tokens: int
    shapes: frozenset[tuple[int, int]]

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.device_tokens + other.device_tokens, self.shapes | other.shapes)


def arrival_order(lengths: ArrayLike, rows: int) -> Cost:
    """Batches ``rows`` segments at a time in arrival order, and pads each batch to its longest row.

    >>> cost = arrival_order([3, 5, 4, 2, 9], rows=2)
    >>> cost.device_tokens, sorted(cost.shapes)
    (27, [(1, 9), (2, 4), (2, 5)])
    """
    array = np.asarray(lengths, np.int64)
    begins = np.arange(0, len(array), rows)
    counts = np.minimum(rows, len(array) - begins)
    longest = np.maximum.reduceat(array, begins) if len(array) else array
    shapes = frozenset(zip(counts.tolist(), longest.tolist(), strict=True))
    return Cost(int(counts @ longest), shapes)


def lm_eval_pairs(lengths: ArrayLike, firsts: ArrayLike, rows: int) -> Cost:
    """The cost of ``loglikelihood`` requests in lm_eval's own backend.

    It deduplicates inputs, sorts them by length, longest first, and pads each batch to its longest row.

    Args:
        lengths: The number of input tokens of each segment.
        firsts: The first segment with the same input before truncation, ``int64[n]``.
        rows: Rows per batch.

    >>> cost = lm_eval_pairs([3, 5, 4, 3, 9], firsts=[0, 1, 2, 0, 4], rows=2)
    >>> cost.device_tokens, sorted(cost.shapes)
    (26, [(2, 4), (2, 9)])
    """
    array = np.asarray(lengths, np.int64)[np.unique(np.asarray(firsts))]
    return arrival_order(np.sort(array)[::-1], rows)


def lm_eval_windows(lengths: ArrayLike, firsts: ArrayLike, rows: int) -> Cost:
    """The cost of ``loglikelihood_rolling`` windows in lm_eval's own backend.

    It takes ``rows`` windows at a time, in arrival order, and deduplicates inputs only within such a group.
    The arguments are those of :func:`lm_eval_pairs`.

    >>> cost = lm_eval_windows([3, 5, 4, 3, 3], firsts=[0, 1, 2, 0, 0], rows=2)
    >>> cost.device_tokens, sorted(cost.shapes)
    (21, [(1, 3), (2, 4), (2, 5)])
    """
    array, firsts = np.asarray(lengths, np.int64), np.asarray(firsts, np.int64)
    batch = np.arange(len(array)) // rows
    kept = np.sort(np.unique(np.stack([batch, firsts]), axis=1, return_index=True)[1])
    counts = np.bincount(batch[kept])
    longest = np.maximum.reduceat(array, np.arange(0, len(array), rows)) if len(array) else array
    return Cost(int(counts @ longest), frozenset(zip(counts.tolist(), longest.tolist(), strict=True)))


def reference_policy(lengths: ArrayLike, rows: int, multiple: int = REFERENCE_MULTIPLE) -> Cost:
    """Sorts by length, fills the last batch, and pads each batch to a multiple.

    This is what ``xlstm_jax.dataset.lmeval_pipeline`` does.

    >>> cost = reference_policy([3, 5, 4, 2, 9], rows=2, multiple=4)
    >>> cost.device_tokens, sorted(cost.shapes)
    (40, [(2, 4), (2, 12)])
    """
    array = np.sort(np.asarray(lengths, np.int64))[::-1]
    padded = -(-array[::rows] // multiple) * multiple
    return Cost(int(padded.sum()) * rows, frozenset((rows, int(length)) for length in padded))
