"""Changes the defaults of lm_eval's command line.

| lm_eval's default | windrow's default |
| --- | --- |
| evaluates a model of type ``hf`` | evaluates ``windrow`` |
| passes a batch size of 1 | passes ``auto``: as many tokens as fit in memory |
| records the device ``cuda:0`` | records the platform that JAX uses |
| indexes all its own tasks, for ten seconds | only indexes ``--include_path``, if all tasks are there |
| gives the results directory of a ``factory=`` model a random name | uses the factory's name |
| gives that of ``pretrained=../model`` a leading dot, which hides it | uses the absolute path |
| sets ``TOKENIZERS_PARALLELISM=false`` | leaves it unchanged |

All of these use lm_eval's own options, except for the tasks, for which its ``TaskManager`` is replaced, and
the environment variable, which is restored.
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

_VARIABLE = "TOKENIZERS_PARALLELISM"
_PATTERN = re.compile(r"[*?\[]")


def read_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings that windrow reads from a command line and its ``--config`` file; ``None`` if not given.

    Raises:
        ValueError, TypeError, FileNotFoundError: The file or the model's arguments cannot be read.
    """
    options = _options().parse_known_args(arguments)[0]
    given = {name: value for name, value in vars(options).items() if value}
    written: dict[str, Any] = {}
    if options.config is not None:
        from lm_eval.config.evaluate_config import EvaluatorConfig

        written = EvaluatorConfig.load_yaml_config(options.config)
    settings = {name: given.get(name, written.get(name)) for name in vars(options)}
    tasks = settings["tasks"] or []
    names = [tasks] if isinstance(tasks, str) else tasks
    settings["tasks"] = [part for name in names for part in str(name).split(",") if part]
    settings["model_args"] = model_arguments(settings["model_args"])
    settings["written_args"] = {} if "model_args" in given else settings["model_args"]
    return settings


def repaired(settings: dict[str, Any], arguments: list[str]) -> list[str]:
    """The arguments, plus windrow's defaults for those that are not given."""
    if settings["model"] not in (None, "windrow"):
        return arguments
    from windrow.sharding.launch import device_platform

    defaults = {"model": "windrow", "batch_size": "auto", "device": device_platform()}
    more = [word for name in defaults if settings[name] is None for word in (f"--{name}", defaults[name])]
    if named := _named(settings["model_args"]):
        # lm_eval merges several --model_args of a command line, but they replace those of the file.
        more += ["--model_args", json.dumps(settings["written_args"] | named)]
    return [*arguments, *more]


def task_manager(settings: dict[str, Any]) -> Callable[..., Any]:
    """lm_eval's ``TaskManager``, without lm_eval's own tasks if none are needed.

    Raises:
        ValueError: ``--include_path`` is not a directory.
    """
    from lm_eval.tasks import TaskManager

    folder = settings["include_path"]
    if folder is None:
        return TaskManager  # type: ignore[no-any-return]
    require_directory(folder)
    index = TaskManager(include_path=folder, include_defaults=False).task_index
    alone = all(_is_whole(name, index) for name in settings["tasks"])
    return partial(TaskManager, include_defaults=False) if alone else TaskManager


def require_directory(path: str | None) -> None:
    """Rejects an ``--include_path`` that is not a directory."""
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"--include_path must be a directory; {str(path)!r} is not")


@contextmanager
def keep_tokenizers_parallel() -> Iterator[Callable[[], None]]:
    """Yields a function that restores the variable's initial value."""
    before = os.environ.get(_VARIABLE)

    def keep() -> None:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before

    try:
        yield keep
    finally:
        keep()


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tasks", "-t", nargs="*", action="extend")
    parser.add_argument("--include_path")
    parser.add_argument("--config", "-C")
    parser.add_argument("--batch_size", "-b")
    parser.add_argument("--device")
    parser.add_argument("--model", "-M")
    parser.add_argument("--model_args", "-a", nargs="*", action="extend")
    parser.add_argument("--use_cache", "-c")
    parser.add_argument("--output_path", "-o")
    return parser


def model_arguments(given: Any) -> dict[str, Any]:
    """The model's arguments, in any form that lm_eval accepts: a mapping, JSON, or ``name=value,...``."""
    from lm_eval.utils import simple_parse_args_string

    if isinstance(given, dict):
        return given
    read: dict[str, Any] = {}
    for part in [given] if isinstance(given, str) else given or []:
        try:
            read |= json.loads(part) if part.lstrip().startswith("{") else simple_parse_args_string(part)
        except ValueError as error:
            raise ValueError(f"--model_args must be name=value,name=value or JSON, not {part!r}") from error
    return read


def _named(model: dict[str, Any]) -> dict[str, Any]:
    """The argument that gives lm_eval's results directory a good name; empty if it has one already."""
    if "factory" in model and "model" not in model:
        return {"model": model["factory"]}
    pretrained = str(model.get("pretrained", ""))
    if pretrained.startswith(".") and Path(pretrained).is_dir():
        return {"pretrained": os.path.abspath(pretrained)}
    return {}


def _is_whole(name: Any, index: dict[str, Any]) -> bool:
    """Whether the index has this task or complete group; a pattern or tag may match more elsewhere."""
    if not isinstance(name, str) or _PATTERN.search(name) or name not in index:
        return False
    config = index[name].cfg
    return config is not None and all(_is_whole(part, index) for part in _parts(config.get("task"), name))


def _parts(tasks: Any, owner: str) -> Iterable[str]:
    """The names of a group's tasks, which may include inline groups."""
    if isinstance(tasks, str):
        return () if tasks == owner else (tasks,)
    parts: list[str] = []
    for each in tasks or []:
        if isinstance(each, str):
            parts.append(each)
        elif isinstance(each.get("task"), str):
            parts.append(each["task"])
        else:
            parts += _parts(each.get("task"), owner)
    return parts
