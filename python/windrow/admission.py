"""Checks that a collection of requests can be planned: it must be finite and indexable."""

from typing import Any

ENDLESS = 1 << 48
"""Lengths from here on count as endless: ``repeat()`` has length ``sys.maxsize``, and a slice or batch of it
some fraction of that."""


def admit_requests(argument: str, requests: Any) -> None:
    """Rejects collections that cannot be read as a whole, before anything runs.

    Args:
        argument: The argument's name, for the error.
        requests: A sequence, a data source or a Grain ``MapDataset``.

    Raises:
        TypeError: It has no length or no indexing, like a generator or a ``DataLoader``.
        ValueError: It is endless.

    >>> admit_requests("requests", ["a text"])
    """
    if is_endless(requests):
        raise ValueError(f"{argument} is endless, so it cannot be sorted; remove .repeat()")
    kind = type(requests)
    if isinstance(requests, str | bytes) or not (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        raise TypeError(
            f"{argument} must be a sequence with a length and indexing, not a {kind.__name__}: everything is "
            f"sorted before the first batch. Pass list({argument}), or the data source of the DataLoader"
        )


def is_endless(dataset: Any) -> bool:
    """Whether a dataset is endless, judging by its length."""
    return hasattr(type(dataset), "__len__") and len(dataset) >= ENDLESS
