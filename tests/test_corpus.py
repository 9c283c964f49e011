"""Scoring a corpus: every format gives the scores of `windrow.score`, and bad input says what is wrong."""

import gzip
import json
import os
import re
import shutil
import sys
from io import BytesIO
from types import SimpleNamespace

import datasets
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from jax.sharding import Mesh

import windrow
from cached_model import cached_model
from corpus_worker import POLICY, model
from exhaustive import exhaustive
from small_tokenizer import BOS, write_tokenizer
from windrow.cli import main
from windrow.corpus import Paths, is_run, read_report, score_stream
from windrow.tokens import load_tokenizer

COUNT = 90
WINDOW = 25


def texts(count=COUNT, seed=0, longest=90):
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefgh \né"))
    return ["".join(random.choice(letters, random.integers(1, longest))) for _ in range(count)]


TEXTS = texts()
ROWS = [{"text": text, "id": 1000 + number} for number, text in enumerate(TEXTS)]
PAIRS = [(text[:9], text[9:30] or "x") for text in TEXTS]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def expected(tokenizer):
    return windrow.score(model(), tokenizer, TEXTS, policy=POLICY)


@pytest.fixture
def run(tokenizer, tmp_path):
    """Scores a corpus into a folder; the table of all scores, or the report."""

    def run(requests, output="out", **options):
        options = {"window": WINDOW, "policy": POLICY, "progress": False, **options}
        report = score_stream(model(), tokenizer, requests, tmp_path / output, **options)
        return SimpleNamespace(report=report, table=read(tmp_path / output), folder=tmp_path / output)

    return run


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


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_scores_of_score(run, expected, tmp_path, name):
    path = WRITERS[name](tmp_path / name)
    result = run(path, id_column="id")
    assert result.table.column_names == ["id", "log_likelihood", "tokens", "bytes", "words", "greedy"]
    assert result.table["id"].to_pylist() == [str(row["id"]) for row in ROWS]
    check(result.table, expected)
    report = result.report
    assert (report.documents, report.skipped, report.is_complete) == (COUNT, 0, True)
    assert report.bytes == sum(len(text.encode()) for text in TEXTS)
    assert result.table["words"].to_pylist() == [len(re.split(r"\s+", text)) for text in TEXTS]
    assert sorted(path.name for path in (result.folder / "scores").iterdir()) == [
        f"00000-{number:06}.parquet" for number in range(4)
    ]


ELEMENTS = {
    "a list": lambda: TEXTS,
    "a generator": lambda: (text for text in TEXTS),
    "a Grain MapDataset": lambda: grain.MapDataset.source(ROWS),
    "a Grain IterDataset": lambda: grain.MapDataset.source(ROWS).to_iter_dataset(),
    "tokens": lambda: [np.array([BOS, *text.encode()], np.int32) for text in TEXTS],
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_objects_are_scored_and_go_on(run, expected, name):
    options = {"tokens_column": "tokens"} if name == "tokens" else {}
    first = run(ELEMENTS[name](), **options)
    check(first.table, expected)
    (first.folder / "scores" / "00000-000002.parquet").unlink()  # as if that window had been lost
    again = run(ELEMENTS[name](), **options)
    check(again.table, expected)
    assert again.report.log_likelihood == pytest.approx(first.report.log_likelihood)


def test_pairs_in_columns(run, tokenizer, tmp_path):
    expected = windrow.score(model(), tokenizer, PAIRS, policy=POLICY)
    rows = [{"question": context, "answer": continuation} for context, continuation in PAIRS]
    path = write_parquet(tmp_path / "pairs.parquet", rows)
    columns = {"context_column": "question", "continuation_column": "answer"}
    result = run(path, format="jsonl", token_logprobs=True, worst_tokens=3, **columns)
    check(result.table, expected)
    assert result.table["bytes"].to_pylist() == [len(text.encode()) for _, text in PAIRS]
    assert result.table["id"][7].as_py() == "pairs.parquet:7"
    whole = np.split(expected.token_logprobs, expected.offsets[1:-1])
    for row, logprobs in zip(result.table.to_pylist(), whole, strict=True):
        assert np.allclose(row["token_logprobs"], logprobs, atol=1e-4)
        worst = [each["logprob"] for each in row["worst_tokens"]]
        assert np.allclose(worst, np.sort(logprobs)[:3], atol=1e-4)
        for each in row["worst_tokens"]:
            assert row["token_logprobs"][each["position"]] == each["logprob"]
    number = next(at for at, (context, _) in enumerate(PAIRS) if not context[-1].isspace())
    worst = result.table["worst_tokens"][number].as_py()[0]
    assert worst["token"] == PAIRS[number][1].encode()[worst["position"]]


def test_several_files_are_read_in_order_and_numbered_apart(run, expected, tmp_path):
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "b.jsonl", ROWS[50:])
    write_parquet(tmp_path / "in" / "a.parquet", ROWS[:50])
    result = run(tmp_path / "in")
    check(result.table, expected)
    assert result.table["id"].to_pylist()[49:51] == ["a.parquet:49", "b.jsonl:0"]
    check(run(str(tmp_path / "in" / "*"), "glob").table, expected)
    paths = Paths([str(tmp_path / "in" / "a.parquet"), str(tmp_path / "in" / "b.jsonl")])
    check(run(paths, "paths").table, expected)


def test_nothing_compiles_after_the_first_window(run, tmp_path):
    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(len(list((tmp_path / "out" / "scores").glob("*.parquet"))))

    short = [{"text": "x" * (1 + number % 3)} for number in range(50)]
    long = [{"text": text} for text in texts(100, seed=1, longest=200)]
    path = write_lines(tmp_path / "grows.jsonl", short + long)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run(path, policy=windrow.BatchPolicy(tokens_per_batch=512, max_shapes=3, pack=False))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert set(compiled) <= {0}


@pytest.mark.parametrize("layout", ["packed", "trees", "many duplicates"])
def test_layouts(tmp_path, tokenizer, layout):
    """Packed rows, prefix trees, and rows that very many segments read, on two devices."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    policy = windrow.BatchPolicy(
        tokens_per_batch=256,
        share={"trees": "trees"}.get(layout, "equal"),
        pack=layout == "packed",
        max_shapes=2,
    )
    pairs = [(f"shared {number // 4}", f" {number % 4}") for number in range(40)]
    if layout == "many duplicates":
        pairs = [("the same", " text")] * 500
    own = cached_model(258, 32)
    options = {"window": 500, "policy": policy, "sharding": mesh, "progress": False}
    score_stream(
        own, tokenizer, pairs, tmp_path / "out", context_column="c", continuation_column="t", **options
    )
    expected = windrow.score(own, tokenizer, pairs, policy=windrow.BatchPolicy(batch_size=8), sharding=mesh)
    check(read(tmp_path / "out"), expected)


def test_recurrent_models_without_a_limit_skip_what_no_row_holds(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("windrow.corpus.stream.SAMPLE", 3)
    unlimited = windrow.LanguageModel(**{**vars(model()), "max_length": None})
    documents = ["short", "and short", "c", "d" * 200, "last"]
    report = score_stream(unlimited, tokenizer, documents, tmp_path / "out", policy=POLICY, progress=False)
    assert list(report.skipped_documents()) == [
        ("documents:3", "longer than 32 tokens, the longest row; set max_length to split it into windows")
    ]
    cut = score_stream(
        unlimited, tokenizer, documents, tmp_path / "cut", policy=POLICY, progress=False, max_length=32
    )
    assert (cut.skipped, cut.tokens) == (0, sum(map(len, documents)))


BAD = {
    "": "text is empty",
    None: "text must be a string, not null",
    7: "text must be a string, not int",
    "\ud800": "surrogate",
}


def test_documents_that_cannot_be_scored_are_skipped_and_named(run, tmp_path):
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


def free_model():
    """Every token is equally likely; costs nothing."""
    return windrow.LanguageModel(
        jnp.zeros(1),
        lambda params, tokens, *_: jnp.zeros((*tokens.shape, 258)),
        max_length=512,
        hidden=lambda params, tokens, *_: jnp.zeros((*tokens.shape, 1)),
        head=lambda params, picked: jnp.zeros((picked.shape[0], 258)),
    )


@pytest.mark.usefixtures("optimized")
def test_a_document_of_ten_megabytes(tokenizer, tmp_path):
    long = "ab cd\n" * (10_000_000 // 6)
    path = write_lines(tmp_path / "long.jsonl", [{"text": "short"}, {"text": long}, {"text": "last"}])
    policy = windrow.BatchPolicy(tokens_per_batch=1 << 15, max_shapes=1, share=False, pack=False)
    options = {"policy": policy, "sharding": Mesh(np.array(jax.devices()[:1]), ("data",)), "progress": False}
    score_stream(free_model(), tokenizer, path, tmp_path / "out", **options)
    table = read(tmp_path / "out")
    assert table["tokens"].to_pylist() == [5, len(long), 4]
    assert column(table, "log_likelihood") == pytest.approx(-np.log(258) * column(table, "tokens"))


def flip(path, at=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def test_a_damaged_shard_is_named(run, tmp_path):
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
def test_a_run_that_differs_is_refused(run, tmp_path, tokenizer, what):
    path = write_lines(tmp_path / "a.jsonl", ROWS[:30])
    folder = run(path).folder
    options = {"window": WINDOW, "policy": POLICY, "progress": False, **CHANGES[what](path)}
    other = tokenizer.with_settings(None, 5) if what == "tokenizer" else tokenizer
    with pytest.raises(ValueError, match=rf"out holds the scores of another run \(different {what}"):
        score_stream(model(), other, path, folder, **options)


def test_another_model_is_refused(run, tmp_path, tokenizer):
    path = write_lines(tmp_path / "a.jsonl", ROWS[:30])
    folder = run(path).folder
    other = windrow.LanguageModel(
        **{**vars(model()), "params": jax.tree.map(lambda x: x + 1, model().params)}
    )
    with pytest.raises(ValueError, match=r"different parameters; model function"):
        score_stream(other, tokenizer, path, folder, window=WINDOW, policy=POLICY, progress=False)


def broken_parquet(path):
    write_parquet(path)
    with pq.ParquetFile(path) as file:
        start = file.metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)


def test_a_broken_row_group_is_named_and_what_was_scored_stays(run, tmp_path):
    path = tmp_path / "a.parquet"
    broken_parquet(path)
    with pytest.raises(ValueError, match=r"row group 1 of .*a.parquet cannot be read: "):
        run(path)
    assert is_run(tmp_path / "out")
    report = read_report(tmp_path / "out")
    assert (report.documents, report.is_complete) == (WINDOW, False)
    assert read(tmp_path / "out").num_rows == WINDOW


TORN = {
    "a.jsonl.gz": (write_gzip, r"a.jsonl.gz cannot be read after line \d+: "),
    "a.jsonl.zst": (write_zstd, r"a.jsonl.zst cannot be read after line \d+: "),
    "a.parquet": (write_parquet, r"a.parquet cannot be opened: "),
    "a.arrayrecord": (write_records, r"a.arrayrecord cannot be opened: "),
    "folder": (write_dataset, r"folder cannot be opened: "),
}


@pytest.mark.parametrize("name", TORN)
def test_a_torn_file_is_named(run, tmp_path, name):
    write, message = TORN[name]
    path = write(tmp_path / name)
    torn = next(path.glob("*.arrow")) if path.is_dir() else path
    torn.write_bytes(torn.read_bytes()[:-40])
    with pytest.raises(ValueError, match=message):
        run(path)


def test_a_damaged_record_is_named(run, tmp_path):
    path = write_records(tmp_path / "a.arrayrecord")
    flip(path, 11_022)
    with pytest.raises(ValueError, match=r"a.arrayrecord cannot be read at record 79: "):
        run(path)
    assert read_report(tmp_path / "out").documents == 3 * WINDOW


def test_a_damaged_journal_costs_its_own_window(run, expected, tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    folder = run(path).folder
    flip(folder / "windows-00000.jsonl", 40)
    assert read_report(folder).documents == COUNT - WINDOW
    check(run(path).table, expected)
    assert read_report(folder).documents == COUNT


def test_a_damaged_manifest_is_named_and_a_damaged_progress_line_passed_over(run, tmp_path):
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
def test_a_folder_that_cannot_be_written(run, tmp_path, monkeypatch, trouble):
    path, folder = write_lines(tmp_path / "a.jsonl"), tmp_path / "out"
    writes = []
    real = os.fsync

    def fsync(handle):
        writes.append(handle)
        if len(writes) > 9:
            if trouble == "gone":
                shutil.rmtree(folder, ignore_errors=True)
            else:
                raise OSError(
                    {"full": 28, "read-only": 30}[trouble],
                    os.strerror({"full": 28, "read-only": 30}[trouble]),
                )
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    told = {"full": "No space left", "gone": "the folder is gone", "read-only": "Read-only file system"}
    with pytest.raises(
        OSError, match=rf"out cannot be written: {told[trouble]}.*windows already written are kept"
    ):
        run(path)
    monkeypatch.undo()
    if trouble != "gone":
        assert 0 < read_report(folder).documents < COUNT
        assert not list(folder.rglob("*.partial"))
    assert run(path).table.num_rows == COUNT


def test_what_does_not_exist_is_named(run, tmp_path):
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


def test_numbers_may_be_of_numpy(run, expected):
    result = run(TEXTS, window=np.int64(WINDOW), worst_tokens=np.int32(1), max_length=np.int64(32))
    check(result.table, expected)
    assert len(result.table["worst_tokens"][0].as_py()) == 1
    check(run(TEXTS, worst_tokens=1, max_length=32).table, expected)  # the same run


def test_empty_inputs(run, tmp_path):
    path = write_lines(tmp_path / "none.jsonl", [])
    result = run(path)
    assert (result.report.documents, result.table.num_rows, result.report.is_complete) == (0, 0, True)


def test_standard_input(run, expected, monkeypatch):
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(lines(ROWS))))
        result = run("-")
        check(result.table, expected)
    assert result.table["id"][3].as_py() == "stdin:3"


@pytest.mark.filterwarnings("ignore:tokenizer .* encodes in Python")
def test_the_command_and_its_report(tmp_path, monkeypatch, capsys):
    write_lines(tmp_path / "a.jsonl", ROWS[:30])
    monkeypatch.chdir(tmp_path)
    words = [
        "score",
        "--model_args",
        "factory=byte_model:make,prefix_token_id=0,tokens_per_batch=2048,pack=false",
    ]
    words += ["--input", "*.jsonl", "--output", "out", "--id_column", "id", "--window", "20"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "30, of which 0 skipped" in shown
    assert read(tmp_path / "out").num_rows == 30
    assert main(["report", "out"]) == 0
    assert capsys.readouterr().out == shown
    lines = (tmp_path / "out" / "progress-00000.jsonl").read_text().splitlines()
    assert {"documents", "tokens", "tokens_per_second", "seconds_left"} <= json.loads(lines[-1]).keys()
    assert main([*words, "--format", "jsonl"]) == 2
    assert "different format: was parquet, is now jsonl" in capsys.readouterr().err


COLUMNS = {
    **dict.fromkeys(("arc_challenge", "arc_easy", "openbook_qa", "piqa", "siqa"), "query"),
    **dict.fromkeys(("gsm8k", "mmlu"), "question"),
    "boolq": "query",
    "lambada_openai": "context",
    "winogrande": "continuation",
    "wikitext2": "page",
}
"""The column of whole texts in each file of real data."""


def real_files(evals, folder, pages, rows):
    """The first rows of each file, and their texts."""
    texts = []
    for name, key in COLUMNS.items():
        found = (evals / "data" / f"{name}.jsonl").read_text().splitlines()
        found = [json.loads(line)[key] for line in found[: pages if name == "wikitext2" else rows]]
        write_lines(folder / f"{name}.jsonl", [{"text": text} for text in found])
        texts += [(name, text) for text in found]
    return [text for _, text in sorted(texts, key=lambda each: each[0])]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("pages", "rows"), [(2, 4), pytest.param(None, 40, id="all of WikiText-2")])
@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_real_texts_have_the_perplexity_of_rolling_requests(evals, tmp_path, optimized, name, pages, rows):
    from lm_eval.api.instance import Instance

    (tmp_path / "in").mkdir()
    texts = real_files(evals, tmp_path / "in", pages, rows)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    options = {"tokens_per_batch": 8192, "max_shapes": 2, "share": "equal", "pack": False}
    lm = windrow.JaxLM(pretrained=str(evals / "parity" / f"tiny-{name}"), mesh=mesh, **options)
    rolling = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts])
    size = sum(len(text.encode()) for text in texts)
    report = score_stream(
        lm.model, lm.tokenizer, tmp_path / "in", tmp_path / "out", policy=lm.policy, progress=False,
        window=10, max_length=lm.max_length, sharding=mesh,
    )  # fmt: skip
    assert column(read(tmp_path / "out"), "log_likelihood") == pytest.approx(rolling, rel=1e-5, abs=1e-3)
    assert report.bytes == size
    assert report.perplexities["byte_perplexity"] == pytest.approx(np.exp(-sum(rolling) / size), rel=1e-6)
