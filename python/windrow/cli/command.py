"""Parses the command line, runs the command, and turns errors into one-line messages."""

import argparse
import gc
import sys
from collections.abc import Callable, Sequence

from windrow.cli import ls, plan, report, run, score
from windrow.cli.endings import Ending
from windrow.warning import warn_in_one_line

Command = Callable[[argparse.Namespace], int]

YOUNG_OBJECTS = 50_000
"""How many objects Python makes before it looks for garbage among them. Imports and traces make many that
live long; with Python's 700, looking through them takes a tenth of a short run."""

DESCRIPTION = "Evaluate JAX language models on lm-evaluation-harness tasks."

EXAMPLES = """\
examples:
  windrow demo
  windrow ls 'arc*'
  windrow run --model_args factory=my_module:make_model --tasks arc_easy --limit 100
  windrow score --model_args factory=my_module:make_model --input 'corpus/*.jsonl' --output scores
  windrow plan --tasks arc_easy --tokenizer gpt2

windrow COMMAND --help lists a command's options. The guide is in docs/ of the repository."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    A user error ends with one line on standard error and status 2. Ctrl-C ends with
    status 130; on the console (``arguments`` is ``None``), the process exits immediately.

    Args:
        arguments: The arguments after ``windrow``; by default those of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    ending = Ending(owns_process=arguments is None)
    if ending.owns_process:
        gc.set_threshold(YOUNG_OBJECTS)
        warn_in_one_line()
    try:
        return _command(words, ending)
    except KeyboardInterrupt:
        return ending.interrupted()
    except Exception as error:
        return ending.failed(error)


def _command(words: list[str], ending: Ending) -> int:
    parser, commands = _parser()
    if words[:1] == ["run"]:
        with ending.at_once():
            return run.execute(words[1:], ending)
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return 2
    if options.command == "score":
        ending.farewell = lambda: score.farewell(options)
    with ending.at_once():
        return commands[options.command](options)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    from windrow import __version__

    parser = argparse.ArgumentParser(
        prog="windrow",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"windrow {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", add_help=False, help=run.HELP)
    score.add_to(commands)
    plan.add_to(commands)
    report.add_to(commands)
    ls.add_to(commands)
    commands.add_parser(
        "demo",
        help="train a tiny model and evaluate it (needs no network)",
        description="Train a tiny model on made-up stories, evaluate it with lm_eval, and show what batching "
        "saved. Takes about a minute on two idle cores, and needs no network.",
    )
    parts = {"score": score, "plan": plan, "report": report, "ls": ls}
    return parser, {**{name: part.execute for name, part in parts.items()}, "demo": _demo}


def _demo(_: argparse.Namespace) -> int:
    from windrow.demo import run as demo

    return demo()
