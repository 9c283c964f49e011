"""Writes the table of architectures in support.md by running each of them.

    python docs/architectures.py

Runs the recorded checkpoint of every model type (tests/recorded) packed, as a tree and in
steps, and compares the logits with those recorded from transformers.
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests"
sys.path[:0] = [str(TESTS / "recorded"), str(TESTS)]

from family_cases import CASES  # noqa: E402
from random_weights import LENGTHS, PICKED, write_checkpoint  # noqa: E402

from test_models_recorded import (  # noqa: E402
    FAMILIES,
    LOGITS,
    RECURRENT,
    SHAPES,
    by_steps,
    packed,
    tree,
)
from windrow.models import load  # noqa: E402

BEGIN, END = "<!-- made by architectures.py -->\n", "<!-- end -->\n"


def differences(name):
    """The largest difference of logits from transformers': packed, as a tree, in steps."""
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(Path(directory), CASES[name], SHAPES[name])
        model = load(directory, max_length=max(LENGTHS))
    batch, places = packed(CASES[name]["vocab_size"])
    found = [np.asarray(jax.jit(model.apply)(model.params, *map(jnp.asarray, batch)))[0, places]]
    found.append(tree(model, CASES[name]["vocab_size"]) if model.takes_reach else None)
    found.append(by_steps(model, batch, places))
    wanted = [LOGITS[name], LOGITS[name][: len(PICKED)], LOGITS[name]]
    pairs = zip(found, wanted, strict=True)
    return [None if one is None else np.abs(one - other).max() for one, other in pairs]


def table():
    """The table, a line for each model type."""
    lines = ["| `model_type` | packed | prefix trees | in steps |", "| --- | --- | --- | --- |"]
    for name in FAMILIES + RECURRENT:
        gaps = ["no" if gap is None else f"{gap:.0e}" for gap in differences(name)]
        lines.append(f"| `{CASES[name]['model_type']}` | {' | '.join(gaps)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main():
    page, made = DOCS / "support.md", table()
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + made + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
