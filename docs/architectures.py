"""Writes the table of architectures in support.md by running each of them.

    python docs/architectures.py [MODEL_TYPE...]

Loads a random checkpoint of every model type, scores requests in each layout, and compares the
log-likelihoods with those recorded from lm_eval's Hugging Face backend (tests/recorded/likelihoods.py).
Given model types, it prints their lines and leaves the page as it is.
"""

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from test_models_likelihoods import (  # noqa: E402
    CASES,
    LAYOUTS,
    RECORDED,
    difference,
    log_likelihoods,
    written,
)

BEGIN, END = "<!-- made by architectures.py -->\n", "<!-- end -->\n"


def line(name):
    """A line of the table: the largest difference in each layout."""
    cells = [f"`{CASES[name]['model_type']}`"]
    with tempfile.TemporaryDirectory() as directory:
        folder = written(name, Path(directory))
        for layout in LAYOUTS:
            found = log_likelihoods(folder, layout)
            cells.append("no" if found is None else f"{difference(found, RECORDED[name]):.0e}")
    return f"| {' | '.join(cells)} |"


def main(kinds):
    lines = [f"| {' | '.join(['`model_type`', *LAYOUTS])} |", "| --- " * (1 + len(LAYOUTS)) + "|"]
    for name in RECORDED:
        if not kinds or CASES[name]["model_type"] in kinds:
            lines.append(line(name))
            print(lines[-1], flush=True)
    if not kinds:
        page = DOCS / "support.md"
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main(sys.argv[1:])
