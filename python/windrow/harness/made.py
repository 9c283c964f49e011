"""Telling of models that are made: lm_eval's command line makes one and keeps it to itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_listeners: list[Callable[[Any], None]] = []


@contextmanager
def telling(listener: Callable[[Any], None]) -> Iterator[None]:
    """Calls ``listener`` with each :class:`~windrow.JaxLM` as soon as it is made inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell_of(model: Any) -> None:
    """Tells whoever listens that a model is ready."""
    for listener in _listeners:
        listener(model)
