"""Every family in every layout, compared with lm_eval's own backend; see tests/recorded/likelihoods.py."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from lm_eval.api.instance import Instance

from parity import one_device
from windrow import JaxLM

FOLDER = Path(__file__).parent / "recorded"
sys.path.insert(0, str(FOLDER))

from family_cases import CASES, FAMILIES, RECURRENT  # noqa: E402
from letters import requests, write_tokenizer  # noqa: E402
from random_weights import write_checkpoint  # noqa: E402

SHAPES = json.loads((FOLDER / "families.json").read_text())
RECORDED = json.loads((FOLDER / "likelihoods.json").read_text())
LAYOUTS = {
    "plain rows": {"share": False, "pack": False},
    "packed": {"share": False, "pack": True},
    "prefix trees": {"share": "trees"},
    "forked states": {"share": "forks", "batch_size": 16},
    "chunks": {"share": False, "pack": False, "chunk_length": 32},
}


def written(name, folder):
    """A folder with the checkpoint of this name and its tokenizer."""
    write_checkpoint(folder, CASES[name], SHAPES[name])
    write_tokenizer(folder)
    return str(folder)


def log_likelihoods(folder, layout):
    """Each request's log-likelihood and greedy flag; ``None`` for trees without ``reach``."""
    lm = JaxLM(pretrained=folder, max_shapes=2, mesh=one_device(), **LAYOUTS[layout])
    if layout == "prefix trees" and not lm.model.takes_reach:
        return None
    pairs = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(requests())]
    return lm.loglikelihood(pairs)


def difference(found, recorded):
    """The largest difference in log-likelihoods; fails if it is too large, or if a flag differs."""
    assert [greedy for _, greedy in found] == [greedy for _, greedy in recorded]
    found, recorded = (np.array([score for score, _ in results]) for results in (found, recorded))
    np.testing.assert_allclose(found, recorded, rtol=1e-5, atol=1e-3)
    return np.abs(found - recorded).max()


def test_every_model_type_is_recorded():
    assert list(RECORDED) == [*FAMILIES, *RECURRENT]
    assert {len(results) for results in RECORDED.values()} == {len(requests())}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("optimized")
@pytest.mark.filterwarnings("ignore:.*okenizer:UserWarning")  # Qwen2's class replaces parts of the tokenizer
@pytest.mark.parametrize("name", RECORDED)
def test_log_likelihoods_match_lm_eval(name, tmp_path):
    folder = written(name, tmp_path / "model")
    found = {layout: log_likelihoods(folder, layout) for layout in LAYOUTS}
    assert (found["prefix trees"] is None) == (name in RECURRENT)
    for results in found.values():
        if results is not None:
            difference(results, RECORDED[name])
