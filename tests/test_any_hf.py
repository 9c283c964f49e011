"""The bridge to transformers (examples/any_hf.py), where its requirements are installed: make test-any-hf."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent

if find_spec("torchax") is None:
    pytest.skip(
        "needs torch and torchax, which 'make test-any-hf' installs in a separate environment",
        allow_module_level=True,
    )


def worker(*job):
    """What the worker prints as its last line."""
    result = subprocess.run(
        [sys.executable, TESTS / "any_hf_worker.py", json.dumps(job)],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["opt", "cohere2", "gpt_oss"])
def test_models_that_pretrained_does_not_load(kind):
    made = worker("other", kind)
    assert made["parts"] == ["hidden", "step", "reach"]
    found, own = (np.array(made[side]["loglikelihood"]) for side in ("results", "own"))
    assert np.std(own[:, 0]) > 1
    np.testing.assert_allclose(found[:, 0], own[:, 0], rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(found[:, 1], own[:, 1])
    assert made["results"]["generate_until"] == made["own"]["generate_until"]
