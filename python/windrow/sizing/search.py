"""The search for the largest batch that fits.

The memory that a size needs is only known once its program is compiled, so the search tries few sizes: first
the largest useful one, which usually fits; if it does not, the smallest; then sizes found by linear
interpolation. Memory grows almost but not exactly linearly, so only a size that was tried is returned. This
takes one attempt if the largest size fits, otherwise three or four.

    64 rows and 1 row need   900 MiB and 90 MiB; 400 MiB are free
    interpolated             25 rows, which need 410 MiB: too large
    interpolated             23 rows, which need 380 MiB: chosen
"""

from collections.abc import Callable

_CLOSE = 0.85
"""The search stops at a size that fits if it is this fraction of one that does not."""

_LOOKS = 4
"""After this many attempts, the search stops at the first size that fits."""


def largest_fitting(most: int, need: Callable[[int], int], room: int) -> int | None:
    """The largest size that fits, or one slightly smaller.

    Args:
        most: The largest useful size, at least 1.
        need: Returns the memory that a size needs; roughly linear, and expensive to call.
        room: The memory available.

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
