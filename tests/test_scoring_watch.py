"""Device time: how one run's seconds are divided, for made-up and real work."""

import subprocess
import sys
import time
from threading import Event, Thread

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.scoring import Clock
from windrow.scoring.watch import DeviceSeconds, DeviceWatch, Work

moments = st.lists(st.integers(0, 60), min_size=4, max_size=4).map(sorted)


@given(st.lists(moments, max_size=8))
def test_every_second_is_counted_once(pieces):
    """Compared with a second-by-second count: whether the devices have work, and if not, why."""
    works = []
    for start, stop, handed, ready in pieces:
        works.append(Work(handed, [(start, stop)], ready))
    works.sort(key=lambda work: work.handed)
    end = 0.0
    for work in works:  # a device runs one piece of work at a time
        work.ready = max(work.ready, end)
        end = work.ready
    expected = {"running": 0, "compiler": 0, "host": 0}
    for second in range(int(end)):
        busy = any(work.handed <= second < work.ready for work in works)
        following = next(work for work in works if work.ready > second)
        ((start, stop),) = following.compiling
        if busy:
            expected["running"] += 1
        else:
            expected["compiler" if start <= second < stop else "host"] += 1
    seconds = DeviceSeconds()
    seconds.add(0.0, works)
    assert seconds.running == expected["running"]
    assert seconds.waiting_for_compiler == expected["compiler"]
    assert seconds.waiting_for_host == expected["host"]


def test_compilation_after_handover_is_not_running_time():
    seconds = DeviceSeconds()
    seconds.add(0.0, [Work(1.0, [(2.0, 5.0)], 6.0)])
    assert (seconds.running, seconds.waiting_for_compiler, seconds.waiting_for_host) == (2.0, 3.0, 1.0)


@pytest.fixture(scope="module")
def work():
    """A compiled program that runs for a few tenths of a second."""

    def rounds(matrix):
        return jax.lax.fori_loop(0, 200, lambda _, wide: jnp.tanh(wide @ matrix), matrix)

    matrix = jax.device_put(np.eye(400, dtype=np.float32), jax.devices()[0])
    program = jax.jit(rounds).lower(matrix).compile()
    jax.block_until_ready(program(matrix))
    return lambda: program(matrix)


def test_sleeping_host_counts_as_waiting_for_host(work):
    seconds = DeviceSeconds()
    begin = time.perf_counter()
    with DeviceWatch(seconds) as watch:
        for _ in range(3):
            time.sleep(0.3)
            watch.handing_over()
            output = work()
            watch.watch(output)
            jax.block_until_ready(output)
    total = time.perf_counter() - begin
    assert seconds.waiting_for_host >= 0.85
    assert seconds.running > 0
    assert seconds.waiting_for_compiler == 0
    assert seconds.running + seconds.waiting_for_host <= total


def test_host_running_ahead_is_not_waited_for(work):
    """Host work that overlaps device work adds no waiting time."""
    seconds = DeviceSeconds()
    begin = time.perf_counter()
    with DeviceWatch(seconds) as watch:
        outputs = []
        for _ in range(4):
            watch.handing_over()
            outputs.append(work())
            watch.watch(outputs[-1])
    total = time.perf_counter() - begin
    assert seconds.waiting_for_host < seconds.running <= total


def test_waiting_for_the_compiler_is_counted_separately_from_the_host(work):
    seconds = DeviceSeconds()
    begin = time.perf_counter()
    with DeviceWatch(seconds) as watch:
        with watch.compiling():
            time.sleep(0.4)
        time.sleep(0.2)
        watch.handing_over()
        watch.watch(work())
    total = time.perf_counter() - begin
    assert seconds.waiting_for_compiler >= 0.38
    assert seconds.waiting_for_host >= 0.18
    assert seconds.waiting_for_compiler + seconds.waiting_for_host <= total


def test_error_discards_the_measurement(work):
    seconds = DeviceSeconds()

    def fails():
        with DeviceWatch(seconds) as watch:
            watch.handing_over()
            watch.watch(work())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert seconds == DeviceSeconds()


FAILING = """
import jax, jax.numpy as jnp
from windrow.scoring.watch import DeviceSeconds, DeviceWatch
matrix = jnp.eye(400)
slow = jax.jit(lambda first: jax.lax.fori_loop(0, 10, lambda _, wide: jnp.tanh(wide @ first), first))
with DeviceWatch(DeviceSeconds()) as watch:
    for _ in range(100):
        watch.handing_over()
        watch.watch(slow(matrix))
    raise SystemExit(7)
"""


def test_error_during_run_exits_cleanly():
    """A thread that still waits for a device while Python shuts down would crash the process."""
    ended = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (7, "")


def test_overlapping_phases_of_threads_are_timed_separately():
    """One thread is in a phase while another runs nested phases: no time is subtracted twice."""
    clock, within, go_on = Clock(), Event(), Event()

    def other():
        with clock.phase("plan"):
            within.set()
            go_on.wait()

    thread = Thread(target=other)
    thread.start()
    within.wait()
    with clock.phase("tokenize"), clock.phase("compile"):
        time.sleep(0.3)
    go_on.set()
    thread.join()
    assert clock.seconds["compile"] >= 0.29
    assert 0 <= clock.seconds["tokenize"] < 0.2
    assert clock.seconds["plan"] >= clock.seconds["compile"]
