"""Warnings that show the caller's line; on the command line, which has none, a single line."""

import inspect
import warnings
from typing import Any

_GIVEN: set[str] = set()
"""The messages of windrow's own warnings."""


def warn(message: str) -> None:
    """Warns at the line that called windrow: the first one outside this package."""
    depth, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "windrow":
        depth, frame = depth + 1, frame.f_back
    _GIVEN.add(message)
    warnings.warn(message, stacklevel=depth)


def warn_in_one_line() -> None:
    """Shows windrow's own warnings without a line of source code, from now on."""
    others = warnings.formatwarning

    def formatted(message: Any, *where: Any, **more: Any) -> str:
        if str(message) in _GIVEN:
            return f"windrow: warning: {message}\n"
        return others(message, *where, **more)

    warnings.formatwarning = formatted
