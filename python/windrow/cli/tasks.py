"""Requests of lm_eval tasks as ``windrow run`` would meet them, without a model."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from windrow.cli.repairs import task_manager

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
    missing = [name for name in names if not manager.match_tasks([name])]
    if missing or not names:
        raise ValueError(
            f"no such tasks: {', '.join(missing) or '(none given)'}; lm_eval ls tasks lists those it knows"
        )
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
