"""How the command ends: Ctrl-C as a real signal to a real process, and errors in task code."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import lm_eval
import pytest
from sqlitedict import SqliteDict

from command import TESTS, windrow_here
from task_files import write_tasks
from windrow.cli import main
from windrow.cli.endings import Ending, message_of
from windrow.cli.run import farewell

SOON = 10
"""Seconds; on an idle machine it takes at most one."""


HANDLES_CTRL_C = """
import faulthandler, signal, sys
faulthandler.enable(); faulthandler.register(signal.SIGUSR1, all_threads=True)
signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent process may ignore Ctrl-C
from windrow.cli import main
print("begun", flush=True)
sys.exit(main())
"""


class Command:
    """``windrow run`` in a process that handles Ctrl-C, with its output in a file."""

    def __init__(self, folder, factory, *more):
        self.file = folder / "output.txt"
        tasks = folder / "tasks" if (folder / "tasks").is_dir() else write_tasks(folder, 200)
        words = ["run", "--model_args", f"factory=byte_model:{factory},prefix_token_id=0"]
        words += ["--include_path", tasks, "--tasks", "choices", "--batch_size", "8", *more]
        with self.file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HANDLES_CTRL_C, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(TESTS), "JAX_NUM_CPU_DEVICES": "1"},
                start_new_session=True,
            )

    @property
    def output(self):
        return self.file.read_text(errors="replace")

    def wait_for(self, pattern, timeout=120):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.02)

    def interrupt(self):
        """Sends Ctrl-C; returns the exit status and the last line of output."""
        try:
            os.kill(self.process.pid, signal.SIGINT)
            status = self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGUSR1)
            time.sleep(1)
            pytest.fail(self.output)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        assert "Traceback" not in self.output, self.output
        return status, self.output.strip().splitlines()[-1]


def test_interrupted_run_resumes(tmp_path):
    cache = tmp_path / "kept"
    for _ in range(3):
        begun = Command(tmp_path, "make_slow", "--use_cache", cache)
        begun.wait_for(r"Running loglikelihood requests: +[1-9]")
        status, message = begun.interrupt()
        assert status == 130
        if "perhaps" not in message:  # in the message if Ctrl-C arrived while lm_eval's cache held its lock
            break
    assert message == (
        f"windrow: interrupted; the results so far are in {cache}_rank*.db. "
        "Run the same command again to resume"
    )
    (kept,) = sqlite3.connect(f"{cache}_rank0.db").execute("select count(*) from unnamed").fetchone()
    assert 0 < kept < 400
    again = Command(tmp_path, "make_slow", "--use_cache", cache)
    again.wait_for(rf"Cached requests: {kept}, Requests remaining: {400 - kept}")
    assert again.interrupt()[0] == 130


@pytest.mark.exhaustive
def test_interrupt_does_not_wait_for_the_device(tmp_path):
    command = Command(tmp_path, "make_endless")
    command.wait_for("Running loglikelihood requests")
    time.sleep(3)  # compiled by then; if not, Ctrl-C interrupts the compiler
    status, message = command.interrupt()
    assert status == 130
    assert (
        message == "windrow: interrupted; no results were saved. Use --resume FOLDER to save results, "
        "and run the same command again to resume"
    )


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.5])
def test_interrupt_before_the_run_starts(tmp_path, seconds):
    command = Command(tmp_path, "make_slow")
    command.wait_for("begun")
    time.sleep(seconds)
    status, message = command.interrupt()
    assert status == 130
    assert message.startswith("windrow: interrupted")


def test_locked_cache_does_not_delay_the_exit(tmp_path):
    store = SqliteDict(tmp_path / "kept_rank0.db", autocommit=True)
    hook = SimpleNamespace(dbdict=store)
    with store.conn.reqs.mutex:  # as if Ctrl-C stopped the main thread inside put()
        message = farewell([SimpleNamespace(cache_hook=hook)], "kept")
    assert message == (
        "interrupted; the results so far are in kept_rank*.db, perhaps without the last ones. "
        "Run the same command again to resume"
    )
    store.close()


INTERRUPTED_CONSTRUCTOR = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from windrow.cli.endings import Ending

class Bar:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGINT)
        self.position = 0

    def __del__(self):
        self.position

ending = Ending(owns_process=True)
try:
    with ending.at_once():
        Bar()
except KeyboardInterrupt:
    sys.exit(ending.interrupted())
"""


def test_interrupted_constructor_causes_no_destructor_error():
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_CONSTRUCTOR], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (130, "\nwindrow: interrupted\n")


def test_an_interrupted_corpus_run_says_how_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("windrow.corpus.check_places", Mock(side_effect=KeyboardInterrupt))
    words = ["--model_args", "factory=byte_model:make", "--input", "a.jsonl", "--output", str(tmp_path)]
    assert main(["score", *words]) == 130
    message = (
        f"windrow: interrupted; the windows already written are in {tmp_path}. Run the same command again"
    )
    assert message in capsys.readouterr().err


@pytest.fixture
def handles_ctrl_c():
    """Makes this process handle Ctrl-C, even if the parent process ignores it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("handles_ctrl_c")
def test_listener_thread_ends_with_the_command():
    before = set(threading.enumerate())  # threads of other tests may end in the meantime
    for failure in (None, ValueError, SystemExit):
        with contextlib.suppress(ValueError, SystemExit), Ending(owns_process=True).at_once():
            (listener,) = set(threading.enumerate()) - before
            assert listener.name == "windrow-interrupt"
            if failure:
                raise failure
        assert not listener.is_alive()
        assert set(threading.enumerate()) <= before


def test_error_in_lm_eval_task_code_is_located(tmp_path):
    """A template that uses a field missing from the document makes lm_eval's own task code fail."""
    write_tasks(tmp_path, 3)
    task = tmp_path / "tasks" / "choices.yaml"
    task.write_text(task.read_text().replace('"{{text}}"', '"{{nothing.deep}}"'))
    words = ("--include_path", tmp_path / "tasks", "--tasks", "choices")
    result = windrow_here(
        "run", "--model_args", "factory=byte_model:make,prefix_token_id=0", *words, folder=tmp_path
    )
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert re.search(
        r"^windrow: lm_eval's own task code failed: UndefinedError: 'nothing' is undefined "
        r"\(.*lm_eval/api/task\.py, line \d+, in \w+\); set WINDROW_TRACEBACK=1 to see the traceback$",
        last,
    ), result.stderr


def test_error_in_a_custom_task_is_located(tmp_path):
    write_tasks(tmp_path, 3)
    task = tmp_path / "tasks" / "choices.yaml"
    task.write_text(task.read_text() + "process_results: !function judge.judge\n")
    (tmp_path / "tasks" / "judge.py").write_text("def judge(doc, results):\n    return doc['verdict']\n")
    words = ("--include_path", tmp_path / "tasks", "--tasks", "choices")
    result = windrow_here(
        "run", "--model_args", "factory=byte_model:make,prefix_token_id=0", *words, folder=tmp_path
    )
    last = result.stderr.strip().splitlines()[-1]
    assert re.search(r"^windrow: verdict \(.*tasks/judge\.py, line 2, in judge\)", last), result.stderr


@pytest.mark.parametrize(
    ("file", "is_task_code"),
    [
        ("tasks/some_task/utils.py", True),
        ("api/task.py", True),
        ("filters/extraction.py", True),
        ("tasks/manager.py", False),
        ("evaluator.py", False),
    ],
)
def test_lm_eval_task_code_is_recognized(file, is_task_code):
    path = Path(lm_eval.__file__).parent / file
    code = compile("\n\ndef process(doc):\n    return doc['missing']\nprocess({})", str(path), "exec")
    with pytest.raises(KeyError) as caught:
        exec(code, {})
    words = message_of(caught.value.with_traceback(caught.tb.tb_next))  # starting at lm_eval's frame
    if is_task_code:
        assert words.startswith(
            f"lm_eval's own task code failed: KeyError: missing ({path}, line 4, in process);"
        )
    else:
        assert words == "missing"
