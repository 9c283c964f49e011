"""Exact comparison of pytrees of arrays."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np


def pytree_diff(one: Any, other: Any, at: str = "tree") -> str | None:
    """Where and how two trees differ: in structure, type, dtype, shape or value. Empty if they are equal."""
    if is_dataclass(one) and type(one) is type(other):
        one, other = vars(one), vars(other)
    if isinstance(one, Mapping) or isinstance(other, Mapping):
        if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
            return f"{at}: {type(one).__name__} and {type(other).__name__}"
        if one.keys() != other.keys():
            return f"{at}: keys {sorted(one)} and {sorted(other)}"
        return _first(pytree_diff(one[key], other[key], f"{at}[{key!r}]") for key in one)
    if type(one) is not type(other):
        return f"{at}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"{at}: {len(one)} and {len(other)} elements"
        return _first(
            pytree_diff(left, right, f"{at}[{i}]")
            for i, (left, right) in enumerate(zip(one, other, strict=True))
        )
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"{at}: {one.dtype}{one.shape} and {other.dtype}{other.shape}"
        return None if np.array_equal(one, other) else f"{at}: {one} and {other}"
    return None if one == other else f"{at}: {one!r} and {other!r}"


def _first(differences: Any) -> str | None:
    return next((difference for difference in differences if difference is not None), None)
