"""Corpora that cannot be read or scored: errors and reports say what is wrong and where."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_files import (
    COUNT,
    TEXTS,
    WINDOW,
    column,
    flip,
    lines,
    read,
    write_dataset,
    write_gzip,
    write_lines,
    write_parquet,
    write_records,
    write_zstd,
)
from windrow.corpus import is_run, read_report

BAD = {
    "": "text is empty",
    None: "text must be a string, not null",
    7: "text must be a string, not int",
    "\ud800": "surrogate",
}


def test_unscorable_documents_are_skipped_and_named(run, tmp_path):
    good = [{"text": text} for text in TEXTS[:30]]
    bad = [
        b'{"text": "\xff"}\n',
        b"{}\n",
        b"not JSON\n",
        b"[1]\n",
        *(lines([{"text": text}]) for text in BAD),
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(lines(good[:10]) + b"".join(bad) + b"\n" + lines(good[10:]))
    result = run(path)
    found = dict(result.report.skipped_documents())
    reasons = [
        "invalid UTF-8 at byte 10",
        "no column 'text', only an empty object",
        "not JSON",
        "a JSON object",
    ]
    for number, reason in enumerate([*reasons, *BAD.values()], 10):
        assert reason in found.pop(f"mixed.jsonl:{number}")
    assert found == {}
    assert str(result.report).endswith(f"\n            and {len(bad) - 3} more")
    table = result.table
    assert table["log_likelihood"].null_count == table["greedy"].null_count == len(bad)
    alone = run(write_lines(tmp_path / "good.jsonl", good), "good").table
    kept = [row for row in table["log_likelihood"].to_pylist() if row is not None]
    assert np.allclose(kept, column(alone, "log_likelihood"), atol=1e-4)
    with pytest.raises(ValueError, match=r"document mixed.jsonl:10: invalid UTF-8 at byte 10"):
        run(path, "strict", on_bad_request="raise")


def test_invalid_utf_8_in_parquet(run, tmp_path):
    values = pa.array([b"good", b"\xff\xfe", b"fine"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, values.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "bad.parquet")
    assert dict(run(tmp_path / "bad.parquet").report.skipped_documents()) == {
        "bad.parquet:1": "text: invalid UTF-8 at byte 0"
    }


def damaged_parquet(path):
    write_parquet(path)
    with pq.ParquetFile(path) as file:
        start = file.metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)


def test_damaged_row_group_is_named_and_earlier_windows_are_kept(run, tmp_path):
    path = tmp_path / "a.parquet"
    damaged_parquet(path)
    with pytest.raises(ValueError, match=r"row group 1 of .*a.parquet cannot be read: "):
        run(path)
    assert is_run(tmp_path / "out")
    report = read_report(tmp_path / "out")
    assert (report.documents, report.is_complete) == (WINDOW, False)
    assert read(tmp_path / "out").num_rows == WINDOW


TRUNCATED = {
    "a.jsonl.gz": (write_gzip, r"a.jsonl.gz cannot be read after line \d+: "),
    "a.jsonl.zst": (write_zstd, r"a.jsonl.zst cannot be read after line \d+: "),
    "a.parquet": (write_parquet, r"a.parquet cannot be opened: "),
    "a.arrayrecord": (write_records, r"a.arrayrecord cannot be opened: "),
    "folder": (write_dataset, r"folder cannot be opened: "),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_truncated_file_is_named(run, tmp_path, name):
    write, message = TRUNCATED[name]
    path = write(tmp_path / name)
    truncated = next(path.glob("*.arrow")) if path.is_dir() else path
    truncated.write_bytes(truncated.read_bytes()[:-40])
    with pytest.raises(ValueError, match=message):
        run(path)


def test_damaged_record_is_named(run, tmp_path):
    path = write_records(tmp_path / "a.arrayrecord")
    flip(path, 11_022)
    with pytest.raises(ValueError, match=r"a.arrayrecord cannot be read at record 79: "):
        run(path)
    assert read_report(tmp_path / "out").documents == 3 * WINDOW


def test_paths_without_a_corpus_are_refused(run, tmp_path):
    cases = [
        (lambda: run(tmp_path / "none.jsonl"), r"none.jsonl' does not exist"),
        (lambda: run(str(tmp_path / "*.jsonl")), r"matches no file of a supported format: JSON lines"),
        (
            lambda: run(write_lines(tmp_path / "a.csv")),
            r"a.csv' has an unknown format; supported are JSON lines",
        ),
        (
            lambda: run(write_parquet(tmp_path / "a.parquet"), text_column="txt"),
            r"a.parquet has no column 'txt', only text, id; did you mean 'text'",
        ),
        (
            lambda: run(write_lines(tmp_path / "a.jsonl"), text_column="txt"),
            r"none of the first 25 documents .*a.jsonl:0: no column 'txt', only text, id",
        ),
        (lambda: run(TEXTS, context_column="c"), "belong together"),
        (lambda: run(TEXTS, text_column="t", tokens_column="n"), "give one of text_column"),
        (lambda: run(TEXTS, window=0), "window must be a whole number of at least 1, not 0"),
        (lambda: run(TEXTS, worst_tokens=-1), "worst_tokens must be a whole number of at least 0, not -1"),
        (
            lambda: run(TEXTS, max_length=True),
            "max_length must be a whole number of at least 1, or None, not",
        ),
        (lambda: run(TEXTS, format="csv"), "format must be 'parquet' or 'jsonl', not 'csv'"),
        (lambda: run(7), "requests must be a path or glob"),
    ]
    for call, message in cases:
        with pytest.raises((ValueError, TypeError, OSError), match=message):
            call()
    folder = write_dataset(tmp_path / "one")
    splits = datasets.DatasetDict({"train": datasets.load_from_disk(str(folder))})
    splits.save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(ValueError, match=r"holds the splits train; give one, such as .*splits/train"):
        run(tmp_path / "splits")
    assert run(tmp_path / "splits" / "train").table.num_rows == COUNT
