"""The command line: ``windrow run``, ``windrow demo``.

``run`` is lm_eval's own command line with the model type ``windrow`` registered
beside lm_eval's models. Where several processes were launched, it joins them first.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    A mistake of the caller's ends in one line on standard error and status 2.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments[:1])
    try:
        if options.command == "run":
            return _run(arguments[1:] + rest)
        parser.parse_args(arguments)
        if options.command == "demo":
            from windrow.demo import run

            return run()
    except (ValueError, TypeError, OSError) as error:
        print(f"windrow: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("windrow: interrupted", file=sys.stderr)
        return 130
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    from windrow import __version__

    parser = argparse.ArgumentParser(
        prog="windrow", description="Evaluate JAX language models on lm-evaluation-harness tasks."
    )
    parser.add_argument("--version", action="version", version=f"windrow {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", add_help=False, help="lm_eval's command line, with --model windrow")
    commands.add_parser("demo", help="train a tiny model, evaluate it, show the tables (needs no network)")
    return parser


def _run(arguments: list[str]) -> int:
    """One process's part of a run: joins the others where there are any, and leaves at once on an error."""
    parser = _launch_options()
    given, arguments = parser.parse_known_args(arguments)
    helping = "-h" in arguments or "--help" in arguments
    options = _run_options().parse_known_args(arguments)[0]
    if helping:
        print(parser.format_help(), end="\n", flush=True)
    elif not (any(options.tasks) or options.config):
        raise ValueError(
            "no tasks given; name some with --tasks, and their folder with --include_path if it is yours"
        )
    from windrow.sharding.launch import Launch, leaving_at_once

    launch = Launch(**vars(given))
    with leaving_at_once():
        if not helping:
            launch.start()
        return _evaluate(options, arguments)


def _evaluate(options: argparse.Namespace, arguments: list[str]) -> int:
    """lm_eval's command line, with what it does by itself that would spoil a run undone."""
    import lm_eval.models  # before windrow's harness: lm_eval's own models vanish otherwise
    import lm_eval.tasks
    from lm_eval.__main__ import cli_evaluate

    import windrow.harness  # noqa: F401  registers the model type

    if options.batch_size is None and options.config is None:
        # lm_eval would pass 1 as if it had been asked for.
        arguments = [*arguments, "--batch_size", "auto"]
    if options.include_path and _are_all_in(options.tasks, options.include_path):
        # Reading all default tasks takes lm_eval some ten seconds.
        lm_eval.tasks.TaskManager = partial(lm_eval.tasks.TaskManager, include_defaults=False)
    sys.argv = ["windrow", "run", *arguments]
    cli_evaluate()
    return 0


def _launch_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="windrow run",
        usage="windrow run [options of windrow] [options of lm_eval]",
        description="lm_eval's command line; a Slurm step, a Cloud TPU pod or Open MPI is joined by itself.",
        add_help=False,
        allow_abbrev=False,
    )
    hosts = parser.add_argument_group("several processes, started by hand")
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    hosts.add_argument("--process-count", type=int, metavar="N", help="how many processes there are")
    hosts.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0")
    hosts.add_argument(
        "--heartbeat-timeout",
        type=int,
        default=argparse.SUPPRESS,
        metavar="SECONDS",
        help="after how long a silent process counts as gone (default: 60)",
    )
    return parser


def _run_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--tasks", "-t", nargs="+", default=[])
    parser.add_argument("--include_path")
    parser.add_argument("--config", "-C")
    parser.add_argument("--batch_size", "-b")
    return parser


def _are_all_in(tasks: list[str], include_path: str) -> bool:
    from lm_eval.tasks import TaskManager

    if not Path(include_path).is_dir():
        raise ValueError(f"--include_path must be a directory; {include_path!r} is none")
    known = TaskManager(include_path=include_path, include_defaults=False)
    names = [name for part in tasks for name in part.split(",") if name]
    return all(known.match_tasks([name]) for name in names)
