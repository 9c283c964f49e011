"""A small model, compared with results of lm_eval's own backend, recorded by tests/recorded/record.py."""

import json
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance

from windrow import JaxLM

FOLDER = Path(__file__).parent / "recorded"
RECORDED = json.loads((FOLDER / "results.json").read_text())


@pytest.fixture(scope="module")
def lm():
    return JaxLM(pretrained=str(FOLDER / "model"))


def asked(lm, request_type):
    """The model's results and the recorded ones."""
    rows = RECORDED[request_type]
    requests = [Instance(request_type, {}, tuple(row[:-1]), index) for index, row in enumerate(rows)]
    return getattr(lm, request_type)(requests), [row[-1] for row in rows]


def test_log_likelihoods_and_greedy_flags(lm):
    found, recorded = asked(lm, "loglikelihood")
    assert len(found) > 30
    assert 5 < sum(greedy for _, greedy in recorded) < len(recorded) - 5
    assert [greedy for _, greedy in found] == [greedy for _, greedy in recorded]
    assert [score for score, _ in found] == pytest.approx(
        [score for score, _ in recorded], rel=1e-5, abs=1e-3
    )


def test_rolling_log_likelihoods(lm):
    found, recorded = asked(lm, "loglikelihood_rolling")
    assert found == pytest.approx(recorded, rel=1e-5, abs=1e-3)


def test_generated_texts(lm):
    found, recorded = asked(lm, "generate_until")
    assert len(set(recorded)) > 10
    assert found == recorded
