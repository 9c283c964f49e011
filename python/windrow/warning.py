"""Warnings that show the caller's line."""

import inspect
import warnings


def warn(message: str) -> None:
    """Warns at the line that called windrow: the first one outside this package."""
    depth, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "windrow":
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, stacklevel=depth)
