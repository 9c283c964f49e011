"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggests the closest known names; empty if none is close.

    >>> did_you_mean("arc_esy", ["arc_easy", "piqa"])
    "; did you mean 'arc_easy'?"
    >>> did_you_mean("something else", ["arc_easy", "piqa"])
    ''
    """
    near = get_close_matches(name, known, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
