"""Builds the requests of lm_eval tasks as ``windrow run`` gets them, but without a model."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from windrow.admission import did_you_mean
from windrow.cli.repairs import task_manager

FEWSHOT_SEED = 1234
"""lm_eval's default, so that the few-shot examples are the same as in a run."""


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
    """The arguments of all requests by request type, in the order in which lm_eval passes them.

    Args:
        tasks: Names of tasks and groups, or patterns.
        tokenizer: The tokenizer, for its chat template.
        include_path: A directory of task files.
        limit: The number of documents per task, or the fraction if below 1.
        num_fewshot: The number of few-shot examples; by default each task's own.
        apply_chat_template: Whether to format prompts with the chat template.
        system_instruction: The system prompt.

    Raises:
        ValueError: A task cannot be found.
    """
    from lm_eval.evaluator_utils import get_sample_size

    names = [part for task in tasks for part in task.split(",") if part]
    manager = task_manager({"include_path": include_path, "tasks": names})(include_path=include_path)
    if not names:
        raise ValueError("no tasks given; name them with --tasks (windrow ls lists all tasks)")
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
    """Rejects names that match no task, group, tag, task file or directory.

    Raises:
        ValueError: A name matches nothing; the message names the first one, and similar names.
    """
    for name in names:
        if not manager.match_tasks([name]) and not name.endswith(".yaml") and not Path(name).is_dir():
            near = did_you_mean(name, manager.all_tasks)
            raise ValueError(f"unknown task {name!r}{near or ';'} windrow ls lists all tasks")


def checked(make: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """Wraps ``make`` to reject a task manager that lacks any of these tasks."""

    def manager(*arguments: Any, **keywords: Any) -> Any:
        made = make(*arguments, **keywords)
        require_tasks(made, names)
        return made

    return manager
