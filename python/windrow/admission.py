"""Which collections of requests can be planned: those with an end, all of it at hand."""

from typing import Any

ENDLESS = 1 << 48
"""Lengths from here on mean that there is no end: what ``repeat()`` gives has length ``sys.maxsize``, and
a slice or a batch of it some fraction of that."""


def admit_requests(argument: str, requests: Any) -> None:
    """Refuses what cannot be read as a whole before anything runs.

    Args:
        argument: The name under which the caller was given them.
        requests: A sequence, a data source or a Grain ``MapDataset`` passes.

    Raises:
        TypeError: There is no length or no indexing, as in a generator or a ``DataLoader``.
        ValueError: There is no end.

    >>> admit_requests("requests", ["a text"])
    """
    if is_endless(requests):
        raise ValueError(f"{argument} has no end, so it cannot be sorted; leave out .repeat()")
    kind = type(requests)
    if isinstance(requests, str | bytes) or not (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        raise TypeError(
            f"{argument} must be a sequence with a length and an index, not a {kind.__name__}: all are "
            f"sorted before the first batch. Give list({argument}), or the data that a DataLoader reads"
        )


def is_endless(dataset: Any) -> bool:
    """Whether the length of a dataset says that it has no end."""
    return hasattr(type(dataset), "__len__") and len(dataset) >= ENDLESS
