"""``windrow report``: prints and plots the report of ``windrow run``, or prints that of ``windrow score``."""

import argparse
from pathlib import Path
from typing import Any

HELP = "print the report of a run, and plot it"


def add_to(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "report",
        help=HELP,
        description="Print the report of windrow run, and plot it; or print the totals and the "
        "progress of windrow score.",
    )
    parser.add_argument(
        "place",
        metavar="RESULT_DIR",
        help="the --output_path of windrow run (its newest report is used), or a windrow_report_*.json; or "
        "the --output of windrow score, even while it is running",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="write the plot to FILE.svg or FILE.png (default: next to the report)",
    )


def execute(options: argparse.Namespace) -> int:
    """Prints the newest report, and draws it."""
    from windrow.corpus import is_run
    from windrow.corpus import read_report as read_corpus
    from windrow.report.files import find_reports, read_report
    from windrow.report.pictures import require_format, save
    from windrow.report.run import summary
    from windrow.report.run_picture import draw_run

    if is_run(options.place):
        print(read_corpus(Path(options.place)))
        return 0
    if options.plot is not None:
        require_format("--plot", options.plot)
    reports = find_reports(options.place)
    report = read_report(reports[-1])
    print(summary(report))
    picture = options.plot or reports[-1].with_suffix(".svg")
    save(draw_run(report), picture)
    others = f", the newest of {len(reports)}" if len(reports) > 1 else ""
    print(f"\n{reports[-1]}{others}\n{picture}")
    return 0
