"""Output paths: checked before a run, and results are kept if writing them fails afterwards."""

import json
import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import TESTS, is_one_line, windrow_here
from task_files import write_tasks
from windrow.cli.output import TRIAL_BYTES, Output

RUN = ("run", "--model_args", "factory=byte_model:make,prefix_token_id=0", "--tasks", "choices")


def test_path_below_a_file_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    result = windrow_here(
        *RUN, "--include_path", write_tasks(tmp_path), "--output_path", tmp_path / "file" / "out"
    )
    assert is_one_line(result), result.stderr
    assert f"{tmp_path}/file is a file, not a directory; choose another directory" in result.stderr
    assert "Running loglikelihood requests" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tasks", "texts.jsonl"]


@pytest.mark.parametrize("name", ["file", "file/out/results.json"])
def test_output_path_below_a_file_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=f"--output_path '{tmp_path}/{name}' is not writable: .*/file is a file"
    ):
        Output(str(tmp_path / name))


def test_read_only_file_system_is_refused():
    with pytest.raises(
        OSError, match=r"--output_path '/proc/out' is not writable: .* in /proc; choose another"
    ):
        Output("/proc/out")


@contextmanager
def small_files(size):
    """Limits every file to ``size`` bytes, so that writes fail as on a full disk.

    The limit applies to the whole process, so lift it before pytest writes again: pytest's output
    may be a larger file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_is_refused(tmp_path):
    with small_files(TRIAL_BYTES // 2), pytest.raises(OSError, match="is not writable: File too large in"):
        Output(str(tmp_path / "not" / "yet"))
    assert list(tmp_path.iterdir()) == []


def saved(output, name="results_2026.json", text='{"results": {}}'):
    """Saves a file as lm_eval does."""
    folder = Path(output.words[1]) / "model"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_files_are_written_completely_or_not_at_all(tmp_path):
    output = Output(str(tmp_path / "out"))
    results = saved(output)
    saved(output, "samples_none_2026.jsonl", "")
    samples = saved(output, "samples_choices_2026.jsonl", "{}\n" * 1000)
    full = pytest.raises(OSError, match=r"is no longer writable: .*File too large")
    with small_files(2000), full as raised:
        output.deliver({"windrow": "a report"})
    stage = Path(re.search(r"; the results are in (.*)$", str(raised.value))[1])
    assert {results, samples} <= set((stage / "model").iterdir())
    assert json.loads(next(stage.rglob("windrow_report_2026.json")).read_text()) == {"windrow": "a report"}
    assert [path.name for path in (tmp_path / "out" / "model").iterdir()] == ["results_2026.json"]


def test_no_temporary_files_are_left(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    output = Output(str(tmp_path / "out"))
    saved(output)
    names = [path.name for path in output.deliver({"windrow": "a report"})]
    assert names == ["results_2026.json", "windrow_report_2026.json"]
    assert sorted(path.name for path in (tmp_path / "out" / "model").iterdir()) == names
    with pytest.raises(RuntimeError), Output(str(tmp_path / "out")):
        raise RuntimeError("the run fails")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_file_that_lm_eval_could_not_save_is_named(tmp_path):
    output = Output(str(tmp_path))
    saved(output)
    saved(output, "samples_choices_2026.jsonl", '{}\n{"torn"')
    with pytest.raises(OSError, match=r"lm_eval could not save samples_choices_2026\.jsonl completely"):
        output.deliver(None)
    with pytest.raises(OSError, match="lm_eval could not save its results"):
        Output(str(tmp_path)).deliver({"windrow": "a report"})


BLOCKS_OUTPUT = """
import os, sys
from pathlib import Path
from byte_tokenizer import ByteTokenizer
from windrow.cli import main

class Blocking(ByteTokenizer):
    def encode(self, text):
        if not place.exists():  # during the run, a file appears at the output path
            place.write_text("")
        return super().encode(text)

def make():
    from small_model import prefix_model
    return prefix_model(256), Blocking()

place = Path(sys.argv.pop())
sys.modules["blocks_output"] = sys.modules["__main__"]
sys.exit(main(sys.argv[1:]))
"""


def test_results_are_kept_if_the_output_path_becomes_unusable(tmp_path):
    place = tmp_path / "out"
    words = ["run", "--model_args", "factory=blocks_output:make,prefix_token_id=0", "--tasks", "choices"]
    words += ["--include_path", write_tasks(tmp_path), "--output_path", place, "--log_samples"]
    result = subprocess.run(
        [sys.executable, "-c", BLOCKS_OUTPUT, *map(str, words), str(place)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert is_one_line(result), result.stderr
    stage = Path(re.search(r"is no longer writable: .*; the results are in (.*)$", result.stderr.strip())[1])
    names = sorted(path.name.split("_2")[0] for path in stage.rglob("*") if path.is_file())
    assert names == ["results", "samples_choices", "windrow_report"]
    assert "|choices|" in result.stdout
