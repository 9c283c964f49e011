"""How prompts are read: how many together, and how many tokens of each at a time.

One program reads all prompts, and the prefixes that they share. It runs a few columns at a time and stops
after those of the longest row, so one shape serves rows of all lengths. The cheapest shape is chosen: many
rows make few batches, but leave more of them empty when prefixes are read; many columns make few runs, but
pad more.
"""

from collections.abc import Sequence
from math import lcm

import numpy as np
from numpy.typing import NDArray

from windrow.scoring.choice import STATE_PRICE
from windrow.scoring.forks.plan import CHUNKS, Shapes, chunk_price
from windrow.sizing.policy import DEFAULT_TOKENS_PER_BATCH

Lengths = NDArray[np.int32]

MOST_RUNS = 64
"""The most runs that the longest row is divided into evenly."""


def one_shape(rows: int, length: int, chunk: int) -> Shapes:
    """One shape: ``rows`` of each group, at most ``length`` tokens long, ``chunk`` columns at a time."""
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
    """The shape in which reading costs the least.

    Args:
        rests: How many tokens of each prompt are read when it enters.
        levels: The same for shared prefixes, level by level; each group reads all of them.
        groups: The number of groups that rows are split into.
        most_rows: The most rows of each group.
        platform: Of the devices.
        multiple: Columns are multiples of this.
        room: The number of tokens that a row has room for; ``None`` for no limit.
        chunk_length: If given, how many columns run at a time.

    Prompts that share nothing are read together, samples of one prompt one by one:

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
        padded = -(-(longest + 1) // whole) * whole  # with a prompt's last token, which is not read
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
    """How many columns may run at a time, ascending: a few sizes, and those that divide the longest row."""
    whole = lcm(CHUNKS[0], multiple)
    divided = [-(-longest // runs) for runs in range(1, MOST_RUNS + 1)]
    rounded = {max(1, -(-size // whole)) * whole for size in (*CHUNKS, *divided)}
    return sorted(size for size in rounded if size <= max(CHUNKS[-1], whole))


def _price(shape: Shapes, longest: Lengths, price: int) -> float:
    """What reading batches costs, in tokens, given each one's longest row."""
    columns = shape.padded(longest)
    runs = -(-columns // shape.chunks[0])
    return float((shape.rows[0] * (columns + STATE_PRICE) + price * runs).sum())
