"""The memory of a real process: no more than predicted, and less than the budget.

Each case is a process of its own, on one CPU device unless it says otherwise, and
needs hundreds of megabytes, beside which threads' stacks and the host's own arrays
are little.
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
        not Path("/proc/self/clear_refs").exists(), reason="reads a process's peak memory as Linux tells it"
    ),
]

MIB = 1 << 20

TAKEN = [
    ("score", {"model": "llama", "vocab": 1000, "width": 768, "length": 2048}),
    ("score", {"model": "gpt2", "vocab": 50000, "width": 384, "length": 256}),
    ("score", {"model": "plain", "vocab": 30000, "width": 64, "length": 64}),
    ("generate", {"model": "llama", "vocab": 1000, "width": 512, "length": 400, "new": 24}),
]
"""Attention, a large vocabulary, all logits at once, and a cache."""

WITHIN = [
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
    """The report of a process that runs a task."""
    done = subprocess.run(
        [sys.executable, TESTS / "auto_worker.py", task, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def unlimited(task, case):
    """The report of a process without a budget."""
    if task == "generate":
        return {**case, "count": 40, "max_length": 512, "budget": "4GiB"}
    return {"count": max(5, 12_000 // case["length"]), **case, "budget": "4GiB"}


@pytest.fixture(scope="module")
def run():
    """Processes, two at a time, each begun before it is asked for."""
    with ThreadPoolExecutor(2) as pool:
        begun = {}
        for task, case in TAKEN:
            begun[task, str(case)] = pool.submit(measure, task, unlimited(task, case))
        for task, case, budget in WITHIN:
            options = {"count": 40, "max_length": 1024, **case, "budget": budget}
            begun[task, str(case)] = pool.submit(measure, task, options)
        yield lambda task, case: begun[task, str(case)].result()


@pytest.mark.parametrize(("task", "case"), TAKEN, ids=lambda value: str(value)[:60])
def test_what_is_taken_lies_near_what_was_predicted(run, task, case):
    """Apart from noise, XLA's estimate is no more than what is taken, and the rest is accounted for."""
    found = run(task, case)
    assert found["predicted_bytes"] > 64 * MIB, "too little to be told from noise"
    assert 0.7 * found["predicted_bytes"] < found["taken"] < found["predicted_bytes"] / CPU_SHARE


@pytest.mark.parametrize(("task", "case", "budget"), WITHIN, ids=lambda value: str(value)[:60])
def test_a_process_stays_below_its_budget(run, task, case, budget):
    found = run(task, case)
    assert found["taken"] < found["memory_budget"]
    # And the budget was used: a little more would not have fitted, or nothing more is of use.
    most = found.get("tokens_per_batch") == 8192 or found.get("slots") == 32
    assert most or found["predicted_bytes"] > 0.5 * found["planned_bytes"]
