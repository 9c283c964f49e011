"""Runs lm_eval on the demo's own tasks, without its log output."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

TASKS = Path(__file__).parent / "tasks"
"""The directory of task files; files added there run as well."""


def evaluate(lm: LM) -> dict[str, Any]:
    """Runs every task in the directory; returns the result of ``lm_eval.simple_evaluate``."""
    tasks = task_manager()
    results: dict[str, Any] = simple_evaluate(model=lm, tasks=tasks.all_subtasks, task_manager=tasks)
    return results


def task_manager() -> TaskManager:
    """A task manager with only the demo's tasks."""
    return TaskManager(include_path=TASKS, include_defaults=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses progress bars, log lines and the output of child processes.

    If what runs inside fails, its output is printed after all.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as captured:
        sys.stderr.flush()
        screen = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            with redirect_stdout(captured), redirect_stderr(captured):
                yield
        except BaseException:
            captured.seek(0)
            os.dup2(screen, 2)
            sys.stderr.write(captured.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
