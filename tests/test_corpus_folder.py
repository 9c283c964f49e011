"""A corpus run's output folder: damaged files, runs with other settings, and failed writes."""

import os
import shutil
from errno import ENOSPC, EROFS

import jax
import pytest

import windrow
from corpus_files import COUNT, ROWS, TEXTS, WINDOW, check, flip, read, write_lines
from corpus_worker import POLICY, model
from exhaustive import exhaustive
from windrow.corpus import read_report, score_stream
from windrow.durable import Journal


def test_damaged_shard_is_named(run, tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    folder = run(path).folder
    shard = folder / "scores" / "00000-000001.parquet"
    whole = shard.read_bytes()
    flip(shard)
    with pytest.raises(ValueError, match=r"00000-000001.parquet is damaged.*delete it"):
        run(path)
    shard.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=rf"it has {len(whole) - 9:,} bytes, {len(whole):,} were written"):
        run(path)
    shard.unlink()
    assert run(path).table.num_rows == COUNT


CHANGES = {
    "tokenizer": lambda path: {},
    "window": lambda path: {"window": WINDOW + 1},
    "columns": lambda path: {"text_column": None, "id_column": "id"},
    "format": lambda path: {"format": "jsonl"},
    "max_length": lambda path: {"max_length": 31},
    "input a.jsonl": lambda path: write_lines(path, ROWS[:-1]) and {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_run_with_other_settings_is_refused(run, tmp_path, tokenizer, what):
    path = write_lines(tmp_path / "a.jsonl", ROWS[:30])
    folder = run(path).folder
    options = {"window": WINDOW, "policy": POLICY, "progress": False, **CHANGES[what](path)}
    other = tokenizer.with_settings(None, 5) if what == "tokenizer" else tokenizer
    with pytest.raises(ValueError, match=rf"out holds the scores of another run \(different {what}"):
        score_stream(model(), other, path, folder, **options)


def test_run_with_another_model_is_refused(run, tmp_path, tokenizer):
    path = write_lines(tmp_path / "a.jsonl", ROWS[:30])
    folder = run(path).folder
    other = windrow.LanguageModel(
        **{**vars(model()), "params": jax.tree.map(lambda x: x + 1, model().params)}
    )
    with pytest.raises(ValueError, match=r"different parameters; model function"):
        score_stream(other, tokenizer, path, folder, window=WINDOW, policy=POLICY, progress=False)


def test_folder_in_use_by_another_run_is_refused(run, tmp_path):
    path, folder = write_lines(tmp_path / "a.jsonl"), tmp_path / "out"
    folder.mkdir()
    running = Journal(folder / "windows-00000.jsonl", alone=True)
    with pytest.raises(OSError, match=r"another process is writing scores to .*out: .*--coordinator"):
        run(path)
    running.close()
    with pytest.raises(ValueError, match="tokenizer is missing"):
        score_stream(model(), None, path, folder)
    assert run(path).table.num_rows == COUNT  # the failed run has let go of the folder


def test_damaged_journal_line_loses_only_its_window(run, tokenizer, tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    folder = run(path).folder
    flip(folder / "windows-00000.jsonl", 40)
    assert read_report(folder).documents == COUNT - WINDOW
    check(run(path).table, windrow.score(model(), tokenizer, TEXTS, policy=POLICY))
    assert read_report(folder).documents == COUNT


def test_damaged_manifest_is_named_and_damaged_progress_is_ignored(run, tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    result = run(path)
    with (result.folder / "progress-00000.jsonl").open("a") as file:
        file.write("torn\n{")
    assert read_report(result.folder) == result.report
    manifest = result.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"manifest.json is not JSON: .*; choose another folder"):
        run(path)
    assert read(result.folder).num_rows == COUNT


@pytest.mark.parametrize("trouble", ["full", "gone", exhaustive("read-only")])
def test_unwritable_folder(run, tmp_path, monkeypatch, trouble):
    path, folder = write_lines(tmp_path / "a.jsonl"), tmp_path / "out"
    writes = []
    real = os.fsync

    def fsync(handle):
        writes.append(handle)
        if len(writes) > 9:
            if trouble == "gone":
                shutil.rmtree(folder, ignore_errors=True)
            else:
                number = {"full": ENOSPC, "read-only": EROFS}[trouble]
                raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    reasons = {"full": "No space left", "gone": "the folder is gone", "read-only": "Read-only file system"}
    with pytest.raises(
        OSError, match=rf"out cannot be written: {reasons[trouble]}.*windows already written are kept"
    ):
        run(path)
    monkeypatch.undo()
    if trouble != "gone":
        assert 0 < read_report(folder).documents < COUNT
        assert not list(folder.rglob("*.partial"))
    assert run(path).table.num_rows == COUNT
