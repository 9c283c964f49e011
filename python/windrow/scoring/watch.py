"""What the devices did: the seconds in which they ran, and in which they waited for the host.

A host does not see its devices idle. It knows when it handed work over, and when
what came of it was ready; devices that have nothing handed over and unfinished
between those moments are idle, and the host is why. A thread waits for each
output, so that the moment is known even while the host does something else.

    handed over at    0.0  0.3       1.5
    ready at               1.0  1.2       2.0
    running           0.0 ──── 1.0 ─ 1.2  1.5 ─ 2.0       1.7 s
    waiting                         1.2 ─ 1.5             0.3 s

The cost is one queue entry and one wake-up of a thread a batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter
from typing import Any, Self

import jax

Span = tuple[float, float]


@dataclass
class Work:
    """A piece of work: when it was handed over, when its output was ready, in seconds of one clock.

    Attributes:
        handed: When it was handed over, or the first part of it.
        compiling: When the host stood waiting for the compiler, before that or between two parts.
        ready: When its output was there.
    """

    handed: float
    compiling: list[Span] = field(default_factory=list)
    ready: float = 0.0


@dataclass
class DeviceSeconds:
    """How the devices spent a run's time.

    Attributes:
        running: There was work that was not done yet.
        waiting_for_host: There was none, since the host had not made it.
        waiting_for_compiler: There was none, since the host waited for the compiler; or between two parts
            of one piece of work, of which the first may have run meanwhile.
    """

    running: float = 0.0
    waiting_for_host: float = 0.0
    waiting_for_compiler: float = 0.0

    def __post_init__(self) -> None:
        """Runs of several threads add to the same seconds."""
        self._lock = Lock()

    @contextmanager
    def compiling_ahead(self) -> Iterator[None]:
        """While the host waits for the compiler before a run, to find out how large batches may be."""
        start = perf_counter()
        yield
        self._add(0.0, 0.0, perf_counter() - start)

    def add(self, begin: float, pieces: Sequence[Work]) -> None:
        """Adds a run that began at ``begin``, its pieces in the order in which they were handed over.

        >>> seconds = DeviceSeconds()
        >>> seconds.add(0.0, [Work(0.5, [(0.0, 0.25)], 1.0), Work(0.75, [], 2.0), Work(3.0, [], 4.0)])
        >>> seconds
        DeviceSeconds(running=2.5, waiting_for_host=1.25, waiting_for_compiler=0.25)
        """
        free, running, for_host, for_compiler = begin, 0.0, 0.0, 0.0
        for work in pieces:
            handed = max(work.handed, free)
            before, between = (
                sum(max(0.0, min(stop, last) - max(start, first)) for start, stop in work.compiling)
                for first, last in ((free, handed), (handed, work.ready))
            )
            for_compiler += before + between
            for_host += handed - free - before
            running += max(0.0, work.ready - handed - between)
            free = max(free, work.ready)
        self._add(running, for_host, for_compiler)

    def _add(self, running: float, for_host: float, for_compiler: float) -> None:
        with self._lock:
            self.running += running
            self.waiting_for_host += for_host
            self.waiting_for_compiler += for_compiler


class DeviceWatch:
    """Watches one run's pieces of work; when the ``with`` block ends well, adds up their seconds.

    Args:
        seconds: What they are added to.
    """

    def __init__(self, seconds: DeviceSeconds) -> None:
        self._seconds = seconds
        self._pieces: list[Work] = []
        self._next: Work | None = None
        self._waits: list[Span] = []
        self._outputs: SimpleQueue[tuple[Work, Any] | None] = SimpleQueue()
        self._failed = False
        # Not a daemon: one that still waits for a device while Python ends is torn out of JAX's own code.
        self._thread = Thread(target=self._wait, name="windrow-watch")

    def __enter__(self) -> Self:
        """The run begins."""
        self._begin = perf_counter()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The run ends; after an error only Python's own end waits for what a device has begun."""
        self._failed = kind is not None
        self._outputs.put(None)
        if kind is None:
            self._thread.join()
            self._seconds.add(self._begin, self._pieces)

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """While the host waits for the compiler."""
        start = perf_counter()
        yield
        self._waits.append((start, perf_counter()))

    def handing_over(self) -> None:
        """Just before work is handed over; what follows before :meth:`watch` belongs to the same piece."""
        if self._next is None:
            self._next = Work(perf_counter())
        self._next.compiling += self._waits
        self._waits.clear()

    def watch(self, output: Any) -> None:
        """Takes the output of the piece that was handed over."""
        assert self._next is not None
        self._pieces.append(self._next)
        self._outputs.put((self._next, output))
        self._next = None

    def _wait(self) -> None:
        while not self._failed and (item := self._outputs.get()) is not None:
            work, output = item
            try:
                jax.block_until_ready(output)
            except Exception:  # the run itself meets the same error when it fetches the output
                return
            work.ready = perf_counter()
