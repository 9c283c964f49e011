"""Large inputs are read by a separate process, with the same scores and errors; it always ends."""

import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType

import numpy as np
import pytest

import windrow
from corpus_worker import POLICY, model
from processes import TESTS
from small_tokenizer import write_tokenizer
from windrow.corpus import Paths, read_report, reader, score_stream
from windrow.corpus.documents import Columns
from windrow.corpus.source import Share, source_of
from windrow.corpus.windows import Reading
from windrow.tokens import load_tokenizer

LETTERS = np.array(list("abcdefgh é"))
TEXTS = ["".join(np.random.default_rng(at).choice(LETTERS, at % 40 + 1)) for at in range(90)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a tokenizer and a corpus of two files."""
    folder = tmp_path_factory.mktemp("reader")
    write_tokenizer(folder / "tokenizer")
    for name, texts in (("a.jsonl", TEXTS[:50]), ("b.jsonl", TEXTS[50:])):
        (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def started(monkeypatch):
    """Starts a reader for inputs of any size; a list of the started processes."""
    monkeypatch.setattr(reader, "LEAST_BYTES", 0)
    processes, start = [], reader._start

    def listed(reading):
        processes.append(start(reading))
        return processes[-1]

    monkeypatch.setattr(reader, "_start", listed)
    return processes


def score(folder, output, tokenizer=None, requests=None, **options):
    requests = str(folder / "*.jsonl") if requests is None else requests
    options = {"window": 20, "policy": POLICY, "progress": False, **options}
    return score_stream(model(), tokenizer or folder / "tokenizer", requests, output, **options)


def total(folder, tokenizer=None):
    scores = windrow.score(model(), tokenizer or folder / "tokenizer", TEXTS, policy=POLICY)
    return pytest.approx(scores.log_likelihoods.sum())


def test_reader_gives_the_same_scores_and_ends(folder, tmp_path, started):
    report = score(folder, tmp_path / "out")
    assert (report.log_likelihood, report.documents) == (total(folder), len(TEXTS))
    assert [process.returncode is not None for process in started] == [True]


def test_small_inputs_and_objects_start_no_reader(folder, tmp_path, started, monkeypatch):
    score(folder, tmp_path / "objects", requests=TEXTS)
    monkeypatch.setattr(reader, "LEAST_BYTES", 1 << 20)
    score(folder, tmp_path / "small")
    assert started == [None, None]


def test_reader_error_is_raised_in_the_main_process(folder, tmp_path, started):
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(b"\x1f\x8b" + bytes(40))
    with pytest.raises(ValueError, match=r"torn\.jsonl\.gz cannot be read after line 0"):
        score(folder, tmp_path / "out", requests=Paths([str(folder / "a.jsonl"), str(torn)]))
    assert started[0].returncode is not None


def test_killed_reader_is_reported_and_the_run_resumes(folder, tmp_path, started, monkeypatch):
    receive = reader._next_of

    def killed(process):
        process.kill()
        return receive(process)

    with monkeypatch.context() as during:
        during.setattr(reader, "_next_of", killed)
        with pytest.raises(RuntimeError, match=r"reads the input ended with status -9; run again to resume"):
            score(folder, tmp_path / "out")
    report = score(folder, tmp_path / "out")
    assert report.log_likelihood == total(folder)
    assert read_report(tmp_path / "out").is_complete


class Letters:
    """A tokenizer whose module the reader cannot import, or that cannot be pickled."""

    vocab_size, eos_token_id = 256, 0

    def __init__(self, held=None):
        self.held = held

    def encode(self, text, **_):
        return list(text.encode())

    def decode(self, tokens, **_):
        return bytes(tokens).decode(errors="replace")


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
@pytest.mark.parametrize("trouble", ["a lambda", "an unknown module"])
def test_tokenizer_that_cannot_be_sent_is_used_in_the_main_process(
    folder, tmp_path, started, monkeypatch, trouble
):
    made = Letters(lambda: None)
    if trouble == "an unknown module":
        module = ModuleType("known_in_this_process_only")
        module.Letters = type("Letters", (Letters,), {"__module__": module.__name__})
        monkeypatch.setitem(sys.modules, module.__name__, module)
        made = module.Letters()
    report = score(folder, tmp_path / "out", made)
    assert report.log_likelihood == total(folder, made)
    assert [process is None for process in started] == [trouble == "a lambda"]


START_READER = """
import sys
from pathlib import Path
from windrow.corpus import reader
import test_corpus_reader
reader.LEAST_BYTES = 0
with reader.encoded_windows(test_corpus_reader.reading(Path(sys.argv[1]))) as windows:
    next(windows)
    print(*(path.read_text() for path in Path("/proc/self/task").glob("*/children")), flush=True)
    sys.stdin.read()
"""
"""Prints the reader's process id, and waits."""


def reading(folder):
    source = source_of(str(folder / "*.jsonl"), ["text"])
    tokenizer = load_tokenizer(folder / "tokenizer")
    return Reading(source, 5, Share(len(source)), set(), set(), Columns(), tokenizer, 32)


def test_reader_ends_with_its_parent_process(folder):
    command = [sys.executable, "-c", START_READER, str(folder)]
    path = os.pathsep.join([str(TESTS), *sys.path])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as parent:
        child = int(parent.stdout.readline().split()[0])
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    end = time.monotonic() + 60
    while os.path.exists(f"/proc/{child}"):
        assert time.monotonic() < end, "the reader is still running"
        time.sleep(0.05)
