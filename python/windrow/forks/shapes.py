"""The shapes of batches of stems and branches: how many rows, how long, and in chunks of how many columns."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.sizing.policy import BatchPolicy

NO_LIMIT = 1 << 31
"""More tokens than any row has."""

CHUNKS = (8, 16, 32, 64, 128, 256)
"""Candidate chunk lengths: the number of columns of a batch that run at a time."""

CHUNK_PRICE = {"cpu": 32}
"""The fixed cost of a chunk, in tokens, by platform."""

CHUNK_PRICE_ELSEWHERE = 512
"""The same on other platforms, where reading the parameters takes as long as a few hundred tokens."""


def chunk_price(platform: str) -> int:
    """The fixed cost of running a chunk of columns on a platform, in tokens."""
    return CHUNK_PRICE.get(platform, CHUNK_PRICE_ELSEWHERE)


@dataclass(frozen=True)
class Shapes:
    """The shapes of batches of stems, or of branches.

    Attributes:
        lengths: ``int32[k]``, the maximum length of a row, ascending.
        rows: ``int64[k]``, the number of rows per group.
        chunks: ``int64[k]``, the chunk length: how many columns run at a time.
    """

    lengths: NDArray[np.int32]
    rows: NDArray[np.int64]
    chunks: NDArray[np.int64]

    def ends(self, depths: NDArray[np.int32], lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        """The depths at which rows end, padding included, given the depths at which they begin."""
        return depths + self.padded(lengths)

    def padded(self, lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        """``int32[n]``: how many columns run for batches whose longest rows have these lengths."""
        if not len(lengths):
            return lengths
        shape = self.which(lengths)
        columns = np.minimum(rounded_up(lengths, self.chunks[shape]), self.lengths[shape])
        return np.asarray(columns, np.int32)

    def which(self, lengths: Any) -> Any:
        """The index of the smallest shape that holds each of these lengths."""
        return np.searchsorted(self.lengths, lengths)

    def only(self, which: Any) -> "Shapes":
        """Some of the shapes."""
        return Shapes(self.lengths[which], self.rows[which], self.chunks[which])

    def spread(self, lengths: NDArray[np.int32], times: int) -> "Shapes":
        """The shapes with as few rows as hold rows of these lengths in the same number of batches.

        The rows are assumed to be divided into ``times`` equal parts, one for each wave and group.
        """
        each = -(-np.bincount(self.which(lengths), minlength=len(self.lengths)) // times)
        batches = np.maximum(1, -(-each // self.rows))
        return replace(self, rows=np.maximum(1, np.minimum(self.rows, -(-each // batches))))


def shapes_of(
    policy: BatchPolicy, lengths: NDArray[np.int32], groups: int, most: int | None, shape_price: int = 0
) -> Shapes:
    """The best shapes for rows of these lengths, at most ``most`` of them, each with a single chunk."""
    if not len(lengths):
        return Shapes(np.zeros(0, np.int32), *[np.zeros(0, np.int64)] * 2)
    most = most if policy.max_shapes is None or most is None else min(most, policy.max_shapes)
    plan = replace(policy, max_shapes=most).rows_of(lengths, groups, shape_price=shape_price)
    shapes = plan.shapes[np.argsort(plan.shapes[:, 1])]
    rows, columns = shapes.astype(np.int64).T
    return Shapes(shapes[:, 1], rows // groups, columns)


def rounded_up(number: Any, multiple: Any) -> Any:
    """The smallest multiple of ``multiple`` that is at least ``number``; both may be arrays."""
    return -(-number // multiple) * multiple
