"""Runs the batches of one or several plans, and fills in the scores of their segments.

A few batches are in flight: while the devices run them, this thread fills the arrays of the next one and
fetches the outputs of the oldest.

```text
this thread    fill 4   dispatch 4   fetch 0   fill 5   dispatch 5   fetch 1
devices        run 0          run 1             run 2          run 3
```
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from windrow.scoring.clock import Clock
from windrow.scoring.compiler import Compiler
from windrow.scoring.feed import Feed
from windrow.scoring.forks import ForkFeed
from windrow.scoring.gathering import Fetched, Gatherer
from windrow.scoring.scores import Scores
from windrow.scoring.watch import DeviceWatch
from windrow.sizing.memory import explained_memory_errors

Report = Callable[[NDArray[np.int64], Scores], None]
"""Called with the segments of a batch, and the scores so far."""


@dataclass(frozen=True)
class Job:
    """A plan to run.

    Attributes:
        feed: The plan's batches.
        scores: The scores to fill in.
        which: ``int64[n]``, the plan's segments among those of the scores; ``None`` if they are the same.
    """

    feed: Feed | ForkFeed
    scores: Scores
    which: NDArray[np.int64] | None = None

    def put(self, batch: int, logprobs: NDArray[np.float32], greedy: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Copies a batch's outputs, ``[groups, reads]`` each, to the scores of its segments.

        Returns:
            ``int64[m]``, the segments.
        """
        plan, groups, offsets = self.feed.plan, len(logprobs), self.scores.offsets
        own = plan.batch_segments(batch)
        segments = own if self.which is None else self.which[own]
        if groups > 1:
            group = plan.rows[own] * groups // plan.batch_shapes[batch, 0]
            counts = offsets[segments + 1] - offsets[segments]
            filled = np.arange(logprobs.shape[1]) < np.bincount(group, counts, groups)[:, None]
            logprobs, greedy = logprobs[filled], greedy[filled]
        self.scores.put(segments, logprobs.reshape(-1), greedy.reshape(-1))
        return segments


def run_jobs(
    jobs: Sequence[Job],
    compiler: Compiler,
    params: Any,
    clock: Clock,
    watch: DeviceWatch,
    in_flight: int,
    known: Report | None = None,
) -> None:
    """Runs all batches of some jobs, in order.

    Args:
        jobs: The jobs; the compiler has been asked for the programs of all their shapes.
        compiler: Compiles the programs.
        params: The model's parameters.
        clock: Collects the seconds of each phase.
        watch: Measures device time.
        in_flight: The number of batches in flight before the outputs of the oldest are fetched.
        known: Called after each batch is fetched.
    """
    if not jobs:
        return
    gatherer, programs = Gatherer(jobs[0].feed.sharding), dict[Any, Any]()
    batches = [(job, batch) for job in jobs for batch in range(len(job.feed.shapes))]
    pending: deque[tuple[int, Future[tuple[jax.Array, jax.Array]]]] = deque()

    def put(fetched: Iterable[Fetched]) -> None:
        for number, logprobs, greedy in fetched:
            job, batch = batches[number]
            segments = job.put(batch, logprobs, greedy)
            if known is not None:
                known(segments, job.scores)

    def fetch() -> None:
        number, outputs = pending.popleft()
        job, batch = batches[number]
        with clock.phase("device"), explained_memory_errors(job.feed.shapes[batch]):
            whole = list(gatherer.add(number, outputs.result()))
        put(whole)

    with clock.phase("compile"), watch.compiling():
        for job in jobs:
            job.feed.begin(compiler, params)
    for number, (job, batch) in enumerate(batches):
        shape = job.feed.shapes[batch]
        with explained_memory_errors(shape):
            if (program := programs.get(shape)) is None:
                with clock.phase("compile"), watch.compiling():
                    program = programs[shape] = compiler.get(shape)
            with clock.phase("host"):
                arrays = job.feed.arrays(batch)
            watch.handing_over()
            with clock.phase("device"):  # some programs run before their call returns
                outputs = job.feed.dispatch(program, params, batch, arrays)
        if outputs is None:
            continue
        pending.append((number, outputs))
        watch.watch(outputs)
        if compiler.is_behind:
            with clock.phase("compile"):
                compiler.advance()
        while len(pending) > (0 if gatherer.due(number) else in_flight):
            fetch()
    while pending:
        fetch()
    put(gatherer.flush())
