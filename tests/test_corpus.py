"""Scoring a corpus: every input format gives the scores of `windrow.score`."""

import json
import re
import sys
from io import BytesIO
from types import SimpleNamespace

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import windrow
from cached_model import cached_model
from corpus_files import (
    COUNT,
    ROWS,
    TEXTS,
    WINDOW,
    WRITERS,
    check,
    column,
    lines,
    read,
    texts,
    write_lines,
    write_parquet,
)
from corpus_worker import POLICY, model
from small_tokenizer import BOS
from windrow.cli import main
from windrow.corpus import Paths, score_stream

PAIRS = [(text[:9], text[9:30] or "x") for text in TEXTS]


@pytest.fixture(scope="module")
def expected(tokenizer):
    return windrow.score(model(), tokenizer, TEXTS, policy=POLICY)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_matches_score(run, expected, tmp_path, name):
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
def test_runs_over_objects_resume(run, expected, name):
    options = {"tokens_column": "tokens"} if name == "tokens" else {}
    first = run(ELEMENTS[name](), **options)
    check(first.table, expected)
    (first.folder / "scores" / "00000-000002.parquet").unlink()  # as if that window's scores had been lost
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


def test_files_are_read_in_order_and_numbered_separately(run, expected, tmp_path):
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
    """Packed rows, prefix trees, and rows shared by very many segments, on two devices."""
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


def test_unbounded_models_skip_documents_longer_than_a_row(tmp_path, tokenizer, monkeypatch):
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


def free_model():
    """A model that computes nothing: all tokens are equally likely."""
    return windrow.LanguageModel(
        jnp.zeros(1),
        lambda params, tokens, *_: jnp.zeros((*tokens.shape, 258)),
        max_length=512,
        hidden=lambda params, tokens, *_: jnp.zeros((*tokens.shape, 1)),
        head=lambda params, picked: jnp.zeros((picked.shape[0], 258)),
    )


@pytest.mark.usefixtures("optimized")
def test_ten_megabyte_document(tokenizer, tmp_path):
    long = "ab cd\n" * (10_000_000 // 6)
    path = write_lines(tmp_path / "long.jsonl", [{"text": "short"}, {"text": long}, {"text": "last"}])
    policy = windrow.BatchPolicy(tokens_per_batch=1 << 15, max_shapes=1, share=False, pack=False)
    options = {"policy": policy, "sharding": Mesh(np.array(jax.devices()[:1]), ("data",)), "progress": False}
    score_stream(free_model(), tokenizer, path, tmp_path / "out", **options)
    table = read(tmp_path / "out")
    assert table["tokens"].to_pylist() == [5, len(long), 4]
    assert column(table, "log_likelihood") == pytest.approx(-np.log(258) * column(table, "tokens"))


def test_numpy_numbers_are_accepted(run, expected):
    result = run(TEXTS, window=np.int64(WINDOW), worst_tokens=np.int32(1), max_length=np.int64(32))
    check(result.table, expected)
    assert len(result.table["worst_tokens"][0].as_py()) == 1
    check(run(TEXTS, worst_tokens=1, max_length=32).table, expected)  # resumes the same run


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
def test_command_and_its_report(tmp_path, monkeypatch, capsys):
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
"""The text column of each file of real data."""


def real_files(evals, folder, pages, rows):
    """Files with the first rows of each real file, and their texts."""
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
def test_real_texts_match_rolling_perplexity(evals, tmp_path, optimized, name, pages, rows):
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
