"""Chooses the prefill shape: the number of rows, and the number of columns that run at a time (a chunk).

One program prefills all prompts, and the prefixes that they share. It runs one chunk after another and stops
after the longest row, so one shape serves rows of all lengths. The shape with the lowest cost is chosen: with
more rows, there are fewer batches, but more rows stay empty where few prefixes are prefilled; with larger
chunks, ``step`` is called less often, but there is more padding.
"""

from collections.abc import Sequence
from math import lcm

import numpy as np
from numpy.typing import NDArray

from windrow.forks.shapes import CHUNKS, Shapes, chunk_price
from windrow.scoring.choice import STATE_PRICE
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH

Lengths = NDArray[np.int32]

MOST_RUNS = 64
"""Chunk lengths that divide the longest row evenly are tried, up to this many chunks."""


def one_shape(rows: int, length: int, chunk: int) -> Shapes:
    """One shape: ``rows`` rows per group of at most ``length`` tokens, in chunks of ``chunk`` columns."""
    return Shapes(
        np.array([length], np.int32), np.array([rows], np.int64), np.array([min(chunk, length)], np.int64)
    )


def choose_reading(
    rests: Lengths,
    levels: Sequence[Lengths],
    groups: int,
    most_rows: int,
    *,
    platform: str,
    multiple: int = 1,
    room: int | None = None,
    chunk_length: int | None = None,
) -> Shapes:
    """The shape in which prefill costs the least.

    Args:
        rests: ``int32[n]``, the number of tokens of each prompt to prefill when it enters: those after its
            shared prefix, without the last one.
        levels: The number of tokens of each shared prefix to prefill, an array for each level; each group
            prefills all of them.
        groups: The number of groups that rows are split into.
        most_rows: The maximum number of rows per group.
        platform: The devices' platform, such as ``"cpu"``.
        multiple: Chunk lengths chosen by cost are multiples of this.
        room: The maximum number of tokens in a row, padding included; ``None`` for no limit.
        chunk_length: The chunk length in columns; ``None`` to choose it by cost.

    Returns:
        A single shape.

    Two prompts that share nothing are prefilled together. Four samples of one prompt share a prefix of 300
    tokens, which is prefilled in one row:

    >>> reading = choose_reading(np.array([100, 90]), [], 1, 2, platform="cpu")
    >>> reading.rows.tolist(), reading.chunks.tolist()
    ([2], [104])
    >>> reading = choose_reading(np.array([0, 0, 0, 0]), [np.array([300])], 1, 4, platform="cpu")
    >>> reading.rows.tolist(), reading.chunks.tolist()
    ([1], [152])
    """
    sorted_rests, *sorted_levels = (-np.sort(-lengths) for lengths in (rests, *levels))
    longest = max(int(lengths[0]) for lengths in (sorted_rests, *sorted_levels))
    price = chunk_price(platform)

    def shape_of(rows: int, chunk: int) -> Shapes:
        whole = lcm(chunk, multiple)
        padded = -(-(longest + 1) // whole) * whole  # room for a prompt's last token, which is not prefilled
        return one_shape(rows, padded if room is None else min(padded, room), chunk)

    def total(shape: Shapes) -> float:
        rows = int(shape.rows[0])
        together = [(sorted_rests, rows * groups), *((lengths, rows) for lengths in sorted_levels)]
        return sum(_price(shape, lengths[::each], price) for lengths, each in together)

    chunks = _chunks(longest, multiple) if chunk_length is None else [chunk_length]
    rows = sorted({min(1 << power, most_rows) for power in range(most_rows.bit_length() + 1)})
    shapes = [
        shape_of(each, chunk)
        for each in rows
        for chunk in chunks
        if each * chunk <= DEFAULT_TOKENS_PER_BATCH or chunk == chunks[0]
    ]
    return min(shapes, key=total)


def _chunks(longest: int, multiple: int) -> list[int]:
    """Candidate chunk lengths, ascending: a few fixed ones, and those that divide the longest row evenly."""
    whole = lcm(CHUNKS[0], multiple)
    divided = [-(-longest // runs) for runs in range(1, MOST_RUNS + 1)]
    rounded = {max(1, -(-size // whole)) * whole for size in (*CHUNKS, *divided)}
    return sorted(size for size in rounded if size <= max(CHUNKS[-1], whole))


def _price(shape: Shapes, longest: Lengths, price: int) -> float:
    """The cost of prefilling batches, in tokens, given the longest row of each."""
    columns = shape.padded(longest)
    runs = -(-columns // shape.chunks[0])
    return float((shape.rows[0] * (columns + STATE_PRICE) + price * runs).sum())
