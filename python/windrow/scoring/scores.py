"""The scores of segments, and sums of them."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from windrow import _rust
from windrow.tokens import Segments

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Scores:
    """The scores of each segment's scored tokens.

    Attributes:
        token_logprobs: ``float32[m]``, the log-probability of each scored token in nats, segment by segment;
            NaN if the model's logits are NaN.
        token_greedy: ``bool[m]``, whether the token has the highest logit.
        offsets: ``int64[n + 1]``, where each segment's scored tokens begin.
    """

    token_logprobs: NDArray[np.float32]
    token_greedy: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @classmethod
    def unknown(cls, segments: Segments) -> "Scores":
        """Scores for these segments, NaN until they are filled in."""
        counts = np.diff(segments.offsets) - segments.score_starts
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.full(offsets[-1], np.nan, np.float32), np.zeros(offsets[-1], np.bool_), offsets)

    def put(
        self,
        segments: NDArray[np.int64],
        token_logprobs: NDArray[np.float32],
        token_greedy: NDArray[np.bool_],
    ) -> None:
        """Fills in the scores of some segments, which are given one segment after another.

        Args:
            segments: ``int64[m]``, the segments.
            token_logprobs: ``float32[k]``, the log-probability of each of their scored tokens; further
                elements are ignored.
            token_greedy: ``bool[k]``, their greedy flags.
        """
        own = self.token_logprobs, self.token_greedy
        _rust.spread_scores(segments, self.offsets, token_logprobs, token_greedy, *own)

    def only(self, segments: NDArray[np.int64]) -> "Scores":
        """The scores of some segments."""
        begins, counts = self.offsets[segments], self.offsets[segments + 1] - self.offsets[segments]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        positions = np.repeat(begins - offsets[:-1], counts) + np.arange(offsets[-1])
        return Scores(self.token_logprobs[positions], self.token_greedy[positions], offsets)

    def sums(self) -> NDArray[np.float64]:
        """``float64[n]``: each segment's log-likelihood, 0 if nothing is scored."""
        return self._by_segment(np.add, self.token_logprobs.astype(np.float64), 0.0)

    def greedy(self) -> NDArray[np.bool_]:
        """``bool[n]``: whether greedy decoding would produce all scored tokens."""
        return self._by_segment(np.logical_and, self.token_greedy, True)

    def _by_segment(self, reduce: np.ufunc, values: NDArray[T], empty: float | bool) -> NDArray[T]:
        scored = self.offsets[1:] > self.offsets[:-1]
        reduced = np.full(len(scored), empty, values.dtype)
        if scored.any():
            reduced[scored] = reduce.reduceat(values, self.offsets[:-1][scored])
        return reduced
