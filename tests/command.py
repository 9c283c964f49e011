"""``windrow`` as a person calls it: in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def windrow(*arguments, timeout=180, folder=None, **variables):
    """Runs a command to its end; output and errors are text."""
    return subprocess.run(
        [sys.executable, "-m", "windrow", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), **variables},
    )


def is_one_line(result) -> bool:
    """Whether a command ended in one line that says what is wrong, and with status 2."""
    last = result.stderr.strip().splitlines()[-1]
    return result.returncode == 2 and last.startswith("windrow: ") and "Traceback" not in result.stderr


def need_pillow():
    if not find_spec("PIL"):
        pytest.skip("needs Pillow; pip install 'windrow[png]' brings it")
