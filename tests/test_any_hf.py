"""The transformers bridge, examples/any_hf.py; runs if its requirements are installed (make test-any-hf)."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from parity import close, recorded

TESTS = Path(__file__).parent

if find_spec("torchax") is None:
    pytest.skip(
        "needs torch and torchax, which 'make test-any-hf' installs in a separate environment",
        allow_module_level=True,
    )

ALL_PARTS = ["hidden", "step", "reach"]


def worker(*job):
    """Runs the worker; returns the last line that it prints."""
    result = subprocess.run(
        [sys.executable, TESTS / "any_hf_worker.py", json.dumps(job)],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("opt", ALL_PARTS),
        ("cohere2", ALL_PARTS),
        ("gpt_oss", ALL_PARTS),
        ("bamba", ["hidden", "step"]),  # recurrent layers do not support trees
    ],
)
def test_models_that_pretrained_cannot_load(kind, parts):
    made = worker("other", kind)
    assert made["parts"] == parts
    found, own = (np.array(made[side]["loglikelihood"]) for side in ("results", "own"))
    assert np.std(own[:, 0]) > 1
    np.testing.assert_allclose(found[:, 0], own[:, 0], rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(found[:, 1], own[:, 1])
    assert made["results"]["generate_until"] == made["own"]["generate_until"]


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral", "mamba2"])
def test_recorded_results(evals, name):
    """Models that ``pretrained=`` loads as well, compared with recorded results of lm_eval's own backend."""
    cases = {
        kind: recorded(evals, name, kind)[:count]
        for kind, count in (("loglikelihood", 60), ("loglikelihood_rolling", 1))
    }
    requests = {kind: [args for args, _ in of_kind] for kind, of_kind in cases.items()}
    results = worker("known", str(evals / "parity" / f"tiny-{name}"), requests)["results"]
    for (args, expected), found in zip(cases["loglikelihood"], results["loglikelihood"], strict=True):
        assert close(found[0], expected[0]), args
        assert found[1] == expected[1], args
    for (args, expected), found in zip(
        cases["loglikelihood_rolling"], results["loglikelihood_rolling"], strict=True
    ):
        assert close(found, expected), args


def test_unsupported_features_are_refused_or_left_out():
    made = worker("wrong")
    kept, gaps = made["right"]
    assert kept == ["hidden", "head", "init_state", "step", "reach"]
    assert set(gaps) == {"apply", "packed", "trees", "head", "step"}
    assert max(gaps.values()) < 1e-4
    assert made["apply"].startswith("OPTForCausalLM differs from PyTorch when run through torchax: 0.")
    assert made["apply fails"].endswith("RuntimeError: an operator that is missing")
    assert made["head"][0] == ["reach"]
    assert made["step"][0] == ["hidden", "head", "reach"]
    assert made["trees"][0] == ["hidden", "head", "init_state", "step"]
    assert made["trees"][1]["trees"] > 0.01
