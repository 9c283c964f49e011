"""A small corpus in every input format, runs that score it, and checks of their results."""

import gzip
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter

from corpus_worker import POLICY, model
from windrow.corpus import score_stream

COUNT = 90
WINDOW = 25


def texts(count=COUNT, seed=0, longest=90):
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefgh \né"))
    return ["".join(random.choice(letters, random.integers(1, longest))) for _ in range(count)]


TEXTS = texts()
ROWS = [{"text": text, "id": 1000 + number} for number, text in enumerate(TEXTS)]


def scored(tokenizer, folder, requests, output="out", **options):
    """Scores a corpus into a subfolder; returns the report and the table of all scores."""
    options = {"window": WINDOW, "policy": POLICY, "progress": False, **options}
    report = score_stream(model(), tokenizer, requests, folder / output, **options)
    return SimpleNamespace(report=report, table=read(folder / output), folder=folder / output)


def read(folder):
    files = sorted((folder / "scores").iterdir())
    if files[0].suffix == ".parquet":
        return pa.concat_tables([pq.read_table(file) for file in files])
    return pa.Table.from_pylist(
        [json.loads(line) for file in files for line in file.read_text().splitlines()]
    )


def column(table, name):
    return np.array(table[name].to_pylist(), float)


def check(table, expected):
    assert np.allclose(column(table, "log_likelihood"), expected.log_likelihoods, atol=1e-4)
    assert table["tokens"].to_pylist() == expected.token_counts.tolist()
    assert table["greedy"].to_pylist() == expected.greedy.tolist()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_lines(path, rows=ROWS):
    path.write_bytes(lines(rows))
    return path


def write_zstd(path, rows=ROWS):
    with pa.output_stream(str(path), compression="zstd") as file:
        file.write(lines(rows))
    return path


def write_gzip(path, rows=ROWS):
    half = len(rows) // 2
    path.write_bytes(gzip.compress(lines(rows[:half])) + gzip.compress(lines(rows[half:])))
    return path


def write_parquet(path, rows=ROWS):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=40)
    return path


def write_records(path, rows=ROWS):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for row in rows:
        writer.write(json.dumps(row).encode())
    writer.close()
    return path


def write_dataset(path, rows=ROWS):
    datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path


WRITERS = {
    "lines.jsonl": write_lines,
    "c4.json.gz": write_gzip,
    "lines.jsonl.zst": write_zstd,
    "table.parquet": write_parquet,
    "records.arrayrecord": write_records,
    "folder": write_dataset,
}


def flip(path, at=None):
    """Flips a bit of a file, in byte ``at`` or in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
