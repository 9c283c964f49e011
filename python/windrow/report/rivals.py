"""What the same segments would cost, batched otherwise: the rivals that a plan is held against.

Each takes segment lengths, ``n`` whole numbers in the order in which requests came,
and how many rows a batch has. Nothing is shared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

REFERENCE_MULTIPLE = 128
"""What the reference pipeline pads to a multiple of."""


@dataclass(frozen=True)
class Cost:
    """What batches cost.

    Attributes:
        device_tokens: Tokens on the device, padding and filler included.
        shapes: The distinct ``(rows, length)``, each of which is one compilation.
    """

    device_tokens: int
    shapes: frozenset[tuple[int, int]]

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.device_tokens + other.device_tokens, self.shapes | other.shapes)


def arrival_order(lengths: ArrayLike, rows: int) -> Cost:
    """Takes ``rows`` segments at a time as they come and pads each batch to its longest.

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


def sorted_order(lengths: ArrayLike, rows: int) -> Cost:
    """Sorts by length, longest first, and pads each batch to its longest, as lm_eval's own backend does.

    >>> cost = sorted_order([3, 5, 4, 2, 9], rows=2)
    >>> cost.device_tokens, sorted(cost.shapes)
    (28, [(1, 2), (2, 4), (2, 9)])
    """
    return arrival_order(np.sort(np.asarray(lengths, np.int64))[::-1], rows)


def reference_policy(lengths: ArrayLike, rows: int, multiple: int = REFERENCE_MULTIPLE) -> Cost:
    """Sorts by length, fills the last batch, and pads each batch to a multiple.

    It is what ``xlstm_jax.dataset.lmeval_pipeline`` does.

    >>> cost = reference_policy([3, 5, 4, 2, 9], rows=2, multiple=4)
    >>> cost.device_tokens, sorted(cost.shapes)
    (40, [(2, 4), (2, 12)])
    """
    array = np.sort(np.asarray(lengths, np.int64))[::-1]
    padded = -(-array[::rows] // multiple) * multiple
    return Cost(int(padded.sum()) * rows, frozenset((rows, int(length)) for length in padded))
