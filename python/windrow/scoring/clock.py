"""Seconds per phase of a model's runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from time import perf_counter

from windrow.scoring.watch import DeviceSeconds


class Clock:
    """Seconds per phase, summed over runs; several threads can share a clock.

    Attributes:
        seconds: By phase, summed over threads; a nested phase is not counted in the outer one.
        scoring: How the devices spent the time of scoring runs.
        generation: How they spent the time of generation runs.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.scoring, self.generation = DeviceSeconds(), DeviceSeconds()
        self._lock, self._thread = Lock(), _Inner()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to the phase's seconds."""
        thread = self._thread
        start, outer, thread.seconds = perf_counter(), thread.seconds, 0.0
        try:
            yield
        finally:
            whole = perf_counter() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + whole - thread.seconds
            thread.seconds = outer + whole


class _Inner(local):
    """The seconds of phases nested in a thread's current phase."""

    def __init__(self) -> None:
        self.seconds = 0.0
