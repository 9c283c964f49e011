"""``windrow ls``: lists tasks."""

import argparse
import logging
from fnmatch import fnmatch
from typing import Any

HELP = "list tasks, groups and tags"


def add_to(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "ls",
        help=HELP,
        description="List the tasks, groups and tags that windrow run and windrow plan accept.",
        epilog="example: windrow ls 'arc*' 'mmlu_*_tasks'",
    )
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names to list (default: all)")
    parser.add_argument(
        "--include_path", "--include-path", metavar="DIR", help="list only the tasks in this directory"
    )


def execute(options: argparse.Namespace) -> int:
    """Prints one name and its kind per line.

    Raises:
        ValueError: Nothing matches.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    from windrow.admission import did_you_mean
    from windrow.cli.repairs import require_directory

    require_directory(options.include_path)
    manager = TaskManager(include_path=options.include_path, include_defaults=options.include_path is None)
    kinds = dict.fromkeys(manager.all_subtasks, "task")
    kinds |= dict.fromkeys(manager.all_groups, "group") | dict.fromkeys(manager.all_tags, "tag")
    patterns = options.patterns or ["*"]
    found = [name for name in sorted(kinds) if any(fnmatch(name, pattern) for pattern in patterns)]
    if not found:
        near = did_you_mean(patterns[0], kinds)
        raise ValueError(f"nothing matches {', '.join(map(repr, patterns))}{near}")
    width = max(map(len, found))
    for name in found:
        print(f"{name:{width}}  {kinds[name]}")
    return 0
