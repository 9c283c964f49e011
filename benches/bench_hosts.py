"""Compares many hosts with one: plans and a host's part of a batch must not become more expensive.

First, real processes on this machine, with one CPU device each: seconds to join, seconds and bytes for
checking a million requests, and microseconds for a host's part of a batch. Then, the work of one host out of
up to 1,024, each of which holds 64 rows of each batch.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REQUESTS = 1_000_000
ROWS = 64
COUNTS = (1, 2, 4)
SIMULATED = (1, 2, 4, 1024)
REPEATS = 5
LIMIT_BYTES = 16


def segments(count, seed=0):
    """Tokens, offsets and score starts of many short requests."""
    random = np.random.default_rng(seed)
    lengths = random.lognormal(3.5, 0.7, count).clip(4, 250).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = random.integers(0, 50_000, offsets[-1]).astype(np.int32)
    return tokens, offsets, (lengths - random.integers(1, 4, count)).astype(np.int32)


def sent_bytes():
    """The bytes that have been sent through the loopback device so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return 0


def process(port, count, number, file):
    """One of several processes: joins, checks agreement, and makes its part of some batches."""
    begin = time.perf_counter()
    from windrow.scoring.feed import Feed
    from windrow.sharding import RowSharding, check_agreement
    from windrow.sharding.launch import Launch
    from windrow.sizing.policy import BatchPolicy
    from windrow.tokens import Segments, TokenReport

    imported = time.perf_counter()
    Launch(f"127.0.0.1:{port}", count, number).start() if count > 1 else None
    sharding = RowSharding.over()
    joined = time.perf_counter()
    texts = [f"request {index}" for index in range(REQUESTS)]
    check_agreement(texts, {"a setting": "first"})  # compiles
    checks = []
    for _ in range(3):
        check_agreement([], {"all are here": ""})
        before, start = sent_bytes(), time.perf_counter()
        check_agreement(texts, {"a setting": "again"})
        taken = time.perf_counter() - start
        check_agreement([], {"all are here": ""})
        checks.append((taken, (sent_bytes() - before) / REQUESTS / count))
    tokens, offsets, starts = segments(20_000)
    empty = np.zeros(0, np.int64)
    report = TokenReport(len(starts), len(starts), len(tokens), 0, 0)
    whole = Segments(tokens, offsets, starts, np.arange(len(starts)), len(starts), empty, report)
    feed = Feed(BatchPolicy(batch_size=ROWS * count, share=False).plan(whole, count), whole, sharding)
    batches = []
    for batch in [*range(min(20, len(feed.shapes)))] * REPEATS:
        start = time.perf_counter()
        feed.arrays(batch)
        batches.append(time.perf_counter() - start)
    result = {
        "join": joined - imported,
        "import": imported - begin,
        "check": min(taken for taken, _ in checks),
        "bytes": min(moved for _, moved in checks),
        "batch": float(np.median(batches)),
    }
    Path(file).write_text(json.dumps(result))


def bench_processes():
    print(f"{'processes':<12}{'join s':>10}{'check s':>10}{'bytes/request/host':>20}{'batch us':>10}")
    for count in COUNTS:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / str(number) for number in range(count)]
            running = [
                subprocess.Popen(
                    [sys.executable, __file__, *map(str, (port, count, number, file))],
                    env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
                    stdout=subprocess.DEVNULL,
                )
                for number, file in enumerate(files)
            ]
            assert [each.wait(600) for each in running] == [0] * count
            found = [json.loads(file.read_text()) for file in files]
        worst = {name: max(each[name] for each in found) for name in found[0]}
        least = min(each["bytes"] for each in found)
        print(
            f"{count:<12}{worst['join']:>10.3f}{worst['check']:>10.3f}{least:>20.2f}"
            f"{worst['batch'] * 1e6:>10.0f}"
        )
        assert least <= LIMIT_BYTES, f"the check moves {least:.1f} bytes per request and host"


def bench_simulated():
    from windrow.planning import Plan

    tokens, offsets, starts = segments(REQUESTS)
    lengths = (np.diff(offsets) - 1).astype(np.int32)
    measured = {}
    for hosts in SIMULATED:
        rows, times = ROWS * hosts, []
        for _ in range(3):
            start = time.perf_counter()
            plan = Plan(lengths, batch_size=rows, row_multiple=hosts, max_shapes=8)
            times.append(time.perf_counter() - start)
        kept = sum(array.nbytes for array in (plan.batches, plan.rows, plan.starts, plan.batch_shapes))
        picks, reads = plan.read_capacities(offsets, starts, hosts, 64).max(axis=0)
        parts = []
        # Both sides use the same lengths: rows in the middle of the order, whatever their batch.
        number = len(lengths) // 2 // rows
        first = len(lengths) // 2 % rows // ROWS * ROWS
        for _ in range(50):
            start = time.perf_counter()
            plan.inputs(number, tokens, offsets, first, first + ROWS)
            plan.row_lengths(number, first, first + ROWS)
            plan.reads(number, tokens, offsets, starts, hosts, int(picks), int(reads), first, first + ROWS)
            parts.append(time.perf_counter() - start)
        measured[hosts] = (min(times), kept, min(parts))
    print(f"\n{'hosts':<12}{'plan ms':>10}{'plan MB':>10}{'part of a batch us':>20}")
    for hosts, (taken, kept, part) in measured.items():
        print(f"{hosts:<12}{taken * 1e3:>10.1f}{kept / 1e6:>10.2f}{part * 1e6:>20.1f}")
    one, many = measured[1], measured[SIMULATED[-1]]
    assert many[0] <= 1.5 * one[0], "a plan takes longer with many hosts"
    assert many[1] <= 1.05 * one[1], "a plan is larger with many hosts"
    assert many[2] <= 2 * one[2], "a host's part of a batch takes longer with many hosts"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        process(*map(int, sys.argv[1:4]), sys.argv[4])
    else:
        bench_simulated()
        bench_processes()
