"""Requests of lm_eval tasks as ``windrow run`` would meet them, without a model."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from windrow.cli.repairs import task_manager
from windrow.names import did_you_mean

FEWSHOT_SEED = 1234
"""lm_eval's own default, so that the examples are those of a run."""


def requests_of(
    tasks: Sequence[str],
    tokenizer: Any,
    *,
    include_path: str | None = None,
    limit: float | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
) -> dict[str, list[tuple[Any, ...]]]:
    """The arguments of all requests by request type, in the order in which lm_eval hands them over.

    Args:
        tasks: Names of tasks and groups, or patterns.
        tokenizer: Renders chats, where asked for.
        include_path: A folder of task files.
        limit: At most so many documents of each task, or what part of them below 1.
        num_fewshot: How many examples; each task's own number by default.
        apply_chat_template: Whether prompts become chats.
        system_instruction: What stands before them.

    Raises:
        ValueError: A task cannot be found.
    """
    from lm_eval.evaluator_utils import get_sample_size

    names = [part for task in tasks for part in task.split(",") if part]
    manager = task_manager({"include_path": include_path, "tasks": names})(include_path=include_path)
    if not names:
        raise ValueError("no tasks given; name some with --tasks, windrow ls lists them")
    require_tasks(manager, names)
    requests: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for task in manager.load(manager.match_tasks(names))["tasks"].values():
        own = task.get_config("num_fewshot")
        if own is None or (num_fewshot is not None and own != 0):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        task.build_all_requests(
            limit=get_sample_size(task, limit),
            rank=0,
            world_size=1,
            apply_chat_template=apply_chat_template,
            fewshot_as_multiturn=apply_chat_template,
            system_instruction=system_instruction,
            chat_template=tokenizer.apply_chat_template if apply_chat_template else None,
            tokenizer_name=tokenizer.name,
        )
        for request in task.instances:
            requests[request.request_type] += [request.args] * request.repeats
    return dict(requests)


def require_tasks(manager: Any, names: Sequence[str]) -> None:
    """Refuses names that are neither tasks nor patterns of some, nor files or directories of tasks.

    Raises:
        ValueError: Names the first one, and those nearest to it.
    """
    for name in names:
        if not manager.match_tasks([name]) and not name.endswith(".yaml") and not Path(name).is_dir():
            near = did_you_mean(name, manager.all_tasks)
            raise ValueError(f"unknown task {name!r}{near or ';'} windrow ls lists the tasks")


def checked(make: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Makes task managers as ``make`` does, and refuses one that lacks a task of these."""

    def manager(*arguments: Any, **keywords: Any) -> Any:
        made = make(*arguments, **keywords)
        require_tasks(made, names)
        return made

    return manager
