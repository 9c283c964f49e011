"""The 38,003 ``loglikelihood`` requests of the local tasks, as lm_eval builds them."""

import logging
from pathlib import Path

EVALS = Path(__file__).resolve().parents[2] / "shared" / "evals"


def read_local_suite(evals: Path = EVALS) -> list:
    """All requests of ``local_suite``; takes some twenty seconds."""
    from lm_eval.tasks import TaskManager, get_task_dict

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(evals / "tasks"), include_defaults=False)
    requests = []
    for task in _tasks(get_task_dict(["local_suite"], manager)):
        task.build_all_requests(limit=None, rank=0, world_size=1)
        requests += [request for request in task.instances if request.request_type == "loglikelihood"]
    return requests


def state_of(evals: Path = EVALS) -> list[tuple[str, int, int]]:
    """What tells whether the tasks or their data have changed: their files, sizes and times."""
    files = sorted(file for folder in ("tasks", "data") for file in (evals / folder).iterdir())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


def _tasks(tasks: dict):
    for task in tasks.values():
        yield from _tasks(task) if isinstance(task, dict) else [task]
