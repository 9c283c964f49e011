"""Every family and many settings beside what transformers gives: see tests/recorded/families.py."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windrow.models import load

FOLDER = Path(__file__).parent / "recorded"
sys.path.insert(0, str(FOLDER))

from family_cases import CASES  # noqa: E402
from random_weights import LENGTHS, PICKED, rows, write_checkpoint  # noqa: E402

SHAPES = json.loads((FOLDER / "families.json").read_text())
LOGITS = np.load(FOLDER / "families.npz")
UNLIKE = 0.05
"""How far logits are moved by a setting that counts, and more."""


@pytest.fixture
def model(tmp_path, request):
    name = request.param
    write_checkpoint(tmp_path / "model", CASES[name], SHAPES[name])
    limit = max(LENGTHS) if CASES[name].get("max_position_embeddings") else "unbounded"
    return name, load(tmp_path / "model", max_length=limit)


def packed(vocab):
    """The recorded rows behind each other in one row, with padding at its end."""
    texts = rows(vocab)
    tokens, positions, segment_ids = np.zeros((3, 1, sum(LENGTHS) + 7), np.int32)
    at, places = 0, []
    for number, text in enumerate(texts, 1):
        here = slice(at, at + len(text))
        tokens[0, here], positions[0, here], segment_ids[0, here] = text, np.arange(len(text)), number
        places += [at + place for place in PICKED if place < len(text)]
        at = here.stop
    return (tokens, positions, segment_ids), places


@pytest.mark.parametrize("model", CASES, indirect=True)
def test_logits_are_those_of_transformers(model):
    name, model = model
    batch, places = packed(CASES[name]["vocab_size"])
    found = np.asarray(jax.jit(model.apply)(model.params, *map(jnp.asarray, batch)))[0, places]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LOGITS[name], rtol=0, atol=1e-4)


def test_every_setting_counts():
    """No two recordings of a family are alike, so none could pass for another."""
    for name in CASES:
        assert np.std(LOGITS[name]) > 10 * UNLIKE, name
        alike = [
            other for other in CASES if other < name and np.abs(LOGITS[other] - LOGITS[name]).max() < UNLIKE
        ]
        assert not alike, (name, alike)
