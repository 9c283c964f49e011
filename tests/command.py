"""Runs ``windrow`` commands in a separate process, or in this one where that makes no difference."""

import io
import logging
import os
import subprocess
import sys
import warnings
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest
from lm_eval.tasks._index import TaskIndex

import own_tasks
from windrow.cli import main

TESTS = Path(__file__).parent


def windrow(*arguments, timeout=600, folder=None, **variables):
    """Runs a command in a separate process; its output and errors are text."""
    return subprocess.run(
        [sys.executable, "-m", "windrow", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), **variables},
    )


def windrow_here(*arguments, folder=None, **variables):
    """Runs a command in this process, which has already loaded and compiled most of what it needs.

    JAX has the eight devices of the tests. Changes that the command makes to the process are undone.
    """
    words, output, errors = list(map(str, arguments)), io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        for context in (
            patch.dict(os.environ, variables),
            patch.object(sys, "path", list(sys.path)),
            patch.object(TaskIndex, "build", staticmethod(own_tasks.index)),
            chdir(folder or "."),
            redirect_stdout(output),
            redirect_stderr(errors),
            _logging_to(errors),
            warnings.catch_warnings(),
        ):
            stack.enter_context(context)
        warnings.simplefilter("default")
        warnings.showwarning = _print_warning
        try:
            status = main(words)
        except SystemExit as ended:
            status = ended.code or 0
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def _print_warning(message, category, *place):
    print(warnings.formatwarning(message, category, *place[:2]), file=sys.stderr)


@contextmanager
def _logging_to(errors):
    """Sends lm_eval's log to a file, as its command does the first time in a process."""
    logger = logging.getLogger("lm_eval")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [logging.StreamHandler(errors)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])


def is_one_line(result) -> bool:
    """Whether a command exited with status 2 and one line that says what is wrong."""
    last = result.stderr.strip().splitlines()[-1]
    return result.returncode == 2 and last.startswith("windrow: ") and "Traceback" not in result.stderr


def need_pillow():
    if not find_spec("PIL"):
        pytest.skip("needs Pillow; pip install 'windrow[png]' brings it")
