"""``windrow run``: lm_eval's own command line with the model type ``windrow``.

What that command line does by itself and would spoil a run is undone: see
:mod:`windrow.cli.repairs`. Where several processes were launched, it joins them first.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any

from windrow.cli.endings import Ending

HELP = "evaluate a model: lm_eval's command line, with --model windrow"


def execute(arguments: list[str], ending: Ending) -> int:
    """One process's part of a run: joins the others where there are any, and leaves at once on an error."""
    begin = perf_counter()
    given, arguments = _launch_options().parse_known_args(arguments)
    if "-h" in arguments or "--help" in arguments:
        return _help(arguments)
    from windrow.cli.repairs import read_settings

    settings = read_settings(arguments)
    if not any(settings["tasks"]):
        raise ValueError(
            "no tasks given; name some with --tasks, and their folder with --include_path if it is yours"
        )
    from windrow.sharding.launch import Launch, leaving_at_once

    launch = Launch(**vars(given))
    with leaving_at_once():
        launch.start()
        _evaluate(settings, arguments, ending, begin)
    return 0


def _help(arguments: list[str]) -> int:
    from lm_eval.__main__ import cli_evaluate

    print(_launch_options().format_help(), flush=True)
    with _called(arguments, {}):
        cli_evaluate()
    return 0


def _evaluate(settings: dict[str, Any], arguments: list[str], ending: Ending, begin: float) -> None:
    """lm_eval's command line, repaired; then the run's report."""
    import lm_eval.models  # noqa: F401  before windrow's harness: lm_eval's own models vanish otherwise
    from lm_eval.__main__ import cli_evaluate

    from windrow.cli.output import Output
    from windrow.cli.repairs import keep_tokenizers_parallel, repaired, task_manager
    from windrow.harness.made import telling
    from windrow.report.run import make_report, summary
    from windrow.sharding import is_first_host

    models: list[Any] = []
    ending.farewell = lambda: farewell(models, settings["use_cache"])
    output = Output(settings["output_path"]) if settings["output_path"] and is_first_host() else None
    words = repaired(settings, arguments)
    with (
        output or nullcontext(),
        _called(
            words if output is None else [*words, *output.words], {"TaskManager": task_manager(settings)}
        ),
        keep_tokenizers_parallel() as keep,
        telling(lambda _: keep()),
        telling(models.append),
    ):
        cli_evaluate()
    if not is_first_host():
        return
    told = None
    if models:
        told = make_report(models[-1].report(), models[-1].source, perf_counter() - begin, arguments)
        print(summary(told))
    if output is not None:
        print("", *output.deliver(told), sep="\n")


@contextmanager
def _called(arguments: list[str], names: Mapping[str, Any]) -> Iterator[None]:
    """As if lm_eval had been called with these arguments, and its task room had these names."""
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


def farewell(models: list[Any], cache: str | None) -> str:
    """What is said after Ctrl-C: how much is done, where it is, how to go on."""
    if not models:
        return "interrupted before anything ran"
    if cache is None:
        return "interrupted; nothing is kept. With --use_cache FILE results are, and the same command goes on"
    store = getattr(models[-1].cache_hook, "dbdict", None)
    if store is not None:
        store.commit()
    return f"interrupted; the results so far are in {cache}_rank*.db. The same command goes on from there"


def _launch_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="windrow run",
        usage="windrow run [options of windrow] [options of lm_eval]",
        description="lm_eval's command line; --model is windrow unless another is named. "
        "A Slurm step, a Cloud TPU pod or Open MPI is joined by itself.",
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
