"""The peak memory of a real process is near the prediction and below the budget.

Each case runs in its own process, on one CPU device unless it says otherwise, and needs
hundreds of megabytes. Compared with that, thread stacks and the host's arrays are small.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import TESTS
from windrow.sizing.memory import CPU_SHARE

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="reads a process's peak memory from Linux's /proc"
    ),
]

MIB = 1 << 20

UNLIMITED = [
    ("score", {"model": "llama", "vocab": 1000, "width": 768, "length": 2048}),
    ("score", {"model": "gpt2", "vocab": 50000, "width": 384, "length": 256}),
    ("score", {"model": "plain", "vocab": 30000, "width": 64, "length": 64}),
    ("generate", {"model": "llama", "vocab": 1000, "width": 512, "length": 400, "new": 24}),
]
"""Their memory goes to attention, a large vocabulary, all logits at once, and a cache."""

BUDGETED = [
    ("score", {"model": "llama", "vocab": 50000, "width": 128, "length": 128, "mixed": True}, "150MiB"),
    ("score", {"model": "llama", "vocab": 1000, "width": 128, "length": 1024, "devices": 4}, "300MiB"),
    ("generate", {"model": "mamba", "vocab": 1000, "width": 512, "length": 128, "new": 32}, "120MiB"),
    ("score", {"model": "mamba", "vocab": 1000, "width": 512, "length": 256, "shared": 220}, "160MiB"),
    ("score", {"model": "llama", "vocab": 1000, "width": 256, "length": 512, "shared": 400}, "200MiB"),
    (
        "generate",
        {"model": "llama", "vocab": 1000, "width": 256, "length": 300, "shared": 140, "new": 16},
        "160MiB",
    ),
]


def measure(task, options, **variables):
    """Runs a task in a process and returns its report."""
    done = subprocess.run(
        [sys.executable, TESTS / "auto_worker.py", task, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def without_budget(task, case):
    """The options of a process whose budget is not reached."""
    if task == "generate":
        return {**case, "count": 40, "max_length": 512, "budget": "4GiB"}
    return {"count": max(5, 12_000 // case["length"]), **case, "budget": "4GiB"}


@pytest.fixture(scope="module")
def run():
    """Starts all processes in advance, two at a time; waits for the report of one case."""
    with ThreadPoolExecutor(2) as pool:
        begun = {}
        for task, case in UNLIMITED:
            begun[task, str(case)] = pool.submit(measure, task, without_budget(task, case))
        for task, case, budget in BUDGETED:
            options = {"count": 40, "max_length": 1024, **case, "budget": budget}
            begun[task, str(case)] = pool.submit(measure, task, options)
        yield lambda task, case: begun[task, str(case)].result()


@pytest.mark.parametrize(("task", "case"), UNLIMITED, ids=lambda value: str(value)[:60])
def test_peak_memory_is_near_the_prediction(run, task, case):
    """XLA's estimate is a lower bound, apart from noise; the allowance for the rest is sufficient."""
    found = run(task, case)
    assert found["predicted_bytes"] > 64 * MIB, "too little to distinguish from noise"
    assert 0.7 * found["predicted_bytes"] < found["taken"] < found["predicted_bytes"] / CPU_SHARE


@pytest.mark.parametrize(("task", "case", "budget"), BUDGETED, ids=lambda value: str(value)[:60])
def test_process_stays_below_its_budget(run, task, case, budget):
    found = run(task, case)
    assert found["taken"] < found["memory_budget"]
    # The budget is also used well, unless the batch already has the maximum size.
    most = found.get("tokens_per_batch") == 8192 or found.get("slots") == 32
    assert most or found["predicted_bytes"] > 0.5 * found["planned_bytes"]
