"""Runs killed at random moments resume: every document once, and at most one window scored again."""

import json
import os
import random
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import windrow
from corpus_worker import POLICY, WINDOW, model
from processes import TESTS, Hosts, launch_options
from small_tokenizer import write_tokenizer
from windrow.corpus import read_report
from windrow.durable import read_journal

pytestmark = pytest.mark.exhaustive

KILLS = int(os.environ.get("WINDROW_KILLS", "8"))
"""The total number of kills; the full test makes 100."""

DOCUMENTS = max(1200, 150 * KILLS)
"""Enough that the runs have not finished when they are killed."""

SEED = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three files, their texts, and the scores of all documents from one run."""
    folder = tmp_path_factory.mktemp("corpus")
    numbers = np.random.default_rng(SEED)
    sizes = numbers.integers(1, 60, DOCUMENTS).tolist()
    texts = [numbers.integers(97, 123, size, np.uint8).tobytes().decode() for size in sizes]
    rows = [{"text": text, "id": str(number)} for number, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:500]))
    pq.write_table(pa.Table.from_pylist(rows[500:510]), folder / "b.parquet")
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[510:]))
    tokenizer = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return folder, windrow.score(model(), tokenizer, texts, policy=POLICY)


def start(folder, corpus, processes, devices):
    launches = launch_options(processes) if processes > 1 else [[]]
    commands = [[TESTS / "corpus_worker.py", folder / "out", corpus, *launch] for launch in launches]
    quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return Hosts(folder, commands, devices, [quick] * processes)


def windows(folder):
    return [record for file in sorted((folder / "out").glob("windows-*")) for record in read_journal(file)]


def kill_until_complete(folder, corpus, processes, kills, seed):
    """Kills all processes at seeded moments; returns how many were killed while running."""
    chance, killed = random.Random(seed), 0
    for _ in range(kills):
        before, files = len(windows(folder)), set(folder.glob("computed-*"))
        with start(folder, corpus, chance.choice(processes), chance.choice((1, 2, 3))) as hosts:
            after = before + chance.randrange(3)
            end = time.monotonic() + 300
            while len(windows(folder)) < after or not any("devices" in host.output for host in hosts):
                assert time.monotonic() < end
                if all(host.status is not None for host in hosts):
                    break
                time.sleep(0.005)
            time.sleep(chance.random() * 0.2)
            for host in hosts:
                if host.status is None:
                    host.signal(signal.SIGKILL)
                    killed += 1
            for host in hosts:
                host.process.wait()
        computed = sum(file.stat().st_size for file in {*folder.glob("computed-*")} - files)
        assert computed - (len(windows(folder)) - before) <= len(hosts)
    with start(folder, corpus, processes[-1], 2) as hosts:
        for host in hosts:
            host.process.wait(timeout=300)
        assert [host.status for host in hosts] == [0] * processes[-1], hosts[0].output
    return killed


@pytest.mark.parametrize("processes", [(1,), (2, 1, 2)])
def test_killed_runs_score_every_document_once(tmp_path, corpus, processes):
    folder, expected = corpus
    kills = KILLS // 3 if len(processes) > 1 else KILLS - KILLS // 3
    killed = kill_until_complete(tmp_path, folder, processes, kills, SEED)
    files = sorted((tmp_path / "out" / "scores").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    assert table.num_rows == DOCUMENTS
    names = table["id"].to_pylist()
    assert len(set(names)) == DOCUMENTS
    places = ["a.jsonl"] * 500 + ["b.parquet"] * 10 + ["c.jsonl"] * (DOCUMENTS - 510)
    assert [name.partition(":")[0] for name in names] == places
    assert np.allclose(table["log_likelihood"].to_numpy(), expected.log_likelihoods, atol=1e-4)
    assert table["tokens"].to_pylist() == expected.token_counts.tolist()
    report = read_report(tmp_path / "out")
    assert (report.documents, report.is_complete) == (DOCUMENTS, True)
    assert report.log_likelihood == pytest.approx(expected.log_likelihoods.sum())
    # A window that is in a journal is never scored again.
    done = [(record["lot"], record["window"]) for record in windows(tmp_path)]
    assert len(done) == len(set(done)) == DOCUMENTS // WINDOW
    computed = sum(file.stat().st_size for file in tmp_path.glob("computed-*"))
    assert killed >= 0.9 * kills
    assert len(done) <= computed <= len(done) + killed
