"""The command line: help, error messages, and which modules it imports."""

import re
import subprocess
import sys
import traceback
import warnings
from importlib.metadata import entry_points

import pytest

from command import is_one_line, windrow, windrow_here
from task_files import write_tasks
from windrow.cli.endings import message_of
from windrow.cli.run_help import WORDS
from windrow.warning import warn, warn_in_one_line

HEAVY = "{'jax', 'grain', 'lm_eval', 'numpy', 'tokenizers', 'windrow._rust'}"


def loaded_by(code):
    code = f"import sys\n{code}\nprint('LOADED', sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("words", ["--help", "--version", "plan --help", "report --help", "ls --help"])
def test_help_imports_no_heavy_modules(words):
    code = f"from windrow.cli import main\ntry: main({words.split()})\nexcept SystemExit: pass"
    assert loaded_by(code) == "LOADED []"


def test_import_loads_no_heavy_modules():
    assert loaded_by("import windrow") == "LOADED []"


def test_help_lists_the_commands():
    result = windrow("--help")
    assert result.returncode == 0
    for command in ("run", "plan", "report", "ls", "demo"):
        assert command in result.stdout


def test_run_help_lists_options_of_windrow_and_lm_eval():
    result = windrow_here("run", "--help")
    assert result.returncode == 0
    for option in ("--coordinator", "--include_path", "--log_samples", "--use_cache"):
        assert option in result.stdout


def test_run_help_mentions_only_windrow():
    shown = windrow_here("run", "--help", COLUMNS="100").stdout
    assert shown.startswith("usage: windrow run ")
    assert "model type (default: windrow)" in shown
    assert "(default: auto)" in shown
    assert "windrow run --model_args factory=" in shown
    for others in ("default: hf", "default: 1)", "lm-eval", "gpt-j", "vllm", "$ "):
        assert others not in shown, others
    assert max(map(len, shown.splitlines())) <= 120


def test_run_help_has_every_lm_eval_option():
    code = "from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    theirs = subprocess.run([sys.executable, "-c", code, "run", "--help"], capture_output=True, text=True)
    options = set(re.findall(r"^  (--\w+)", theirs.stdout, re.MULTILINE))
    assert len(options) > 25
    shown = set(re.findall(r"^  (--\w+)", windrow_here("run", "--help").stdout, re.MULTILINE))
    assert options <= shown
    assert {option for option in WORDS if option not in options} == set()


def test_tasks_are_listed(tmp_path):
    result = windrow_here("ls", "--include_path", write_tasks(tmp_path))
    assert result.returncode == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["choices", "task"],
        ["mixed", "group"],
        ["nested", "group"],
        ["own", "group"],
        ["texts", "task"],
    ]
    some = windrow_here("ls", "*e*s", "own", "--include_path", tmp_path / "tasks")
    assert [line.split()[0] for line in some.stdout.splitlines()] == ["choices", "own", "texts"]
    lm_evals = windrow_here("ls", "arc_*", "mmlu")
    assert {"arc_easy", "mmlu"} <= {line.split()[0] for line in lm_evals.stdout.splitlines()}


@pytest.mark.exhaustive
def test_all_lm_eval_tasks_are_listed():
    listed = windrow("ls")
    assert {"arc_easy", "hellaswag", "mmlu"} <= {line.split()[0] for line in listed.stdout.splitlines()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--model", "windrow", "--model_args", "factory=nowhere"], "no tasks given"),
        (["run", "--model", "windrow", "--tasks", ""], "no tasks given"),
        (
            ["run", "--tasks", "x", "--include_path", "/no/such"],
            "--include_path must be a directory; '/no/such' is not",
        ),
        (["run", "--tasks", "choices", "--config", "/no/such.yaml"], "Config file not found: /no/such.yaml"),
        (["run", "--tasks", "choices", "--model_args", "{broken"], "--model_args must be name=value"),
        (
            ["run", "--tasks", "nothing", "--include_path", "TASKS"],
            "unknown task 'nothing'; windrow ls lists all tasks",
        ),
        (
            ["run", "--tasks", "choises", "--include_path", "TASKS"],
            "unknown task 'choises'; did you mean 'choices'?",
        ),
        (["ls", "choises", "--include_path", "TASKS"], "nothing matches 'choises'; did you mean 'choices'?"),
        (["ls", "--include_path", "/no/such"], "--include_path must be a directory"),
        (
            ["run", "--tasks", "choices", "--include_path", "TASKS", "--model_args", "pretrained=/no/such"],
            "pretrained must be a directory in the Hugging Face format, or a name on the Hub; "
            "'/no/such' is not a directory",
        ),
        (
            ["run", "--tasks", "choices", "--include_path", "TASKS", "--model_args", "pretrain=x"],
            "unknown model argument 'pretrain'; did you mean 'pretrained'?",
        ),
        (
            ["run", "--model", "nobody", "--tasks", "choices", "--include_path", "TASKS"],
            "no model for this name found",
        ),
        (["run", "--tasks", "choices", "--coordinator", "here:1"], "give --coordinator, --process-count"),
        (
            ["plan", "--tasks", "x", "--tokenizer", "/no/such/file"],
            "is not a tokenizer.json, a directory with one",
        ),
        (
            ["plan", "--tasks", "x", "--tokenizer", "y", "--max-shapes", "0"],
            "--max_shapes must be at least 1",
        ),
        (
            ["plan", "--tasks", "x", "--tokenizer", "y", "--plot", "z.pdf"],
            "the name must end in .svg or .png, not 'z.pdf'",
        ),
        (
            ["plan", "--tasks", "x", "--tokenizer", "y", "--json", "/no/such/z"],
            "directory does not exist",
        ),
        (["plan", "--tasks", "x", "--tokenizer", "y", "--limit", "0"], "--limit must be above 0"),
        (
            ["plan", "--tasks", "x", "--tokenizer", "y", "--batch-size", "9", "--devices", "8"],
            "must be a multiple of --devices, 8",
        ),
        (["report", "/no/such"], "no windrow_report_*.json found in '/no/such'"),
    ],
)
def test_mistakes_print_one_line(arguments, message, tmp_path):
    tasks = write_tasks(tmp_path)
    result = windrow_here(*[tasks if word == "TASKS" else word for word in arguments])
    assert is_one_line(result), result.stderr
    assert message in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["plan"], ["report"], ["run", "--tasks", "x", "--limit", "y"]]
)
def test_invalid_arguments_show_usage(arguments):
    result = windrow_here(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr
    assert "error:" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_error_in_the_callers_code_is_located(tmp_path):
    tasks = write_tasks(tmp_path)
    words = ["run", "--model_args", "factory=byte_model:make_broken", "--include_path", tasks]
    result = windrow_here(*words, "--tasks", "choices")
    assert is_one_line(result), result.stderr
    assert "no such parameter" in result.stderr.splitlines()[-1]
    assert "byte_model.py, line" in result.stderr.splitlines()[-1]
    shown = windrow_here(*words, "--tasks", "choices", WINDROW_TRACEBACK="1")
    assert "Traceback" in shown.stderr


def test_error_messages():
    assert message_of(ValueError("a is 3; it must be 4")) == "a is 3; it must be 4"
    assert message_of(KeyError("no such task")) == "no such task"
    assert message_of(RuntimeError("RESOURCE_EXHAUSTED: 3 GB")).startswith(
        "RuntimeError: RESOURCE_EXHAUSTED: 3 GB; use smaller batches"
    )
    assert message_of(AssertionError()) == "AssertionError"
    with pytest.raises(ValueError, match="own") as caught:
        exec(compile("raise ValueError('own')", __file__, "exec"))
    assert traceback.extract_tb(caught.tb)
    assert f"({__file__}, line 1" in message_of(caught.value)


def test_entry_point_matches_the_registered_class():
    """lm_eval registers a plug-in's entry point as a placeholder; the decorated class must match it."""
    (entry,) = entry_points(group="lm_eval.models", name="windrow")
    code = (
        "import lm_eval.models; from lm_eval.api.registry import get_model, model_registry\n"
        f"model_registry.register('windrow', target={entry.value!r})\n"
        "model = get_model('windrow'); print(model.__module__, model.__name__, 'hf' in model_registry)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split() == ["windrow.harness.lm", "JaxLM", "True"], result.stderr


def test_warnings_are_one_line_without_source(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    warn_in_one_line()
    with pytest.warns(UserWarning, match="a careful note"):
        warn("a careful note")
    shown = [
        warnings.formatwarning(UserWarning(message), UserWarning, __file__, 1)
        for message in ("a careful note", "another's note")
    ]
    assert shown[0] == "windrow: warning: a careful note\n"
    assert "UserWarning: another's note" in shown[1]


def test_command_prints_warnings_on_one_line():
    code = (
        "import sys; sys.argv = ['windrow', 'ls', 'x']; from windrow.cli import ls, main; "
        "from windrow.warning import warn; ls.execute = lambda _: warn('a careful note') or 0; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == "windrow: warning: a careful note\n"
