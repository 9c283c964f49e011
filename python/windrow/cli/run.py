"""``windrow run``: lm_eval's command line with the model type ``windrow``.

:mod:`windrow.cli.repairs` changes some of its defaults. If several processes were
launched, they connect to each other first.
"""

import argparse
import io
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from threading import Thread
from time import perf_counter
from typing import Any

from tqdm import tqdm

from windrow.cli.endings import Ending

COMMIT_SECONDS = 2.0
"""How long to wait for the last results to be written after Ctrl-C."""

HELP = "evaluate a model on tasks: lm_eval's command line, with windrow's model type"


def execute(arguments: list[str], ending: Ending) -> int:
    """Runs one process: connects to the others, if any, and exits immediately on an error."""
    begin = perf_counter()
    given, arguments = _own_options().parse_known_args(arguments)
    if "-h" in arguments or "--help" in arguments:
        return _print_help()
    from windrow.cli.repairs import read_settings

    import_from_here()
    settings = read_settings(arguments)
    if not any(settings["tasks"]):
        raise ValueError(
            "no tasks given; name them with --tasks, and the directory of your own with --include_path"
        )
    from windrow.scoring import keep_on_disk
    from windrow.sharding.launch import Launch, leaving_at_once

    keep_on_disk()
    resume = given.__dict__.pop("resume")
    launch = Launch(**vars(given))
    with leaving_at_once():
        if launch.start():
            _check_same_command(settings, resume)
        _evaluate(settings, arguments, resume, ending, begin)
    return 0


def _check_same_command(settings: Mapping[str, Any], resume: str | None) -> None:
    """Raises the same error on every process if they would not make the same calls to the model."""
    from windrow.sharding import check_agreement

    options = {"--use_cache": settings["use_cache"], "--resume": resume}
    given = {name: "given" if value else "not given" for name, value in options.items()}
    check_agreement([], {"--tasks": ",".join(settings["tasks"]), **given}, call="windrow run")


def _print_help() -> int:
    from lm_eval.__main__ import cli_evaluate

    from windrow.cli.run_help import run_help

    harness, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    with _called(["--help"], {}), redirect_stdout(harness), suppress(SystemExit):
        cli_evaluate()
    os.environ.pop("COLUMNS")
    if columns is not None:
        os.environ["COLUMNS"] = columns
    print(run_help(_own_options().format_help(), harness.getvalue()))
    return 0


def _evaluate(
    settings: dict[str, Any], arguments: list[str], resume: str | None, ending: Ending, begin: float
) -> None:
    """Runs lm_eval's command line with windrow's defaults; then prints the run's report."""
    import lm_eval.models  # noqa: F401  before windrow's harness, so that lm_eval's own models register
    from lm_eval.__main__ import cli_evaluate

    from windrow.cli.output import Output
    from windrow.cli.repairs import keep_tokenizers_parallel, repaired, task_manager
    from windrow.cli.tasks import checked
    from windrow.harness.listeners import listening
    from windrow.report.run import make_report, summary
    from windrow.sharding import is_first_host

    models: list[Any] = []

    def say_farewell() -> str:
        if output is not None:
            output.discard_if_empty()
        return farewell(models, settings["use_cache"], resume)

    words = repaired(settings, arguments)
    manager = checked(task_manager(settings), settings["tasks"])
    output = Output(settings["output_path"]) if settings["output_path"] and is_first_host() else None
    ending.farewell = say_farewell
    with (
        output or nullcontext(),
        _called(words if output is None else [*words, *output.words], {"TaskManager": manager}),
        _no_forks(),
        keep_tokenizers_parallel() as keep,
        listening(lambda _: keep()),
        listening(models.append),
        listening(lambda model: None if resume is None else model.keep_results(resume)),
    ):
        cli_evaluate()
    if not is_first_host():
        return
    report = None
    if models:
        report = make_report(models[-1].report(), models[-1].source, perf_counter() - begin, arguments)
        print(summary(report))
    if output is not None:
        print("", *output.deliver(report), sep="\n")


def import_from_here() -> None:
    """Makes modules in the current directory importable, for factories.

    The directory comes last, so a file such as ``datasets.py`` does not shadow an installed package.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@contextmanager
def _no_forks() -> Iterator[None]:
    """Makes lm_eval's bootstrap use a fork server; forking a process with JAX's threads may deadlock."""
    chosen: Any = multiprocessing.get_start_method(allow_none=True)
    tqdm.get_lock()  # with another start method, its semaphore would leak after Ctrl-C
    if chosen is None and "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("forkserver", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(chosen, force=True)


@contextmanager
def _called(arguments: list[str], names: Mapping[str, Any]) -> Iterator[None]:
    """Sets ``sys.argv`` to these arguments and replaces these names in lm_eval's task package."""
    import lm_eval.tasks

    words, before = sys.argv, {name: getattr(lm_eval.tasks, name) for name in names}
    sys.argv = ["windrow", "run", *arguments]
    try:
        for name, value in names.items():
            setattr(lm_eval.tasks, name, value)
        yield
    finally:
        sys.argv = words
        for name, value in before.items():
            setattr(lm_eval.tasks, name, value)


def farewell(models: list[Any], cache: str | None, resume: str | None = None) -> str:
    """The message after Ctrl-C: whether results were saved, where they are, and how to resume."""
    if not models:
        return "interrupted before anything ran"
    if resume is not None:
        return f"interrupted; the results so far are in {resume}. Run the same command again to resume"
    if cache is None:
        return (
            "interrupted; no results were saved. Use --resume FOLDER to save results, and run the same "
            "command again to resume"
        )
    last = "" if _committed(models[-1].cache_hook) else ", perhaps without the last ones"
    return (
        f"interrupted; the results so far are in {cache}_rank*.db{last}. Run the same command again to resume"
    )


def _committed(cache_hook: Any) -> bool:
    """Commits the results in lm_eval's cache; returns whether that was done in time.

    It may never be: Ctrl-C may have stopped the main thread inside ``queue.Queue.put``, where it holds the
    lock for which the thread that writes the file waits.
    """
    store = getattr(cache_hook, "dbdict", None)
    if store is None:
        return True
    commit = Thread(target=store.commit, name="windrow-commit", daemon=True)
    commit.start()
    commit.join(COMMIT_SECONDS)
    return not commit.is_alive()


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="windrow run",
        usage="windrow run --model_args pretrained=DIR|factory=MODULE:FUNCTION --tasks TASK,... [options]",
        description="Evaluate a JAX model on lm_eval tasks. Accepts all of lm_eval's options. Processes "
        "launched by Slurm, Open MPI or on a Cloud TPU pod find each other.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        help="save results to FOLDER as soon as they are computed; run the same command again to resume, on "
        "any number of devices and processes",
    )
    add_hosts(parser)
    return parser


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the options that let processes find each other."""
    hosts = parser.add_argument_group("multiple processes, launched by hand")
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    hosts.add_argument("--process-count", type=int, metavar="N", help="number of processes")
    hosts.add_argument("--process-id", type=int, metavar="I", help="number of this process, from 0")
    hosts.add_argument(
        "--heartbeat-timeout",
        type=int,
        default=argparse.SUPPRESS,
        metavar="SECONDS",
        help="how long a process may be silent before it is considered dead (default: 60)",
    )
