"""Fingerprints of everything that affects results, so that only matching runs reuse saved results."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Fingerprint = Mapping[str, str | list[float]]
"""By name: strings that must match exactly, and numbers that must match closely."""


def differing(made: Mapping[str, Any], own: Fingerprint) -> list[str]:
    """The names of the entries that differ between the fingerprint of saved results and that of this run.

    >>> differing({"tokenizer": "a", "numbers": [1.0]}, {"tokenizer": "b", "numbers": [1.001]})
    ['tokenizer']
    """
    return [name for name in own if not _agree(name, made.get(name), own[name])]


def mismatch(place: str, made: Mapping[str, Any] | None, own: Fingerprint, remedy: str) -> str:
    """Why saved results cannot be used; empty if they can.

    Args:
        place: Where they are saved.
        made: The fingerprint saved with them, if there is one.
        own: The fingerprint of this run.
        remedy: What to do.
    """
    if made is None:
        return f"{place} does not record which model made it; {remedy}"
    if names := differing(made, own):
        return f"{place} does not match this run (different {', '.join(names)}); {remedy}"
    return ""


def _agree(name: str, made: Any, own: str | list[float]) -> bool:
    if name == "on_bad_request" and made == "raise":
        return True  # such results contain no failures
    if isinstance(own, str) or not isinstance(made, list) or len(made) != len(own):
        return bool(made == own)
    return bool(np.allclose(made, own, rtol=0.01, atol=0.1, equal_nan=True))
