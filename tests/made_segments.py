"""Builds segments from tokens, with an empty report."""

import numpy as np

from windrow.tokens import Segments, TokenReport


def as_segments(sequences, starts):
    """A segment for each token sequence, scored from its start on."""
    offsets = np.cumsum([0, *map(len, sequences)]).astype(np.int64)
    count = len(sequences)
    return Segments(
        np.concatenate(sequences).astype(np.int32),
        offsets,
        np.array(starts, np.int32),
        np.arange(count),
        count,
        np.zeros(0, np.int64),
        TokenReport(count, count, int(offsets[-1]), 0, 0),
    )
