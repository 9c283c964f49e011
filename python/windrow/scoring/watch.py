"""Measures device time: how long the devices ran, and how long they waited for the host.

A host cannot see when its devices are idle. But it knows when it dispatched work and when the output was
ready. When all dispatched work is finished, the devices are idle and wait for the host. A thread blocks on
each output, so the time at which it is ready is known even while the host does something else.

    dispatched at     0.0  0.3       1.5
    ready at               1.0  1.2       2.0
    running           0.0 ──── 1.0 ─ 1.2  1.5 ─ 2.0       1.7 s
    waiting                         1.2 ─ 1.5             0.3 s

The cost per batch is one queue entry and one thread wake-up.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
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
    """A piece of work: when it was dispatched and when its output was ready, in seconds of one clock.

    Attributes:
        handed: When it, or its first part, was dispatched.
        compiling: When the host waited for the compiler, before that or between two parts.
        ready: When its output was ready.
    """

    handed: float
    compiling: list[Span] = field(default_factory=list)
    ready: float = 0.0


@dataclass
class DeviceSeconds:
    """How the devices spent a run's time.

    Attributes:
        running: Dispatched work was unfinished.
        waiting_for_host: No work was pending, because the host was not ready.
        waiting_for_compiler: No work was pending, because the host was waiting for the compiler. Waits
            between two parts of one piece of work count too, although its first part may still have been
            running.
    """

    running: float = 0.0
    waiting_for_host: float = 0.0
    waiting_for_compiler: float = 0.0

    def __post_init__(self) -> None:
        """Creates the lock; runs in several threads add to the same seconds."""
        self._lock = Lock()

    @contextmanager
    def compiling_ahead(self) -> Iterator[None]:
        """Times the compiler before a run, while batches are being sized."""
        start = perf_counter()
        yield
        self._add(0.0, 0.0, perf_counter() - start)

    def add(self, begin: float, pieces: Sequence[Work]) -> None:
        """Adds a run that began at ``begin``, with its pieces of work in dispatch order.

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
    """Watches one run's work; adds up its seconds if the ``with`` block ends without an error.

    Args:
        seconds: The totals to add to.
    """

    def __init__(self, seconds: DeviceSeconds) -> None:
        self._seconds = seconds
        self._pieces: list[Work] = []
        self._next: Work | None = None
        self._waits: list[Span] = []
        self._outputs: SimpleQueue[tuple[Work, Any] | None] = SimpleQueue()
        self._failed = False
        # Not a daemon: at exit Python would kill it inside JAX, which crashes.
        self._thread = Thread(target=self._wait, name="windrow-watch")

    def __enter__(self) -> Self:
        """Starts the run."""
        self._begin = perf_counter()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the run; after an error, work in progress is only waited for at interpreter exit."""
        self._failed = kind is not None
        self._outputs.put(None)
        if kind is None:
            self._thread.join()
            self._seconds.add(self._begin, self._pieces)

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Times a wait for the compiler."""
        start = perf_counter()
        yield
        self._waits.append((start, perf_counter()))

    def handing_over(self) -> None:
        """Call just before dispatching work; further calls before :meth:`watch` belong to the same piece."""
        if self._next is None:
            self._next = Work(perf_counter())
        self._next.compiling += self._waits
        self._waits.clear()

    def watch(self, output: Any) -> None:
        """Watches the output of the piece that was dispatched: arrays, or a future of them."""
        assert self._next is not None
        self._pieces.append(self._next)
        self._outputs.put((self._next, output))
        self._next = None

    def _wait(self) -> None:
        while not self._failed and (item := self._outputs.get()) is not None:
            work, output = item
            try:
                jax.block_until_ready(output.result() if isinstance(output, Future) else output)
            except Exception:  # the run gets the same error when it fetches the output
                return
            work.ready = perf_counter()
