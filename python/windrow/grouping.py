"""Reproduces the shifted reads of lm-eval's own backend.

``HFLM`` of lm_eval 0.4.13 runs the model once for all requests of a call with equal inputs (context and
continuation without its last token), and keeps the logits for the longest continuation in the group. For a
request with a shorter continuation, it takes the greedy flag from the *last* of these logits, which is
correct, but gathers the log-probabilities from the *first* ones (``HFLM._loglikelihood_tokens`` and
``Collator.get_cache``). So in

```text
tokens                          a  b  c  d  e
continuation of request 0          b  c  d  e     read at a b c d
continuation of request 1                d  e     read at c d, but HFLM reads d at a and e at b
```

request 1 gets log p(d | a) + log p(e | a b). This only affects requests that split the same tokens at
different places, which is rare; requests whose continuations have equal lengths, such as the choices of a
question, are not affected.

To match the harness, windrow does the same. Each shifted read is an additional segment, which consists of the
tokens up to where it is read and the token that is scored.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from windrow.tokens import Segments


def with_shifted_reads(
    segments: Segments, whole: Callable[[NDArray[np.int64]], Segments]
) -> tuple[Segments, NDArray[np.bool_]]:
    """The segments, followed by those for shifted reads.

    Args:
        segments: At most one segment per request.
        whole: Returns the untruncated segments of some requests, because requests are
            grouped by their inputs before truncation.

    Returns:
        ``n + k`` segments, the last ``k`` with one scored token each, and
        ``bool[n + k]``: whether a segment's log-likelihood counts towards its request.
        Greedy flags come from the first ``n``.
    """
    scored = np.diff(segments.offsets) - segments.score_starts.astype(np.int64)
    first = segments.equal_inputs.copy()
    mixed = _mixed(first, scored)
    cut = np.isin(segments.requests, list(segments.report.truncated))
    if cut[mixed].any():
        first[mixed] = mixed[whole(segments.requests[mixed]).equal_inputs]
    longest = _longest(first, scored)
    owners = np.flatnonzero(scored < longest)
    pieces = [piece for owner in owners for piece in _pieces(segments, owner, scored[owner], longest[owner])]
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    joined = replace(
        segments,
        tokens=np.concatenate([segments.tokens, *pieces]),
        offsets=np.concatenate([segments.offsets, segments.offsets[-1] + np.cumsum(lengths)]),
        score_starts=np.concatenate([segments.score_starts, (lengths - 1).astype(np.int32)]),
        requests=np.concatenate([segments.requests, np.repeat(segments.requests[owners], scored[owners])]),
    )
    counted = np.ones(len(joined), np.bool_)
    counted[owners] = False
    return joined, counted


def _longest(first: NDArray[np.int64], scored: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of scored tokens of the longest continuation in each segment's group."""
    longest = np.zeros_like(scored)
    np.maximum.at(longest, first, scored)
    return longest[first]


def _mixed(first: NDArray[np.int64], scored: NDArray[np.int64]) -> NDArray[np.int64]:
    """The segments of all groups with continuations of different lengths."""
    return np.flatnonzero(np.isin(first, first[scored < _longest(first, scored)]))


def _pieces(
    segments: Segments, owner: np.int64, scored: np.int64, longest: np.int64
) -> list[NDArray[np.int32]]:
    tokens = segments.tokens[segments.offsets[owner] : segments.offsets[owner + 1]]
    begin = len(tokens) - longest
    return [np.append(tokens[: begin + place], tokens[place - scored]) for place in range(scored)]
