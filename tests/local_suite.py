"""The 38,003 ``loglikelihood`` requests of the local tasks, as lm_eval builds them."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

EVALS = Path(__file__).resolve().parents[2] / "shared" / "evals"


def read_local_suite(
    evals: Path = EVALS, names: Sequence[str] = ("local_suite",), limit: int | None = None
) -> list:
    """The requests of some tasks, up to ``limit`` documents each; all tasks take about twenty seconds."""
    from lm_eval.tasks import TaskManager, get_task_dict

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = get_task_dict(list(names), manager)
    requests = []
    for task in _tasks(tasks):
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        requests += [request for request in task.instances if request.request_type == "loglikelihood"]
    return requests


def state_of(evals: Path = EVALS) -> list[tuple[str, int, int]]:
    """Identifies the state of the tasks and their data by files, sizes and times."""
    files = sorted(file for folder in ("tasks", "data") for file in (evals / folder).iterdir())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


def _tasks(tasks: dict):
    for task in tasks.values():
        yield from _tasks(task) if isinstance(task, dict) else [task]
