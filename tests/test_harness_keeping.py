"""Results that are kept: a killed run goes on from them and gives what an uninterrupted one does."""

import json
import os
import random
import signal
import time

import jax
import numpy as np
import pytest

from keeping_worker import make_lm, requests, results_of
from processes import TESTS, Hosts, launch_options
from task_files import write_tasks
from windrow.cli import main
from windrow.durable import read_journal

KILLS = int(os.environ.get("WINDROW_KILLS", "4"))
COUNT = sum(map(len, requests().values()))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def expected(tokenizer):
    return results_of(make_lm(tokenizer, jax.devices()[:2]))


def same(results, expected):
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        assert np.allclose(results[kind], expected[kind], atol=1e-4)
    assert results["generate_until"] == expected["generate_until"]


def cut(path, records, more=b""):
    """Leaves the first records, and a torn one."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:records]) + more)


@pytest.mark.exhaustive
def test_a_run_goes_on_with_other_devices(tmp_path, tokenizer, expected):
    samples = expected["generate_until"][1:4]
    assert len(set(samples)) > 1  # repeated samples differ
    folder = tmp_path / "kept"
    first = make_lm(tokenizer, jax.devices()[:2])
    first.keep_results(folder)
    same(results_of(first), expected)
    path = folder / "results.jsonl"
    assert len(list(read_journal(path))) == 1 + COUNT
    for kept, devices in ((COUNT, 3), (COUNT - 50, 1), (300, 4), (100, 2)):
        cut(path, 1 + kept, b'1234abcd {"key": "torn')
        again = make_lm(tokenizer, jax.devices()[:devices])
        again.keep_results(folder)
        same(results_of(again), expected)
        assert again.report()["requests"] == COUNT - kept
        assert len(list(read_journal(path))) == 1 + COUNT


def test_results_kept_in_another_order_serve_their_own_requests(tmp_path, tokenizer, expected):
    path = tmp_path / "results.jsonl"
    lm = make_lm(tokenizer, jax.devices()[:2])
    lm.keep_results(tmp_path)
    results_of(lm)
    fingerprint, *records = path.read_bytes().splitlines(keepends=True)
    random.Random(0).shuffle(records)
    path.write_bytes(b"".join([fingerprint, *records[: COUNT // 2]]))
    again = make_lm(tokenizer, jax.devices()[:2])
    again.keep_results(tmp_path)
    same(results_of(again), expected)


def test_a_damaged_result_is_computed_again(tmp_path, tokenizer, expected, capsys):
    lm = make_lm(tokenizer, jax.devices()[:2])
    lm.keep_results(tmp_path)
    results_of(lm)
    path = tmp_path / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b"-", b"+")
    path.write_bytes(b"".join(lines))
    again = make_lm(tokenizer, jax.devices()[:2])
    again.keep_results(tmp_path)
    same(results_of(again), expected)
    assert again.report()["requests"] == 1
    assert "recomputing damaged results (1)" in capsys.readouterr().err


OTHERS = {
    "parameters, model function": lambda lm: lm.with_params(jax.tree.map(lambda x: x * 1.5, lm.model.params)),
    "tokenizer": lambda lm: None,
    "max_length": lambda lm: None,
    "seed": lambda lm: None,
}
ARGUMENTS = {"tokenizer": {"prefix_token_id": 7}, "max_length": {"max_length": 31}, "seed": {"seed": 6}}


@pytest.mark.parametrize("what", OTHERS)
def test_another_model_or_setting_is_refused(tmp_path, tokenizer, what):
    one = requests()["loglikelihood"][:3]
    lm = make_lm(tokenizer, jax.devices()[:2])
    lm.keep_results(tmp_path)
    first = lm.loglikelihood(one)
    other = OTHERS[what](lm) or make_lm(tokenizer, jax.devices()[:2], **ARGUMENTS.get(what, {}))
    assert other.loglikelihood(one)  # keeps nothing by itself
    other.keep_results(tmp_path)
    with pytest.raises(ValueError, match=rf"results.jsonl does not match this run \(different {what}\)"):
        other.loglikelihood(one)
    again = make_lm(tokenizer, jax.devices()[:2], batch_size=4)
    again.keep_results(tmp_path)
    assert again.loglikelihood(one) == first


@pytest.mark.exhaustive
def test_killed_runs_go_on(tmp_path, expected):
    """Two processes or one, with one to three devices each; at most what was in flight is lost."""
    chance, kept = random.Random(1), tmp_path / "kept" / "results.jsonl"
    quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def start(processes):
        launches = launch_options(processes) if processes > 1 else [[]]
        commands = [[TESTS / "keeping_worker.py", tmp_path, *launch] for launch in launches]
        return Hosts(tmp_path, commands, chance.choice((1, 2, 3)), [quick] * processes)

    lost = 0
    for number in range(KILLS):
        before = len(list(read_journal(kept)))
        processes = 1 + number % 2
        with start(processes) as hosts:
            wanted = min(before + chance.randrange(20, 90), COUNT - 5)
            end = time.monotonic() + 300
            while len(list(read_journal(kept))) < wanted and any(host.status is None for host in hosts):
                assert time.monotonic() < end
                time.sleep(0.01)
            assert all(host.status is None for host in hosts), hosts[0].output
            for host in hosts:
                host.signal(signal.SIGKILL)
            for host in hosts:
                host.process.wait()
        assert len(list(read_journal(kept))) >= before
        lost += processes
    with start(1) as hosts:
        assert hosts[0].process.wait(timeout=300) == 0, hosts[0].output
    results = json.loads((tmp_path / "results.json").read_text())
    same(results, expected)
    keys = [record["key"] for record in read_journal(kept) if "key" in record]
    assert len(keys) == len(set(keys)) == COUNT


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_the_command_line_option(tmp_path, monkeypatch, capsys):
    tasks = write_tasks(tmp_path, 6)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--model_args", "factory=byte_model:make,prefix_token_id=0", "--tasks", "own"]
    words += ["--include_path", str(tasks), "--resume", "kept", "--batch_size", "8"]
    assert main(words) == 0
    first = capsys.readouterr()
    cut(tmp_path / "kept" / "results.jsonl", 1 + 14)
    assert main(words) == 0
    again = capsys.readouterr()
    assert "12 of 12 loglikelihood requests are in kept" in again.err
    assert "2 of 6 generate_until requests are in kept" in again.err
    tables = [[line for line in told.out.splitlines() if line.startswith("|")] for told in (first, again)]
    assert tables[0] == tables[1]
    assert any("choices" in line for line in tables[0])
