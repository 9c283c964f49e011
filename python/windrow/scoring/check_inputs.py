"""The short random rows that are used to check a model.

    forward   t t t t t t      the same row twice
              t t t t t t
              t t t t . .      its prefix, padded
              t t t t u u      its prefix, then other tokens
              . . . . . .      filler
              u u u u u u      another row

To check a state, its rows read prefixes of different lengths, change places, and continue one token at a time
with pauses, as in generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Batch = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Tokens, positions and segment ids, ``int32[rows, length]`` each."""

LEAST_ROWS = 6

UNLIMITED = 1 << 16
"""A model without ``max_length`` must tell positions up to this one apart."""


@dataclass(frozen=True)
class Inputs:
    """Two random rows, and the batches made from them.

    Attributes:
        rows: The rows of each batch, at least six.
        columns: The padded length.
        full: The length of a whole row, in tokens; at most ``columns``.
        vocabulary: The vocabulary size.
    """

    rows: int
    columns: int
    full: int
    vocabulary: int

    @property
    def tokens(self) -> NDArray[np.int32]:
        """``int32[2, full]``: the two rows."""
        rng = np.random.default_rng(0)
        return rng.integers(0, self.vocabulary, (2, self.full)).astype(np.int32)

    @property
    def cut(self) -> int:
        """The length of the shared prefix."""
        return max(1, self.full * 2 // 3)

    def batch(self, rows: Sequence[NDArray[np.int32]]) -> Batch:
        """Rows, padded on the right, followed by filler."""
        tokens = np.zeros((self.rows, self.columns), np.int32)
        lengths = np.zeros(self.rows, np.int32)
        for row, given in enumerate(rows):
            tokens[row, : len(given)], lengths[row] = given, len(given)
        columns = np.broadcast_to(np.arange(self.columns, dtype=np.int32), tokens.shape).copy()
        return tokens, columns, (columns < lengths[:, None]).astype(np.int32)

    @property
    def forward(self) -> Batch:
        """The batch in the picture above."""
        t, u = self.tokens
        return self.batch([t, t, t[: self.cut], np.concatenate([t[: self.cut], u[self.cut :]]), t[:0], u])

    @property
    def alone(self) -> Batch:
        """The first row; all others are filler."""
        return self.batch([self.tokens[0]])

    @property
    def probes(self) -> NDArray[np.int32]:
        """``int32[rows]``: tokens spread over the vocabulary, the last two close to its end."""
        last = self.vocabulary - 1
        spread = np.linspace(0, last, self.rows - 1).astype(np.int32)[:-1]
        return np.array([*spread, last - self.vocabulary // 24, last], np.int32)

    def late(self, max_length: int | None) -> Batch:
        """A pair of tokens three times: at the second position, near the last ones, and at the last."""
        last = max(1, (max_length or UNLIMITED) - 2)
        tokens, positions, segment_ids = self.batch([self.tokens[0, :2]] * 3)
        positions[:3] += np.array([[1], [last - 1 - last // 24], [last]], np.int32)
        return tokens, positions, segment_ids

    def chunks(self) -> Batch:
        """The rows to read in chunks, without columns beyond ``full``."""
        t, u = self.tokens
        tokens, positions, segment_ids = self.batch([t, t[: self.cut], u, t[:0], u[:1], t])
        return tokens[:, : self.full], positions[:, : self.full], segment_ids[:, : self.full]


@dataclass(frozen=True)
class Session:
    """Rows that read prefixes, change places, and continue.

    Attributes:
        prompt: The prefixes.
        places: ``int32[rows]``, the row that moves to each place.
        steps: ``int32[steps, rows, 1]`` each: one token per row at a time; id 0 if a row pauses.
        source: ``int32[rows]``, the random row that each row holds.
    """

    prompt: Batch
    places: NDArray[np.int32]
    steps: Batch
    source: NDArray[np.int32]


def session(inputs: Inputs) -> Session:
    """A session in which no row has more than ``full - 1`` tokens."""
    rows, first = np.arange(inputs.rows), max(1, inputs.full // 2)
    read = np.array([(first, first - 1, 1, 0, first // 2, 2)[row % 6] for row in rows]).clip(0, first)
    source = (rows % 2).astype(np.int32)
    tokens = inputs.tokens[source]
    prompt = inputs.batch([tokens[row, : read[row]] for row in rows])
    places = np.roll(rows, 1).astype(np.int32)
    source, done, tokens = source[places], read[places], tokens[places]
    steps = []
    for at in range(max(1, inputs.full - first)):
        real = ((at + rows) % 3 != 0) & (done < inputs.full - 1)
        token = tokens[rows, done.clip(0, inputs.full - 1)]
        steps.append([np.where(real, token, 0), done, real])
        done = done + real
    made = np.array(steps).astype(np.int32)[..., None]
    cut = tuple(array[:, :first] for array in prompt)
    return Session((cut[0], cut[1], cut[2]), places, (made[:, 0], made[:, 1], made[:, 2]), source)
