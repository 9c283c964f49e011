"""Notifies listeners of new models: lm_eval's command line creates one and does not return it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_listeners: list[Callable[[Any], None]] = []


@contextmanager
def listening(listener: Callable[[Any], None]) -> Iterator[None]:
    """Calls ``listener`` with each :class:`~windrow.JaxLM` that is created inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(model: Any) -> None:
    """Notifies the listeners of a new model."""
    for listener in _listeners:
        listener(model)
