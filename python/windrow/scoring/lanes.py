"""Runs several compiled programs at the same time on one CPU device.

Programs that one thread calls run one after another, and those of a small model keep only one core busy. So
calls take turns among a few threads, called lanes. The results are the same.

Only programs whose matrix products are all computed by YNNPACK run at the same time. Those that Eigen
computes can be wrong then: with jaxlib 0.10.2, log-likelihoods of Gemma 3 270M, whose vocabulary has 262,144
tokens, were off by up to 12.
"""

import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from weakref import WeakKeyDictionary

import jax

from windrow.sharding import RowSharding

_LANES = [ThreadPoolExecutor(1, thread_name_prefix="windrow-lane") for _ in range(2)]

_BY_YNNPACK: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""By program, whether YNNPACK computes all of its matrix products."""

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.-]+) .*{$")
_FUSION = re.compile(r'calls=%?([\w.-]+).*"__ynn_fusion"')
_PRODUCT = re.compile(r"= .* (?:dot|convolution)\(")


class Lanes:
    """The lanes of one run.

    Args:
        sharding: How rows are split over devices. Only a single CPU device gets several lanes; other devices
            run one program at a time.
        rows: The smallest number of rows of any batch. If it is 1, memory may not allow more than one batch
            at a time, so there is only one lane.

    Attributes:
        count: The maximum number of programs that run at the same time.
    """

    def __init__(self, sharding: RowSharding, rows: int) -> None:
        self.count = len(_LANES) if is_single_cpu(sharding) and rows > 1 else 1
        self._calls = 0
        self._last: list[Future[Any] | None] = [None] * len(_LANES)

    def call(self, program: Any, *arguments: Any) -> Future[Any]:
        """Calls a program in the next lane, or, if it must run alone, in the caller's thread."""

        def run() -> Any:
            with jax.transfer_guard_host_to_device("allow"):
                return program(*arguments)

        if self.count > 1 and not _runs_beside_others(program):
            self._finish()
            self.count = 1
        if self.count == 1:
            return completed(run())
        lane = self._calls % self.count
        self._calls += 1
        called = _LANES[lane].submit(run)
        self._last[lane] = called
        return called

    def wait(self) -> None:
        """Waits until all programs have been called, so that their arguments can be donated."""
        wait([call for call in self._last if call is not None])

    def _finish(self) -> None:
        """Waits until all programs have run; a lane's last program ends after its others."""
        self.wait()
        for call in self._last:
            if call is not None and call.exception() is None:
                jax.block_until_ready(call.result())


def is_single_cpu(sharding: RowSharding) -> bool:
    """Whether rows are computed by a single CPU device, without explicit axes."""
    return sharding.platform == "cpu" and sharding.mesh.size == 1 and not sharding.explicit


def completed(result: Any) -> Future[Any]:
    """A future with a known result."""
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def _runs_beside_others(program: Any) -> bool:
    """Whether a program may run in another thread, at the same time as others.

    It may not if the calling thread has settings of its own that affect how a program runs.
    """
    config: Any = jax.config
    if not isinstance(program, jax.stages.Compiled) or config.jax_debug_nans or config.jax_debug_infs:
        return False
    if program not in _BY_YNNPACK:
        _BY_YNNPACK[program] = products_by_ynnpack(program.as_text() or "")
    return _BY_YNNPACK[program]


def products_by_ynnpack(text: str) -> bool:
    r"""Whether YNNPACK computes all matrix products of a compiled program.

    Args:
        text: The program as XLA prints it. Each product that YNNPACK computes is a fusion of its own.

    >>> products_by_ynnpack("ENTRY %main (x: f32[2]) -> f32[] {\n  ROOT %y = f32[] dot(%x, %x)\n}")
    False
    """
    fusions, computation = set(_FUSION.findall(text)), ""
    for line in text.splitlines():
        if begins := _COMPUTATION.match(line):
            computation = begins[1]
        elif _PRODUCT.search(line) and computation not in fusions:
            return False
    return bool(text)
