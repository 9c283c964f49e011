"""``windrow plan``: its figures compared with a naive recount."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
from lm_eval.api.instance import Instance

from command import TESTS, need_pillow, windrow, windrow_here
from exhaustive import exhaustive
from local_suite import read_local_suite
from task_files import write_tasks
from windrow.cli.plan import length_limit
from windrow.cli.tasks import requests_of
from windrow.harness import JaxLM
from windrow.report.plan_picture import WIDTH
from windrow.report.planned import PlannedRequests, compare
from windrow.report.rivals import Cost
from windrow.report.svg import LIGHT
from windrow.sizing.policy import BatchPolicy
from windrow.tokens import Segments, TokenReport, load_tokenizer


def inputs_of(tokenizer, pairs, limit):
    """The input of each request, encoded one at a time by the ``tokenizers`` package.

    GPT-2's tokenizer adds no special tokens, and no request here has an empty context.
    """
    encode = cache(lambda text: tokenizer.encode(text).ids)
    seen, cut = [], 0
    for context, continuation in pairs:
        stripped = context.rstrip()
        moved = context[len(stripped) :]
        context_tokens = encode(stripped)
        whole = encode(stripped + moved + continuation)
        tokens = whole[:-1]
        assert context_tokens
        if limit is not None and len(whole) > limit + 1:
            tokens = whole[-(limit + 1) :][:-1]
            cut += 1
        seen.append((tuple(whole[:-1]), tuple(tokens)))
    return seen, cut


def recount(seen, lengths, rows):
    """The plan's figures, recounted from its padded lengths: longest first, equal inputs once."""
    distinct = sorted({truncated for _, truncated in seen}, key=len, reverse=True)
    batches = []
    position = 0
    while position < len(distinct):
        padded = min(length for length in lengths if length >= len(distinct[position]))
        batches.append((padded, distinct[position : position + rows]))
        position += rows
    shapes = {}
    for padded, inputs in batches:
        shape = shapes.setdefault(padded, {"rows": rows, "length": padded, "batches": 0, "padding": 0})
        shape["batches"] += 1
        shape["padding"] += rows * padded - sum(len(one) for one in inputs)
    return {
        "rows": len(distinct),
        "filler_rows": len(batches) * rows - len(distinct),
        "batches": len(batches),
        "shapes": list(shapes.values()),
        "tokens": {
            "real": sum(len(truncated) for _, truncated in seen),
            "rows": sum(map(len, distinct)),
            "padding": sum(shape["padding"] for shape in shapes.values()),
            "device": sum(rows * padded for padded, _ in batches),
        },
    }


def trie_size(inputs):
    """The number of distinct prefixes of the inputs."""
    children = {}
    for tokens in inputs:
        node = 0
        for token in tokens:
            node = children.setdefault((node, token), len(children) + 1)
    return len(children)


def costs_of_rivals(seen, rows):
    """Device tokens and shapes of each rival, batch by batch.

    lm_eval's own backend takes one request of each group whose inputs are equal before truncation.
    """
    lengths = [len(truncated) for _, truncated in seen]
    costs = {}
    distinct = {whole: len(truncated) for whole, truncated in seen}
    for name, order in (("arrival_order", lengths), ("lm_eval", sorted(distinct.values(), reverse=True))):
        batches = [order[begin : begin + rows] for begin in range(0, len(order), rows)]
        costs[name] = (
            sum(len(batch) * max(batch) for batch in batches),
            len({(len(batch), max(batch)) for batch in batches}),
        )
    order = sorted(lengths, reverse=True)
    padded = [-(-order[begin] // 128) * 128 for begin in range(0, len(order), rows)]
    costs["reference"] = (sum(rows * length for length in padded), len(set(padded)))
    return costs


SUITE = ("local_suite", None)


@pytest.fixture(scope="module", params=[("local_openbook_qa,local_boolq", 300), exhaustive(SUITE)], ids=str)
def local(request):
    """Task names, and the number of documents of each (``None``: all)."""
    return request.param


whole_suite = pytest.mark.parametrize("local", [exhaustive(SUITE)], indirect=True, ids=str)


@pytest.fixture(scope="module")
def local_plan(evals, local, tmp_path_factory):
    """``windrow plan`` on these tasks: its output, JSON and plot."""
    folder, (tasks, limit) = tmp_path_factory.mktemp("plan"), local
    result = windrow_here(
        *("plan", "--tasks", tasks, "--tokenizer", evals / "parity" / "tiny-gpt2"),
        *("--include_path", evals / "tasks", "--batch-size", 64, *(("--limit", limit) if limit else ())),
        *("--json", folder / "plan.json", "--plot", folder / "plan.svg"),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads((folder / "plan.json").read_text()), (folder / "plan.svg").read_text()


@pytest.fixture(scope="module")
def local_inputs(evals, local, request):
    """The input of each request of these tasks, and the number of truncated ones."""
    import tokenizers

    tasks, limit = local
    if local == SUITE:
        requests = request.getfixturevalue("local_suite")
        assert len(requests) == 38_003
    else:
        requests = read_local_suite(evals, tasks.split(","), limit)
    tokenizer = tokenizers.Tokenizer.from_file(str(evals / "parity" / "tiny-gpt2" / "tokenizer.json"))
    return inputs_of(tokenizer, [request.args for request in requests], 512)


def test_figures_match_a_recount(local_inputs, local_plan):
    printed, report, _ = local_plan
    seen, cut = local_inputs
    (figures,) = report["scored"]
    chosen = [shape["length"] for shape in figures["shapes"]]
    expected = recount(seen, chosen, 64)
    assert {name: figures[name] for name in expected} == expected
    assert len(chosen) <= 8
    assert (figures["requests"], figures["segments"], figures["skipped"]) == (len(seen), len(seen), 0)
    assert figures["truncated"] == cut > 0
    assert figures["shared"] == len(seen) - expected["rows"]
    assert figures["shifted_reads"] == 0

    costs = {cost["name"]: cost for cost in report["compared"]}
    lengths = [len(truncated) for _, truncated in seen]
    real, ours = sum(lengths), expected["tokens"]["device"]
    for name, (tokens, shapes) in costs_of_rivals(seen, 64).items():
        cost = costs[name]
        assert (cost["device_tokens"], cost["shapes"]) == (tokens, shapes)
        assert cost["per_real_token"] == pytest.approx(tokens / real)
        assert cost["saved"] == pytest.approx(1 - ours / tokens)
        counted = 1 - (ours + 8192 * len(chosen)) / (tokens + 8192 * shapes)
        assert cost["saved_with_compilations"] == pytest.approx(counted)
        assert f"{tokens:,}" in printed
    assert f"{ours:,} on the device" in printed


def test_tree_figures_match_a_recount(local_inputs, local_plan):
    printed, report, picture = local_plan
    seen, _ = local_inputs
    real = sum(len(truncated) for _, truncated in seen)
    distinct = {truncated for _, truncated in seen}
    needed = trie_size(distinct)
    (figures,) = report["scored"]
    trees = figures["trees"]
    equal = real - sum(map(len, distinct))
    assert trees["saved"] == {"equal_inputs": equal, "shared_prefixes": real - equal - needed}
    tokens = trees["tokens"]
    assert tokens["tree"] == needed
    assert tokens["device"] == needed + tokens["repeated"] + tokens["padding"]
    assert tokens["device"] == sum(
        shape["rows"] * shape["length"] * shape["batches"] for shape in trees["shapes"]
    )
    assert trees["batches"] == sum(shape["batches"] for shape in trees["shapes"])
    assert tokens["repeated"] >= 0
    (cost,) = (cost for cost in report["compared"] if cost["name"] == "trees")
    assert (cost["device_tokens"], cost["shapes"]) == (tokens["device"], len(trees["shapes"]))
    for count in (equal, real - equal - needed):
        assert f"{count:,}" in printed
        assert f"({count:,})" in picture
    assert f"({needed:,})" in picture
    assert f"{tokens['device']:,} tokens on the device" in printed


def test_fork_figures_match_a_recount(local_inputs, local_plan):
    printed, report, _ = local_plan
    seen, _ = local_inputs
    distinct = {truncated for _, truncated in seen}
    (figures,) = report["scored"]
    forked = figures["forks"]["device_tokens"]
    assert forked > trie_size(distinct)
    (cost,) = (cost for cost in report["compared"] if cost["name"] == "forks")
    assert (cost["device_tokens"], cost["shapes"]) == (forked, len(figures["forks"]["shapes"]))
    assert f"for models that have step: {forked:,} tokens on the device" in printed


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
def test_planned_forks_match_a_run(evals, tmp_path):
    """The command's figures, compared with a run of a recurrent model with ``share="forks"``."""
    task, model, tasks = "local_mmlu_anatomy", evals / "parity" / "tiny-mamba", str(evals / "tasks")
    words = ["plan", "--tasks", task, "--include_path", tasks, "--num_fewshot", 5, "--limit", 20]
    words += [
        "--tokenizer",
        model,
        "--tokens_per_batch",
        8192,
        "--devices",
        8,
        "--json",
        tmp_path / "plan.json",
    ]
    assert windrow_here(*words).returncode == 0
    tokenizer = load_tokenizer(str(model))
    requests = requests_of([task], tokenizer, include_path=tasks, num_fewshot=5, limit=20)["loglikelihood"]
    lm = JaxLM(pretrained=str(model), share="forks", tokens_per_batch=8192)
    lm.loglikelihood([Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(requests)])
    (figures,) = json.loads((tmp_path / "plan.json").read_text())["scored"]
    assert figures["forks"]["device_tokens"] == lm.report()["device_tokens"]


def test_trees_are_planned_only_where_inputs_may_share(evals, tmp_path):
    words = ["plan", "--tasks", "choices", "--include_path", write_tasks(tmp_path)]
    words += ["--tokenizer", evals / "parity" / "tiny-llama", "--json", tmp_path / "plan.json"]
    for option, planned in (("--share", True), ("--no-share", False), ("--pack", False)):
        assert windrow_here(*words, option).returncode == 0
        report = json.loads((tmp_path / "plan.json").read_text())
        assert (report["scored"][0]["trees"] is not None) == planned
        assert [cost["name"] for cost in report["compared"]] == [
            "plan", *["trees", "forks"] * planned, "arrival_order", "lm_eval", "reference"
        ]  # fmt: skip


def test_rolling_windows_share_only_within_a_batch():
    """As in lm_eval's own backend: windows in their original order, a fixed number at a time."""
    firsts = np.array([0, 0, 2, 3, 0])
    planned = planned_lengths([4, 4, 6, 5, 4], batch_size=2)
    rolling = replace(planned, request_type="loglikelihood_rolling", firsts=firsts)
    assert rolling.rivals["lm_eval"] == Cost(1 * 4 + 2 * 6 + 1 * 4, frozenset({(1, 4), (2, 6)}))
    pairs = replace(planned, firsts=firsts)
    assert pairs.rivals["lm_eval"] == Cost(2 * 6 + 1 * 4, frozenset({(2, 6), (1, 4)}))


@whole_suite
def test_suite_needs_few_device_tokens(local_plan):
    _, report, _ = local_plan
    (figures,) = report["scored"]
    assert figures["tokens"]["device"] / figures["tokens"]["real"] <= 0.92
    assert figures["tokens"]["padding"] / figures["tokens"]["device"] < 0.2
    tokens = figures["trees"]["tokens"]
    assert tokens["repeated"] < 0.09 * tokens["tree"]
    assert tokens["device"] <= 0.545 * figures["tokens"]["real"]


def test_plot_is_valid_svg_and_shows_the_figures(local_plan):
    _, report, picture = local_plan
    root = ElementTree.fromstring(picture)
    words = "\n".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    (figures,) = report["scored"]
    for shape in figures["shapes"]:
        assert f"64×{shape['length']}" in words
    for cost in report["compared"]:
        assert f"{cost['device_tokens']:,}" in words
    assert "prefers-color-scheme: dark" in picture
    assert len(picture) < 150_000


def test_plan_needs_no_jax(tmp_path, evals):
    tasks = write_tasks(tmp_path)
    words = [
        "plan",
        "--tasks",
        "own",
        "--include_path",
        tasks,
        "--tokenizer",
        evals / "parity" / "tiny-llama",
    ]
    code = (
        "import sys; sys.modules['jax'] = None\nfrom windrow.cli import main\n"
        f"status = main({list(map(str, words))})\n"
        "print('STATUS', status, [name for name in sys.modules if name.startswith('jax.')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS)
    assert result.stdout.splitlines()[-1] == "STATUS 0 []", result.stderr
    assert "generate_until: 12 requests" in result.stdout
    assert "at most 48 new tokens" in result.stdout
    assert "at most 256 tokens per row (from " in result.stdout


@pytest.mark.exhaustive
def test_plan_matches_a_run(evals, tmp_path):
    """The same tasks, planned and then run in plain rows: shapes, batches and tokens agree."""
    model = evals / "parity" / "tiny-llama"
    words = ("--tasks", "local_piqa,local_wikitext2", "--include_path", evals / "tasks", "--limit", 4)
    options = ("--tokens-per-batch", 2048, "--json", tmp_path / "plan.json")
    planned = windrow_here("plan", *words, "--tokenizer", model, *options)
    assert planned.returncode == 0, planned.stderr
    arguments = f"pretrained={model},tokens_per_batch=2048,share=equal,pack=False"
    ran = windrow(
        "run", *words, "--model_args", arguments, "--output_path", tmp_path / "out", JAX_NUM_CPU_DEVICES="1"
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads((tmp_path / "plan.json").read_text())
    run_report = json.loads(next((tmp_path / "out").rglob("windrow_report_*.json")).read_text())
    for name in ("segments", "shared", "truncated", "rows", "batches"):
        assert sum(figures[name] for figures in report["scored"]) == run_report[name], name
    for name, count in run_report["tokens"].items():
        assert sum(figures["tokens"][name] for figures in report["scored"]) == count, name
    shapes = [[shape["rows"], shape["length"]] for figures in report["scored"] for shape in figures["shapes"]]
    assert sorted(map(tuple, shapes)) == sorted(map(tuple, run_report["shapes"]))


def planned_lengths(lengths, **policy):
    """Requests of these lengths, all with different inputs."""
    lengths = np.array(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    tokens = np.arange(offsets[-1], dtype=np.int32)
    segments = Segments(
        tokens, offsets, lengths.astype(np.int32), np.arange(len(lengths)), len(lengths),
        np.zeros(0, np.int64), TokenReport(len(lengths), len(lengths), len(tokens), 0, 0),
    )  # fmt: skip
    return PlannedRequests.of("loglikelihood", segments, segments, BatchPolicy(**policy), 1)


def test_row_lengths_and_padding():
    planned = planned_lengths([7, 3, 5, 2], batch_size=2, max_shapes=None)
    assert planned.row_lengths.tolist() == [[7, 7], [5, 7], [3, 3], [2, 3]]
    assert [shape["padding"] for shape in planned.figures()["shapes"]] == [2, 1]


def test_packed_rows_end_with_their_last_segment():
    planned = planned_lengths([6, 3, 3], batch_size=2, max_shapes=1, pack=True)
    assert planned.row_lengths.tolist() == [[6, 6], [6, 6]]
    assert planned.figures()["tokens"] == {"real": 12, "rows": 12, "padding": 0, "device": 12}


def test_rivals_get_as_many_rows_as_fit():
    planned = planned_lengths([10, 4, 4, 4], tokens_per_batch=35)
    assert planned.rival_rows == 3
    costs = {cost["name"]: cost["device_tokens"] for cost in compare([planned])}
    assert list(costs) == ["plan", "trees", "forks", "arrival_order", "lm_eval", "reference"]
    assert costs["arrival_order"] == 3 * 10 + 4


def test_length_limit_comes_from_the_most_specific_source(evals, tmp_path):
    source = str(evals / "parity" / "tiny-gpt2")
    tokenizer = load_tokenizer(source)
    assert length_limit(None, source, tokenizer)[0] == 512 == JaxLM(pretrained=source).max_length
    assert length_limit(None, f"{source}/tokenizer.json", tokenizer)[0] == 512
    assert length_limit("17", source, tokenizer) == (17, "from --max_length")
    assert length_limit("unbounded", source, tokenizer)[0] is None
    with pytest.raises(
        ValueError, match="--max_length must be a whole number of at least 1 or unbounded, not '0'"
    ):
        length_limit("0", source, tokenizer)

    class Unlimited:
        model_max_length = None

    assert length_limit(None, str(tmp_path), Unlimited())[0] == 2048


def test_equal_inputs_share_a_row_by_default(evals, tmp_path):
    words = ["plan", "--tasks", "choices", "--include_path", write_tasks(tmp_path)]
    words += ["--tokenizer", evals / "parity" / "tiny-llama", "--json", tmp_path / "plan.json"]
    shared = {}
    for option in ("--share", "--no-share"):
        assert windrow_here(*words, option).returncode == 0
        (figures,) = json.loads((tmp_path / "plan.json").read_text())["scored"]
        shared[option] = (figures["shared"], figures["rows"])
    assert shared == {"--share": (12, 12), "--no-share": (0, 24)}


def test_plot_as_png(evals, tmp_path):
    need_pillow()
    from PIL import Image, ImageColor

    words = ["plan", "--tasks", "choices", "--include_path", write_tasks(tmp_path)]
    words += ["--tokenizer", evals / "parity" / "tiny-llama", "--plot", tmp_path / "plan.png"]
    result = windrow_here(*words)
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "plan.png") as image:
        assert image.format == "PNG"
        assert image.width == 2 * WIDTH
        colors = {color for _, color in image.getcolors(2**24)}
    assert {ImageColor.getrgb(LIGHT[name]) for name in ("real", "shared", "padding", "ink")} <= colors
