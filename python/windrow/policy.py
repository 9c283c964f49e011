"""How segments are to be batched, and the plan that follows from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windrow.planning import Plan, group_identical
from windrow.tokens import Segments

DEFAULT_TOKENS_PER_BATCH = 8192
"""Tokens a batch where neither ``batch_size`` nor ``tokens_per_batch`` is given."""


@dataclass(frozen=True)
class BatchPolicy:
    """What decides the batches of a run; the defaults need no thought.

    Attributes:
        batch_size: Rows a batch.
        tokens_per_batch: The most tokens in a batch, padding included, so that short
            rows come in larger batches. Where neither is given, 8,192, or as many as
            one row of the longest segment needs on each device.
        max_shapes: The most distinct batch shapes, each of which is one compilation;
            ``None`` pads to every multiple that occurs.
        padding_multiple: Padded lengths are multiples of this.
        share: Whether segments with equal inputs share a row.
        pack: Whether several segments share a row; only for models that honour
            segment ids and positions.
    """

    batch_size: int | None = None
    tokens_per_batch: int | None = None
    max_shapes: int | None = 8
    padding_multiple: int = 1
    share: bool = True
    pack: bool = False

    def __post_init__(self) -> None:
        """Refuses two batch sizes at once."""
        if self.batch_size is not None and self.tokens_per_batch is not None:
            raise ValueError("give batch_size or tokens_per_batch, not both")

    def plan(self, segments: Segments, row_multiple: int) -> Plan:
        """The plan for these segments, with rows a multiple of ``row_multiple``."""
        lengths = (np.diff(segments.offsets) - 1).astype(np.int32)
        return Plan(
            lengths,
            equal_inputs(segments) if self.share and len(lengths) else None,
            **self._rows(lengths, row_multiple),
            row_multiple=row_multiple,
            max_shapes=self.max_shapes,
            padding_multiple=self.padding_multiple,
            pack=self.pack,
        )

    def _rows(self, lengths: NDArray[np.int32], row_multiple: int) -> dict[str, Any]:
        if self.batch_size is not None:
            return {"batch_size": self.batch_size}
        if self.tokens_per_batch is not None:
            return {"tokens_per_batch": self.tokens_per_batch}
        longest = int(lengths.max(initial=1))
        padded = -(-longest // self.padding_multiple) * self.padding_multiple
        return {"tokens_per_batch": max(DEFAULT_TOKENS_PER_BATCH, padded * row_multiple)}


def equal_inputs(segments: Segments) -> NDArray[np.int64]:
    """``int64[n]``: the first segment with the same model input, which is all tokens but the last."""
    keep = np.ones(len(segments.tokens), np.bool_)
    keep[segments.offsets[1:] - 1] = False
    return group_identical(segments.tokens[keep], segments.offsets - np.arange(len(segments.offsets)))
