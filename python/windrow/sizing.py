"""Memory sizes, and the search for the largest batch that fits.

How much memory a size needs is only known once its program is compiled, so the search
tries few sizes: first the largest useful one, which usually fits; if it does not, the
smallest; then sizes found by linear interpolation. Memory grows almost linearly, but
not exactly, so only a size that was tried is returned. The cost is one try if the
largest size fits, otherwise three or four.

    64 rows and 1 row need   900 MiB and 90 MiB; 400 MiB are free
    interpolated             25 rows, which need 410 MiB: too large
    interpolated             23 rows, which need 380 MiB: chosen
"""

import re
from collections.abc import Callable
from typing import Any

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{letter}I": 1 << 10 * power for power, letter in enumerate("KMGT", 1)}

_CLOSE = 0.85
"""The search stops at a size that fits if it is this fraction of one that does not."""

_LOOKS = 4
"""After this many tries, the search stops at the first size that fits."""


def read_bytes(name: str, value: Any) -> int:
    """Parses a number of bytes, possibly with a unit.

    Args:
        name: The argument's name, for the error.
        value: A whole number, or a string such as ``"2GiB"``, ``"1.5 GB"`` or ``"4096"``.

    Raises:
        ValueError: It is something else, or less than 1.

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
    """Formats a number of bytes with a unit.

    >>> show_bytes(3 << 29), show_bytes(700)
    ('1.5 GiB', '700 bytes')
    """
    for power, letter in enumerate("TGMK"):
        unit = 1 << 10 * (4 - power)
        if number >= unit:
            return f"{number / unit:.1f} {letter}iB"
    return f"{int(number)} bytes"


def largest_fitting(most: int, need: Callable[[int], int], room: int) -> int | None:
    """The largest size that fits, or one slightly smaller.

    Args:
        most: The largest useful size, at least 1.
        need: Returns how much a size needs; roughly linear, and expensive to call.
        room: How much is available.

    Returns:
        A size that was tried and fits; ``None`` if not even 1 does.

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
