"""Seconds per phase of a model's runs."""

from contextlib import AbstractContextManager
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

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Adds the time spent inside to the phase's seconds."""
        return _Phase(self, name)

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class _Phase(AbstractContextManager[None]):
    """One stay in a phase. Batches enter several, so this is a class, a third of a generator's cost."""

    __slots__ = ("_clock", "_name", "_outer", "_start")

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        thread = self._clock._thread
        self._start, self._outer, thread.seconds = perf_counter(), thread.seconds, 0.0

    def __exit__(self, *_: object) -> None:
        thread = self._clock._thread
        whole = perf_counter() - self._start
        self._clock._add(self._name, whole - thread.seconds)
        thread.seconds = self._outer + whole


class _Inner(local):
    """The seconds of phases nested in a thread's current phase."""

    def __init__(self) -> None:
        self.seconds = 0.0
