"""The command line, as a person calls it: in a process of its own."""

import subprocess
import sys

import pytest


def windrow(*arguments, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "windrow", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_import_is_light():
    code = "import sys, windrow; print(sorted({'jax', 'grain', 'lm_eval'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result


def test_help_lists_the_commands():
    result = windrow("--help")
    assert result.returncode == 0
    for command in ("run", "demo"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--model", "windrow", "--model_args", "factory=nowhere"], "no tasks given"),
        (["run", "--model", "windrow", "--tasks", ""], "no tasks given"),
        (
            ["run", "--tasks", "x", "--include_path", "/no/such"],
            "--include_path must be a directory; '/no/such' is none",
        ),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    result = windrow(*arguments)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("windrow: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
