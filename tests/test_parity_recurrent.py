"""Recorded results of the reference backend for the other recurrent families."""

import pytest
from lm_eval.api.instance import Instance

from parity import (
    assert_recorded_results,
    assert_recorded_texts,
    case_names,
    data_and_tensor,
    eight_devices,
    one_device,
    recorded,
)
from windrow import JaxLM

pytestmark = [pytest.mark.usefixtures("optimized"), pytest.mark.exhaustive]

CASES = [
    ("mamba2", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("mamba2", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("mamba2", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("mamba2", one_device, "hidden", {"batch_size": 32, "pack": True}),
    ("mamba2", one_device, "step", {"batch_size": 32, "share": "forks"}),
    ("xlstm", data_and_tensor, "step", {"batch_size": 64, "share": "forks"}),
    ("xlstm", data_and_tensor, "step", {"batch_size": 64, "chunk_length": 64}),
    ("xlstm", eight_devices, "step", {"batch_size": 64, "chunk_length": 7}),
    ("xlstm", one_device, "step", {"batch_size": 64, "chunk_length": 1}),
    ("xlstm", one_device, "hidden", {"batch_size": 32, "pack": True}),
]


@pytest.mark.parametrize(("name", "mesh", "level", "options"), CASES, ids=case_names(CASES))
def test_recorded_results(evals, name, mesh, level, options):
    assert_recorded_results(evals, name, mesh, level, options)


@pytest.mark.parametrize("name", ["mamba2", "xlstm"])
def test_recorded_texts(evals, name):
    assert_recorded_texts(evals, name)


UNBOUNDED = {"mamba2": -51992.5195, "xlstm": -49859.2305}
"""HFLM's log-likelihoods of the longest document, 10,718 tokens, with ``max_length=100000``."""


@pytest.mark.parametrize("chunk_length", [1, 7, 64])
@pytest.mark.parametrize("name", UNBOUNDED)
def test_documents_beyond_any_limit(evals, name, chunk_length):
    """The document is one window, read in chunks; the stated limit of 2,048 tokens would split it."""
    directory = str(evals / "parity" / f"tiny-{name}")
    texts = [args[0] for args, _ in recorded(evals, name, "loglikelihood_rolling")]
    request = Instance("loglikelihood_rolling", {}, (max(texts, key=len),), 0)
    lm = JaxLM(pretrained=directory, max_length="unbounded", chunk_length=chunk_length, batch_size=8)
    (found,) = lm.loglikelihood_rolling([request])
    assert lm.report()["real_tokens"] == 10_718
    assert abs(found - UNBOUNDED[name]) <= 2e-3 + 1e-5 * abs(found)
