"""Checks arguments before anything runs: request collections, integers, sizes, names.

Numbers and sizes may also come from a command line, as strings.
"""

import operator
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import Any

ENDLESS = 1 << 48
"""Lengths of at least this are considered infinite: ``repeat()`` has length ``sys.maxsize``, and a slice or
batch of it some fraction of that."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{letter}I": 1 << 10 * power for power, letter in enumerate("KMGT", 1)}


def admit_requests(argument: str, requests: Any) -> None:
    """Rejects collections that cannot be read as a whole, before anything runs.

    Args:
        argument: The argument's name, for the error.
        requests: A sequence, a data source or a Grain ``MapDataset``.

    Raises:
        TypeError: It has no length or does not support indexing by number, like a generator, a dictionary
            or a ``DataLoader``.
        ValueError: It is infinite.

    >>> admit_requests("requests", ["a text"])
    """
    if is_endless(requests):
        raise ValueError(f"{argument} is infinite, so it cannot be sorted; remove .repeat()")
    kind = type(requests)
    if isinstance(requests, str | bytes | Mapping) or not (
        hasattr(kind, "__len__") and hasattr(kind, "__getitem__")
    ):
        raise TypeError(
            f"{argument} must be a sequence with a length and indexing, not {kind_of(requests)}: everything "
            f"is sorted before the first batch. Pass list({argument}), or the data source of the DataLoader"
        )


def is_endless(dataset: Any) -> bool:
    """Whether a dataset is infinite, judging by its length."""
    return hasattr(type(dataset), "__len__") and len(dataset) >= ENDLESS


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is an integer of at least ``least``; NumPy integers count, booleans do not.

    >>> is_whole(3), is_whole(0), is_whole(0, least=0), is_whole(True), is_whole(3.0)
    (True, False, True, False, False)
    """
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def admit_whole(name: str, value: Any, least: int = 1, also: str = "") -> int:
    """``value`` as an ``int``.

    Args:
        name: The argument's name, for the error.
        value: An integer, which may be a NumPy integer.
        least: The smallest value accepted.
        also: Other allowed values, for the error, such as ``", or None"``.

    Raises:
        ValueError: It is not an integer, or less than ``least``.

    >>> admit_whole("max_length", 0, also=", or None")
    Traceback (most recent call last):
    ValueError: max_length must be a whole number of at least 1, or None, not 0
    """
    if not is_whole(value, least):
        raise ValueError(f"{name} must be a whole number of at least {least}{also}, not {value!r}")
    return int(value)


def read_whole(name: str, value: int | str | None, least: int = 1, also: str = "") -> int | None:
    """A whole number, possibly given as a string, as on a command line; ``None`` if not given.

    Raises:
        ValueError: It is something else, or less than ``least``.

    >>> read_whole("batch_size", "8"), read_whole("batch_size", "None")
    (8, None)
    """
    if value is None or value == "None":
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of at least {least}{also}, not {value!r}")
    return number


def admit_count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an ``int``, with a separate ``TypeError`` if it is not an integer, as in Grain.

    >>> admit_count("batch_size", 8)
    8
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if (count := operator.index(value)) < least:
        raise ValueError(f"{name} is {count}; it must be at least {least}")
    return count


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


def kind_of(value: Any) -> str:
    """The type of a value with its article, for error messages.

    >>> kind_of(3), kind_of("text"), kind_of(None)
    ('an int', 'a str', 'None')
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name.lower().startswith(('a', 'e', 'i', 'o', 'ndarray')) else 'a'} {name}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggests the closest known names; empty if none is close.

    >>> did_you_mean("arc_esy", ["arc_easy", "piqa"])
    "; did you mean 'arc_easy'?"
    >>> did_you_mean("something else", ["arc_easy", "piqa"])
    ''
    """
    near = get_close_matches(name, known, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
