"""A small checkpoint with random weights of every model type that ``pretrained=`` loads."""

import json
import sys
from pathlib import Path

from windrow.models import load

FOLDER = Path(__file__).parent / "recorded"
sys.path.insert(0, str(FOLDER))

from family_cases import CASES, FAMILIES, RECURRENT  # noqa: E402
from random_weights import write_checkpoint  # noqa: E402

SHAPES = json.loads((FOLDER / "families.json").read_text())
NAMES = [*FAMILIES, *RECURRENT]
ONE_OF_EACH = ("llama, biases", "mistral", "gpt2", "mamba")
"""One model for each kind of state and positions, for tests that are too slow to run with all."""

VOCAB = 61


def bundled(name, folder, **options):
    """The model with this name, written to a folder and loaded."""
    write_checkpoint(folder / "model", CASES[name], SHAPES[name])
    return load(folder / "model", **options)
