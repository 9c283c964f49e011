"""``windrow run``: what it writes, and the defaults of lm_eval that it replaces."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)

from command import TESTS, is_one_line, windrow_here
from exhaustive import exhaustive
from task_files import write_tasks
from windrow.cli.repairs import keep_tokenizers_parallel, read_settings, repaired, task_manager
from windrow.report.files import find_reports, read_report

BYTES = "factory=byte_model:make,prefix_token_id=0"


def run(folder, *more, model=BYTES, tasks="choices", documents=12, **variables):
    """Runs a byte-level model; writes the tasks into the folder first, if they are missing."""
    place = folder / "tasks" if (folder / "tasks").is_dir() else write_tasks(folder, documents)
    result = windrow_here(
        *("run", "--model_args", model, "--include_path", place, "--tasks", tasks, *more),
        folder=folder,
        **variables,
    )
    assert result.returncode == 0, result.stderr
    return result


def results_of(folder):
    """The newest results file of lm_eval in a folder: its contents and path."""
    path = max(folder.rglob("results_*.json"), key=lambda path: path.name)
    return json.loads(path.read_text()), path


@pytest.mark.parametrize("limit", [4, exhaustive(20)])
def test_output_is_readable_by_lm_eval_tools(evals, tmp_path, limit):
    result = windrow_here(
        *("run", "--model", "windrow", "--model_args", f"pretrained={evals}/parity/tiny-llama"),
        *("--include_path", evals / "tasks", "--tasks", "local_arc_easy,local_gsm8k"),
        *("--limit", limit, "--output_path", tmp_path, "--log_samples"),
    )
    assert result.returncode == 0, result.stderr
    results, path = results_of(tmp_path)
    files = [str(file) for file in path.parent.iterdir()]
    assert get_results_filenames(files) == [str(path)]
    samples = get_sample_results_filenames(files)
    assert sorted(get_file_task_name(Path(file).name) for file in samples) == [
        "local_arc_easy",
        "local_gsm8k",
    ]
    assert {get_file_datetime(file) for file in samples} == {path.stem.split("_")[-1]}
    assert make_table(results) in result.stdout
    for file in samples:
        read = datasets.load_dataset(
            "json", data_files=file, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert len(read) == limit
        assert {"doc_id", "arguments", "resps", "filtered_resps", "target"} <= set(read.column_names)
    config = results["config"]
    assert (config["model"], config["batch_size"], config["device"]) == ("windrow", "auto", "cpu")
    assert config["model_num_parameters"] > 1e6

    (report_path,) = find_reports(tmp_path)
    assert report_path.parent == path.parent
    assert report_path.stem.removeprefix("windrow_report_") == path.stem.removeprefix("results_")
    report = read_report(report_path)
    assert report["requests"] == 4 * limit + limit
    assert report["generation"]["requests"] == limit
    assert str(report_path) in result.stdout


def test_report_adds_up(tmp_path):
    result = run(tmp_path, "--output_path", "out", tasks="own", model=BYTES + ",pack=False")
    report = read_report(find_reports(tmp_path / "out")[0])
    seconds, tokens = report["seconds"], report["tokens"]
    parts = [value for name, value in seconds.items() if name != "total"]
    assert sum(parts) == pytest.approx(seconds["total"])
    assert min(parts) >= 0
    assert seconds["compile"] > 0
    assert seconds["device"] > 0
    assert tokens["rows"] + tokens["padding"] == tokens["device"]
    # Each choice is a space and one byte, so a document's two requests have the same input and share a row.
    lengths = [len("x" * (number % 50 + 1) + str(number) + " ") for number in range(12)]
    assert tokens["real"] == 2 * sum(lengths)
    assert tokens["rows"] == sum(lengths)
    assert (report["segments"], report["shared"], report["rows"]) == (24, 12, 12)
    assert report["generation"]["generated_tokens"] <= 12 * 4
    for words in ("12 deduplicated", ", host 0.", f"{tokens['real']:,} real"):
        assert words in result.stdout


def test_factory_names_its_results_folder(tmp_path):
    run(tmp_path, "--output_path", "out")
    run(tmp_path, "--output_path", "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["byte_model__make"]
    assert len(find_reports(tmp_path / "out")) == 2
    results, _ = results_of(tmp_path / "out")
    assert results["model_name"] == "byte_model:make"


def test_output_path_may_be_a_file(tmp_path):
    run(tmp_path, "--output_path", "out/results.json", "--log_samples")
    names = sorted(path.name.split("_2")[0] for path in (tmp_path / "out").iterdir())
    assert names == ["results", "samples_choices", "windrow_report"]
    dates = {path.stem.split("_")[-1] for path in (tmp_path / "out").iterdir()}
    assert len(dates) == 1


def test_tokenizers_stay_parallel(tmp_path):
    record = tmp_path / "record.txt"
    model = "factory=byte_model:make_recording,prefix_token_id=0"
    run(tmp_path, model=model, RECORD=str(record))
    assert record.read_text() == "None"
    run(tmp_path, model=model, RECORD=str(record), TOKENIZERS_PARALLELISM="false")
    assert record.read_text() == "false"


def test_tokenizers_parallelism_is_restored(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    with keep_tokenizers_parallel() as keep:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
        keep()

        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_cached_results_are_reused(tmp_path):
    words = ("--use_cache", tmp_path / "kept", "--output_path", "out")
    run(tmp_path, *words, tasks="own")
    stored = sqlite3.connect(tmp_path / "kept_rank0.db").execute("select count(*) from unnamed")
    assert stored.fetchone() == (24 + 12,)
    again = run(tmp_path, *words, tasks="own")
    assert "Cached requests: 24, Requests remaining: 0" in again.stderr
    first, second = (read_report(path) for path in find_reports(tmp_path / "out"))
    assert (first["requests"], second["requests"]) == (36, 0)
    tables = [json.loads(path.read_text())["results"] for path in (tmp_path / "out").rglob("results_*.json")]
    assert tables[0] == tables[1]


def test_cache_of_another_model_is_refused(tmp_path):
    words = ("--use_cache", tmp_path / "kept", "--trust_remote_code")
    run(tmp_path, *words)
    result = windrow_here(
        *("run", "--model_args", "factory=byte_model:make,prefix_token_id=1"),
        *("--include_path", tmp_path / "tasks", "--tasks", "choices", *words),
        folder=tmp_path,
    )
    assert is_one_line(result), result.stderr
    assert (
        "kept_rank0.db does not match this run (different tokenizer); choose another with use_cache"
        in result.stderr
    )


def test_predict_only_writes_samples_without_metrics(tmp_path):
    run(tmp_path, "--predict_only", "--output_path", "out", tasks="own")
    results, path = results_of(tmp_path / "out")
    assert len(list(path.parent.glob("samples_*.jsonl"))) == 2
    assert not any(name.startswith("acc") for name in results["results"]["choices"])


def test_chat_templates_are_applied(evals, tmp_path):
    source = evals / "parity" / "tiny-llama"
    model = tmp_path / "model"
    model.mkdir()
    for file in source.iterdir():
        (model / file.name).symlink_to(file.resolve())
    template = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<answer>"
    (model / "chat_template.jinja").write_text(template)
    words = ("--apply_chat_template", "--system_instruction", "Be brief.", "--log_samples")
    run(tmp_path, *words, "--output_path", "out", model=f"pretrained={model}")
    results, path = results_of(tmp_path / "out")
    assert results["chat_template"] == template
    sample = json.loads(next(path.parent.glob("samples_*")).read_text().splitlines()[0])
    assert sample["arguments"]["gen_args_0"]["arg_0"] == "<system>Be brief.<user>x0<answer>"


def test_relative_model_path_does_not_hide_the_results_folder(evals, tmp_path):
    (tmp_path / "inner").mkdir()
    write_tasks(tmp_path)
    (tmp_path / "model").symlink_to(evals / "parity" / "tiny-llama")
    words = ("--include_path", "../tasks", "--tasks", "choices", "--output_path", "../out")
    result = windrow_here("run", "--model_args", "pretrained=../model", *words, folder=tmp_path / "inner")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "out").iterdir()
    assert not folder.name.startswith(".")
    assert folder.name.endswith("model")


def test_config_file_supplies_missing_options(tmp_path):
    tasks = write_tasks(tmp_path)
    (tmp_path / "run.yaml").write_text(
        f"model: windrow\nmodel_args: {{factory: 'byte_model:make', prefix_token_id: 0}}\ntasks: [choices]\n"
        f"include_path: {tasks}\noutput_path: {tmp_path}/out\n"
    )
    result = windrow_here("run", "--config", "run.yaml", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    results, path = results_of(tmp_path / "out")
    assert path.parent.name == "byte_model__make"
    assert results["config"]["batch_size"] == "auto"
    assert results["config"]["model_args"]["prefix_token_id"] == 0


def settings_of(*words):
    return read_settings(list(map(str, words)))


def added(*words):
    """The options that windrow adds to lm_eval's arguments."""
    more = repaired(settings_of(*words), list(words))[len(words) :]
    return dict(zip(more[::2], more[1::2], strict=True))


def test_only_missing_options_are_added():
    assert added("--tasks", "x") == {"--model": "windrow", "--batch_size": "auto", "--device": "cpu"}
    assert added("--model", "windrow", "-b", "4", "--device", "tpu") == {}
    assert added("--model", "hf", "--model_args", "factory=a:b") == {}
    everything = ("-M", "windrow", "-b", "4", "--device", "tpu", "--model_args")
    assert added(*everything, "factory=a:b,seed=1") == {"--model_args": '{"model": "a:b"}'}
    assert added(*everything, '{"factory": "a:b"}') == {"--model_args": '{"model": "a:b"}'}
    assert added(*everything, "factory=a:b", "model=c:d") == {}
    assert added(*everything, "pretrained=/some/where") == {}
    assert added(*everything, "pretrained=.") == {"--model_args": json.dumps({"pretrained": os.getcwd()})}


@pytest.mark.parametrize(
    ("tasks", "alone"),
    [
        ("choices", True),
        ("choices,texts", True),
        ("own", True),
        ("nested", True),
        ("mixed", False),  # a group that contains one of lm_eval's own tasks
        ("choices,arc_easy", False),
        ("choice*", False),  # may match lm_eval's own tasks too
        ("arc_easy", False),
    ],
)
def test_lm_eval_tasks_are_read_only_when_needed(tmp_path, tasks, alone):
    folder = write_tasks(tmp_path)
    manager = task_manager(settings_of("--tasks", tasks, "--include_path", folder))
    assert (manager is not TaskManager) == alone
    if alone:
        assert manager(include_path=folder).match_tasks(tasks.split(",")) == sorted(tasks.split(","))


def test_lm_eval_tasks_are_read_without_include_path():
    assert task_manager(settings_of("--tasks", "x")) is TaskManager


PERPLEXITY = "metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]\n"


def write_perplexities(tasks):
    """A task whose metric lm_eval bootstraps."""
    task = (tasks / "choices.yaml").read_text().replace("task: choices", "task: perplexities")
    task = task.replace("multiple_choice", "loglikelihood").replace("doc_to_target: 0", "doc_to_target: ' a'")
    (tasks / "perplexities.yaml").write_text(task.replace('doc_to_choice: ["a", "b"]\n', PERPLEXITY))


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A run of the installed script in a separate process: its result, and its working directory."""
    folder = tmp_path_factory.mktemp("process")
    (folder / "my_module.py").write_text("from byte_model import make as make_model\n")
    (folder / "datasets.py").write_text("raise ImportError('not this one')\n")
    write_perplexities(write_tasks(folder))
    script = Path(sys.executable).with_name("windrow")
    words = ["--include_path", folder / "tasks", "--tasks", "choices,perplexities"]
    variables = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    result = subprocess.run(
        [script, "run", "--model_args", "factory=my_module:make_model,prefix_token_id=0", *words],
        cwd=folder,
        env={**variables, "PYTHONPATH": str(TESTS), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result, folder


def test_factory_may_be_in_the_working_directory(process):
    """For an installed script, ``sys.path[0]`` is the script's folder, not the working directory."""
    result, _ = process
    assert "my_module:make_model" in result.stdout


def test_compiled_programs_are_cached(process):
    _, folder = process
    assert list((folder / "cache" / "windrow" / "programs").glob("jit_score_batch*"))


def test_bootstrap_does_not_fork(process):
    result, _ = process
    assert "bootstrapping for stddev" in result.stdout
    assert "os.fork()" not in result.stderr


LM_EVAL_COMMAND = """
import runpy, sys
from lm_eval.tasks._index import TaskIndex
import own_tasks
TaskIndex.build = staticmethod(own_tasks.index)  # the real index takes ten seconds
assert "lm_eval.models" not in sys.modules
if __name__ == "__main__":
    runpy.run_path("lm_eval_jax.py", run_name="__main__")
"""


def test_documented_workaround_without_plug_ins(tmp_path):
    """The guide's script for lm_eval's own command, where lm_eval does not load plug-ins."""
    page = (TESTS.parent / "docs" / "command-line.md").read_text()
    code = page.partition("## lm_eval's own command")[2].partition("```text\n")[2].partition("```")[0]
    (tmp_path / "lm_eval_jax.py").write_text(code)
    (tmp_path / "lm_eval_command.py").write_text(LM_EVAL_COMMAND)
    words = ["--model", "windrow", "--model_args", BYTES, "--tasks", "choices"]
    result = subprocess.run(
        [sys.executable, "lm_eval_command.py", "run", *words, "--include_path", write_tasks(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    assert "|choices|" in result.stdout
