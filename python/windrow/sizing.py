"""Sizes of memory, and the largest size that fits into some.

What a size needs is known only once its program is compiled, so few sizes are
looked at: the most that would be of use, which mostly fits; if it does not, the
least; then those that a straight line between two needs points at. Needs are
close to a straight line, but not on it, so only a size that was looked at is
taken. The cost is one look where the most fits, three or four otherwise.

    needs of 64, 1 rows     900 MiB, 90 MiB, and 400 MiB are free
    pointed at              25 rows, which need 410 MiB: not taken
    pointed at              23 rows, which need 380 MiB: taken
"""

import re
from collections.abc import Callable
from typing import Any

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{letter}I": 1 << 10 * power for power, letter in enumerate("KMGT", 1)}

_CLOSE = 0.85
"""A size is taken if it is so near to one that does not fit."""

_LOOKS = 4
"""After so many looks the first size that fits is taken."""


def read_bytes(name: str, value: Any) -> int:
    """A number of bytes, given as one or as a string with a unit.

    Args:
        name: What the value is called in an error.
        value: A whole number, or a string such as ``"2GiB"``, ``"1.5 GB"`` or ``"4096"``.

    Raises:
        ValueError: It is none of these, or less than 1.

    >>> read_bytes("memory_budget", "2GiB"), read_bytes("memory_budget", "0.5 MB")
    (2147483648, 500000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(value).upper())
    sound = isinstance(value, int | str) and not isinstance(value, bool)
    number = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS and sound else 0
    if number < 1:
        raise ValueError(f"{name} must be a number of bytes, or a string such as '2GiB', not {value!r}")
    return number


def show_bytes(number: float) -> str:
    """A number of bytes for people.

    >>> show_bytes(3 << 29), show_bytes(700)
    ('1.5 GiB', '700 bytes')
    """
    for power, letter in enumerate("TGMK"):
        unit = 1 << 10 * (4 - power)
        if number >= unit:
            return f"{number / unit:.1f} {letter}iB"
    return f"{int(number)} bytes"


def largest_fitting(most: int, need: Callable[[int], int], room: int) -> int | None:
    """The largest size, or one close below it, that needs no more than there is room for.

    Args:
        most: The largest size of use, at least 1.
        need: What a size needs; about a straight line, and dear to find out.
        room: How much there is.

    Returns:
        A size whose need was found to fit; ``None`` if not even 1 does.

    >>> largest_fitting(64, lambda size: 80 + 13 * size, 400)
    24
    """
    high, over = most, need(most)
    if over <= room:
        return most
    low, under = 1, need(1) if most > 1 else over
    if under > room:
        return None
    looks = 2
    while high - low > 1 and (low < _CLOSE * high) and not (looks >= _LOOKS and low > 1):
        pointed = low + int((room - under) / (over - under) * (high - low)) if over > under else high - 1
        if looks >= _LOOKS:
            pointed = min(pointed, high // 2)
        size = min(max(pointed, low + 1), high - 1)
        needed = need(size)
        looks += 1
        if needed > room:
            high, over = size, needed
        else:
            low, under = size, needed
            if size == pointed:
                break
    return low
