"""Two killed processes have saved their results, and the same command resumes from there."""

import signal
import sqlite3
from itertools import pairwise

import pytest

from processes import Hosts, finish, launch_options
from task_files import write_tasks
from test_hosts import results
from windrow.scoring.gathering import GATHER_SECONDS

pytestmark = pytest.mark.exhaustive

DOCUMENTS = 400


def kept(cache):
    """The number of results in a cache that is being written."""
    found = 0
    for file in cache.parent.glob(f"{cache.name}_rank0.db"):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as stored:
            found += stored.execute("select count(*) from unnamed").fetchone()[0]
    return found


@pytest.mark.parametrize(("task", "requests"), [("choices", 2 * DOCUMENTS), ("texts", DOCUMENTS)])
def test_killed_run_has_saved_its_results(tmp_path, task, requests):
    tasks, cache = write_tasks(tmp_path, DOCUMENTS), tmp_path / "cache"
    command = ["-m", "windrow", "run", "--model_args", "factory=byte_model:make_slow,prefix_token_id=0"]
    command += ["--include_path", tasks, "--tasks", task, "--batch_size", 8, "--use_cache", cache]

    def run():
        return Hosts(tmp_path, [[*command, *launch] for launch in launch_options(2)], devices=1)

    with run() as hosts:
        # Well before a million tokens are scored, and before the run ends.
        hosts[0].wait_for(r"Running \w+ requests: +[1-9]\d?%", 300)
        for host in hosts:
            host.signal(signal.SIGKILL)
        finish(hosts, 30)
        assert all(host.status == -signal.SIGKILL for host in hosts)
    done = kept(cache)
    assert 0 < done < requests
    with run() as hosts:
        for host in hosts:
            host.wait_for(rf"Cached requests: {done}, Requests remaining: {requests - done}", 300)


def test_results_are_gathered_every_few_seconds(tmp_path):
    first, second = results(tmp_path, "slow", 2)
    gathered = first["gathered_after"]
    assert second["gathered_after"] == gathered  # although the hosts' clocks differ
    assert (gathered[0], gathered[-1]) == (1, first["batches"])
    for result in (first, second):
        times, end = result["times"], result["seconds"]
        assert len(times) == result["batches"] > 50
        assert end > 2.5 * GATHER_SECONDS  # otherwise, this test would show nothing
        assert max(after - before for before, after in pairwise([0.0, *times, end])) < 20
        assert len(gathered) < 8 + 2 * end / GATHER_SECONDS
