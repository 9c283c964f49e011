"""Runs several compiled programs at the same time on one CPU device.

Programs that one thread calls run one after another, and those of a small model keep only one core busy.
Calls can take turns among several threads, called lanes, but there is only one lane: with jaxlib 0.10.2, two
threads that run a program compiled with the options of :mod:`windrow.scoring.compiler` at the same time can
both get wrong results. On Gemma 3 270M, whose vocabulary has 262,144 tokens, log-likelihoods were off by up
to 12, and exact when the same program ran alone.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import jax

from windrow.sharding import RowSharding

_LANES = [ThreadPoolExecutor(1, thread_name_prefix="windrow-lane")]
"""One lane, for which the caller's thread is used."""


class Lanes:
    """The lanes of one run.

    Args:
        sharding: How rows are split over devices. Only a single CPU device can have several lanes; other
            devices run one program at a time.
        rows: The smallest number of rows of any batch. If it is 1, memory may not allow more than one batch
            at a time, so there is only one lane.

    Attributes:
        count: The maximum number of programs that run at the same time.
    """

    def __init__(self, sharding: RowSharding, rows: int) -> None:
        self.count = len(_LANES) if is_single_cpu(sharding) and rows > 1 else 1
        self._calls = 0
        self._unfinished: list[Future[Any]] = []

    def call(self, program: Any, *arguments: Any) -> Future[Any]:
        """Calls a program in the next lane."""

        def run() -> Any:
            with jax.transfer_guard_host_to_device("allow"):
                return program(*arguments)

        if self.count == 1 or not _runs_in_any_thread(program):
            return completed(run())
        called = _LANES[self._calls % self.count].submit(run)
        self._calls += 1
        self._unfinished = [call for call in self._unfinished if not call.done()] + [called]
        return called

    def wait(self) -> None:
        """Waits until all programs have been called, so that their arguments can be donated."""
        wait(self._unfinished)
        self._unfinished.clear()


def is_single_cpu(sharding: RowSharding) -> bool:
    """Whether rows are computed by a single CPU device, without explicit axes."""
    return sharding.platform == "cpu" and sharding.mesh.size == 1 and not sharding.explicit


def completed(result: Any) -> Future[Any]:
    """A future with a known result."""
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def _runs_in_any_thread(program: Any) -> bool:
    """Whether the calling thread has no settings of its own that affect how a program runs."""
    config: Any = jax.config
    checked = config.jax_debug_nans or config.jax_debug_infs
    return isinstance(program, jax.stages.Compiled) and not checked
