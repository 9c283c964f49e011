"""``windrow report``: prints and draws what a run did."""

import argparse
from pathlib import Path
from typing import Any

HELP = "print and draw what a run did"


def add_to(commands: Any) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser("report", help=HELP, description=f"{HELP[0].upper()}{HELP[1:]}.")
    parser.add_argument(
        "place",
        metavar="RESULT_DIR",
        help="where --output_path said, or a windrow_report_*.json; the newest counts",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="where the picture goes (default: beside the report)"
    )


def execute(options: argparse.Namespace) -> int:
    """Prints the newest report, and draws it."""
    from windrow.report.files import find_reports, read_report
    from windrow.report.run import summary
    from windrow.report.run_picture import draw_run

    if options.plot is not None and options.plot.suffix != ".svg":
        raise ValueError(f"--plot writes SVG; give a name that ends in .svg, not {str(options.plot)!r}")
    reports = find_reports(options.place)
    report = read_report(reports[-1])
    print(summary(report))
    picture = options.plot or reports[-1].with_suffix(".svg")
    picture.write_text(draw_run(report), encoding="utf-8")
    others = f", the newest of {len(reports)}" if len(reports) > 1 else ""
    print(f"\n{reports[-1]}{others}\n{picture}")
    return 0
