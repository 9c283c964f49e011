"""Saved results: a killed run resumes from them, and has the same results as an uninterrupted run."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from errno import ENOENT, ENOSPC, EROFS

import jax
import numpy as np
import pytest

from exhaustive import exhaustive
from keeping_worker import ROWS, make_lm, requests, results_of
from processes import TESTS, Hosts, launch_options
from task_files import write_tasks
from windrow.cli import main
from windrow.durable import read_journal
from windrow.harness import keeping

KILLS = int(os.environ.get("WINDROW_KILLS", "4"))
"""The number of kills; the full test makes 100."""

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
    """Truncates the journal to its first records and an incomplete one."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:records]) + more)


@pytest.mark.exhaustive
def test_run_resumes_on_different_devices(tmp_path, tokenizer, expected):
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


def test_results_saved_in_another_order_match_their_requests(tmp_path, tokenizer, expected):
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


def test_damaged_result_is_recomputed(tmp_path, tokenizer, expected, capsys):
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
def test_different_model_or_setting_is_refused(tmp_path, tokenizer, what):
    one = requests()["loglikelihood"][:3]
    lm = make_lm(tokenizer, jax.devices()[:2])
    lm.keep_results(tmp_path)
    first = lm.loglikelihood(one)
    other = OTHERS[what](lm) or make_lm(tokenizer, jax.devices()[:2], **ARGUMENTS.get(what, {}))
    assert other.loglikelihood(one)  # without keep_results, nothing is saved
    other.keep_results(tmp_path)
    with pytest.raises(ValueError, match=rf"results.jsonl does not match this run \(different {what}\)"):
        other.loglikelihood(one)
    again = make_lm(tokenizer, jax.devices()[:2], batch_size=4)
    again.keep_results(tmp_path)
    assert again.loglikelihood(one) == first


def start(folder, processes, devices):
    launches = launch_options(processes) if processes > 1 else [[]]
    commands = [[TESTS / "keeping_worker.py", folder, *launch] for launch in launches]
    quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return Hosts(folder, commands, devices, [quick] * processes)


def kept_by_kind(folder):
    """The number of results of each type in the journal."""
    results = [each["result"] for each in read_journal(folder / "kept" / "results.jsonl") if "key" in each]
    kinds = {list: "loglikelihood", float: "loglikelihood_rolling", str: "generate_until"}
    return Counter(kinds[type(result)] for result in results)


def computed_by_kind(lines):
    """The number of requests of each type that were computed before the last batch of that type began.

    A ``loglikelihood`` row is identified by its text. A rolling request is computed when its last window
    is. Generation computes all tokens of a request at once.
    """
    asked = [line["generated"] for line in lines if "generated" in line]
    first = next((at for at, line in enumerate(lines) if "generated" in line), len(lines))
    rows = [row for line in [line for line in lines[:first] if "rows" in line][:-1] for row in line["rows"]]
    given = {kind: [each.args for each in instances] for kind, instances in requests().items()}
    inputs = {(context + continuation)[:-1] for context, continuation in given["loglikelihood"]}
    texts = [text for (text,) in given["loglikelihood_rolling"]]
    windows = Counter(text for row in rows if len(row) > 20 for text in texts if row in text)
    begun = {request for each in asked[:-1] for request in each}
    return Counter(
        loglikelihood=sum(row in inputs for row in rows),
        loglikelihood_rolling=sum(windows[text] == -(-len(text) // 32) for text in texts),
        generate_until=len(begun.difference(*asked[-1:])),
    )


def kill_once(folder, processes, chance):
    """Runs until a random batch begins, then kills all processes; false if the run completes first.

    At most one computed batch is lost, in addition to the one in progress.
    """
    seen, before = folder / "seen-0.jsonl", kept_by_kind(folder)
    seen.unlink(missing_ok=True)
    seen.touch()
    lines, end = chance.randrange(60), time.monotonic() + 300
    with start(folder, processes, chance.choice((1, 2, 3))) as hosts:
        while seen.read_bytes().count(b"\n") < lines and any(host.status is None for host in hosts):
            assert time.monotonic() < end
            time.sleep(0.005)
        time.sleep(chance.random() * 0.03)
        if all(host.status is not None for host in hosts):
            assert [host.status for host in hosts] == [0] * processes, hosts[0].output
            return False
        for host in hosts:
            if host.status is None:
                host.signal(signal.SIGKILL)
        for host in hosts:
            host.process.wait()
    lines = [json.loads(line) for line in seen.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"]
    after, computed = kept_by_kind(folder), computed_by_kind(lines)
    assert all(computed[kind] - (after - before)[kind] <= ROWS for kind in computed), (
        before,
        after,
        computed,
    )
    assert before <= after
    return True


@pytest.mark.exhaustive
def test_killed_runs_resume(tmp_path, expected):
    """With one or two processes of one to three devices each."""
    chance, kills, rounds = random.Random(1), 0, 0
    while kills < KILLS:
        folder = tmp_path / str(rounds)
        folder.mkdir()
        while kills < KILLS and kill_once(folder, 1 + kills % 2, chance):
            kills += 1
        with start(folder, 1, 2) as hosts:
            assert hosts[0].process.wait(timeout=300) == 0, hosts[0].output
        same(json.loads((folder / "results.json").read_text()), expected)
        keys = [
            record["key"] for record in read_journal(folder / "kept" / "results.jsonl") if "key" in record
        ]
        assert len(keys) == len(set(keys)) == COUNT
        rounds += 1


@pytest.mark.parametrize("trouble", ["full", exhaustive("read-only"), "gone"])
def test_unwritable_folder(tmp_path, tokenizer, expected, monkeypatch, trouble):
    folder, real, written = tmp_path / "kept", os.write, []
    journal, code = folder / "results.jsonl", {"full": ENOSPC, "read-only": EROFS, "gone": ENOENT}[trouble]

    def write(handle, data):
        if journal.exists() and os.path.samestat(os.fstat(handle), journal.stat()):
            written.append(data)
            if len(written) > 50 and trouble == "gone":
                shutil.rmtree(folder)
            elif len(written) > 50:
                raise OSError(code, os.strerror(code))
        return real(handle, data)

    monkeypatch.setattr(keeping, "SYNC_SECONDS", 0)
    monkeypatch.setattr(os, "write", write)
    lm = make_lm(tokenizer, jax.devices()[:2])
    lm.keep_results(folder)
    reason = "it has been deleted" if trouble == "gone" else os.strerror(code)
    message = rf"results.jsonl cannot be written: {reason}; results already written are kept"
    with pytest.raises(OSError, match=message):
        results_of(lm)
    monkeypatch.undo()
    kept = sum("key" in record for record in read_journal(journal))
    assert kept == (0 if trouble == "gone" else 49)  # the first record is the fingerprint
    again = make_lm(tokenizer, jax.devices()[:2])
    again.keep_results(folder)
    same(results_of(again), expected)
    assert again.report()["requests"] == COUNT - kept


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_resume_on_the_command_line(tmp_path, monkeypatch, capsys):
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
    tables = [
        [line for line in captured.out.splitlines() if line.startswith("|")] for captured in (first, again)
    ]
    assert tables[0] == tables[1]
    assert any("choices" in line for line in tables[0])
